"""Who may connect: operators, instances, and how many of them at once."""
