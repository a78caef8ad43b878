"""Proof that what was ACKed is served."""
