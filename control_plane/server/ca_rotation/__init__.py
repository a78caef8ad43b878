"""One CA takes the place of another, step by step."""
