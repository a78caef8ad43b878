"""Certificates of instances: which are due, who issues them, and where each is.

- ``due`` says what an instance should have; ``custody`` issues it, and keeps each secret as
  ``held``. ``foresight`` has some issued before the disk confirms a change, ``issuers`` by a second
  process (``issuer_process``; ``dumps`` keeps keys out of files). ``renewals`` knows when to look
  at whom again, and ``renewing`` does so.
- ``ledger`` knows where each certificate is. From it follow ``holdings`` (which may be in use),
  ``acked_names`` (which names are sure) and ``expiry`` (which end soon).
- ``records`` and ``recorded`` write down what has to outlive a restart.
"""
