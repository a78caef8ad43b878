"""The command line: one small module for each noun, with the conventions of ``cf``."""
