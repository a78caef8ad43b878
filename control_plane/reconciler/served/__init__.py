"""Proof that what was ACKed is served.

``proof`` moves certificates on to served, by what ``sight`` sees of each instance: the reports of
its sidecar (``attestation``), or else a handshake (``probe``).
"""
