"""The loop that brings every connected node to its plan, and tells who is there already."""
