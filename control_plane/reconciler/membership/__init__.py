"""Who is there, who is away, and who has left for good."""
