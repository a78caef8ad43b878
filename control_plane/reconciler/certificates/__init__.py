"""Certificates of instances: which ones are due, who issues them, and how far each one got.

- ``due`` says which certificates an instance should have. ``custody`` issues them and keeps each
  secret as a ``held`` value. ``foresight`` has some issued before the disk confirms a change.
  ``issuers`` has some issued by a second process (``issuer_process``; ``dumps`` keeps private keys
  out of core dumps). ``renewals`` knows when to look at which instance again, and ``renewing`` does
  so.
- ``ledger`` knows how far each certificate got: issued, ACKed or served. From it follow
  ``holdings`` (which certificates may be in use), ``acked_names`` (which names an instance surely
  has) and ``expiry`` (which certificates end soon).
- ``records`` and ``recorded`` write down what has to outlive a restart.
"""
