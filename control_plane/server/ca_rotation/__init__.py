"""Replacing one CA by another, step by step."""
