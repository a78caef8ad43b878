"""Proof that an ACKed certificate is also served.

``proof`` moves certificates on to served, by what ``sight`` sees of each instance: through the
reports of its sidecar (``attestation``), or else by a handshake of its own (``probe``).
"""
