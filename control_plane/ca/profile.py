"""The numbers that every certificate keeps to, and when to renew it.

The rule of this module: every profile is within the hard limits, each of which is documented with
its reason. What follows from other values is no setting: the back-dating and the time of renewal
follow from the lifetime.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from control_plane.errors import ConfigurationError, IssuanceError

MIN_LIFETIME = timedelta(seconds=4)
"""Certificates count whole seconds, so a shorter life could be half over when it starts."""

MAX_LIFETIME = timedelta(days=90)
"""There are no revocation lists, so a stolen key is good until its certificate ends."""

MAX_BACKDATE = timedelta(minutes=5)
"""Cloud Foundry does not back-date, and a client whose clock is behind says "not yet valid". Five
minutes is the clock skew that Kerberos allows by default (RFC 4120, section 8.2)."""

MIN_CHAIN_BYTES = 4_000
"""A leaf without routes and its RSA-4096 CA take 2,500."""

MAX_CHAIN_BYTES = 65_000
"""Go refuses handshake messages of more than 65,536 bytes; OpenSSL, of more than 102,400."""

MAX_SERIAL_BITS = 159
"""RFC 5280, section 4.1.2.2: positive, and at most 20 octets with the sign bit. A UUIDv4, which
Cloud Foundry uses too, has 16 bytes and 122 random bits, more than the 64 that the CA/Browser Forum
asks for."""

RENEW_FRACTION = 0.5
"""Half of the life, as in SPIRE: if a renewal fails, there is as much time again to retry."""

RENEW_JITTER = 0.1
"""The renewal moves by up to a tenth of half a life to either side. In a life of 24 h this spreads
it over 2 h 24 min, so 5,000 instances that started together renew one every 1.7 s."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The limits of a certificate.

    Attributes:
        lifetime: from the moment of issue to the end; shorter only if the CA ends earlier.
        max_chain_bytes: bound on the certificate list of a handshake. Java refuses a handshake
            message of 32,768 bytes (``jdk.tls.maxHandshakeMessageSize``), and the list is not all
            of the message.

    Raises:
        ConfigurationError: a number is outside its hard limits.
    """

    lifetime: timedelta = timedelta(hours=24)
    max_chain_bytes: int = 32_000

    def __post_init__(self) -> None:
        """Check every number, and report all that are wrong."""
        problems = []
        if not MIN_LIFETIME <= self.lifetime <= MAX_LIFETIME:
            problems.append(
                f"certificate lifetime must be {MIN_LIFETIME.seconds} seconds to "
                f"{MAX_LIFETIME.days} days, not {self.lifetime}"
            )
        if not MIN_CHAIN_BYTES <= self.max_chain_bytes <= MAX_CHAIN_BYTES:
            problems.append(
                f"certificate chain bound must be {MIN_CHAIN_BYTES} to {MAX_CHAIN_BYTES} bytes, "
                f"not {self.max_chain_bytes}"
            )
        if problems:
            raise ConfigurationError(problems)

    def window(
        self, now: datetime, ca_not_before: datetime, ca_not_after: datetime
    ) -> tuple[datetime, datetime]:
        """Return notBefore and notAfter of a certificate issued now, in whole seconds.

        The certificate is never valid when its CA is not (RFC 5280, section 6.1, would refuse the
        path then). It is back-dated by at most a tenth of its life, so that half of even a short
        life is still to come.

        Raises:
            IssuanceError: the CA is not valid yet, or has less left than ``MIN_LIFETIME``.
        """
        not_after = min(now + self.lifetime, ca_not_after)
        if now < ca_not_before:
            raise IssuanceError(
                f"the CA is not valid before {ca_not_before:%Y-%m-%dT%H:%M:%SZ}, so the clock of "
                "the control plane is behind: set it"
            )
        if not_after - now < MIN_LIFETIME:
            raise IssuanceError(
                f"the CA is not valid after {ca_not_after:%Y-%m-%dT%H:%M:%SZ}: rotate it"
            )
        not_before = max(now - min(MAX_BACKDATE, (not_after - now) / 10), ca_not_before)
        return not_before.replace(microsecond=0), not_after.replace(microsecond=0)


def check_serial(serial: int) -> None:
    """Refuse a serial number that a certificate cannot have.

    Raises:
        IssuanceError: the number is not positive, or too long.
    """
    if serial <= 0 or serial.bit_length() > MAX_SERIAL_BITS:
        raise IssuanceError(
            f"serial must be positive and have at most {MAX_SERIAL_BITS} bits: {serial:#x}"
        )


def renew_at(not_before: datetime, not_after: datetime, seed: str) -> datetime:
    """Return when to renew: at half life, moved by a jitter that depends on the seed only.

    The seed is the GUID of an instance. The same arguments give the same moment on every replica
    and after every restart.
    """
    jitter = RENEW_JITTER * (2 * draw(seed) - 1)
    return not_before + (not_after - not_before) * (RENEW_FRACTION * (1 + jitter))


def draw(seed: str) -> float:
    """Return a number in [0, 1) that looks random, but follows from the seed alone."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64
