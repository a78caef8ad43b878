"""The command line: one small module for each noun, with the habits of ``cf``."""
