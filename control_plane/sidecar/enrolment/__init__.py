"""How the instance comes to its identity, and keeps it."""
