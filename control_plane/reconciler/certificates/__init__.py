"""Certificates of instances: which are due, who issues them, and where each is."""
