"""The load reporting service (LRS)."""
