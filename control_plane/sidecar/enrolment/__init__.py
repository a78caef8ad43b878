"""How the instance gets its identity, and keeps it."""
