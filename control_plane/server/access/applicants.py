"""How often somebody may try to enrol in vain.

The rule of this module: what a stranger can make the server do is bounded, and does not cost those
with a good token anything. A refusal counts only if it is the applicant's fault: against its token
if that is known, else against the address that it comes from and against all strangers together. So
a good token enrols as soon as the server can, however many others fail. Whoever finds its address
held is told to try again, so that is not its fault; only its lines in the log are bounded. Who
leaves before it is answered made the server work for nothing, which counts like a refusal.
"""

from __future__ import annotations

import ipaddress
from collections import Counter

import grpc

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.errors import (
    AlreadyExists,
    ControlPlaneError,
    InvalidRequest,
    LimitExceeded,
)
from control_plane.names import Address
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.limits import ServerLimits, TokenBucket, TokenBuckets
from control_plane.server.status import code_of

STRANGERS = 10
"""How many addresses may be refused as often as one may be; they share what is beyond."""

_SITE_PREFIX = 64
"""Whoever has one address of IPv6 has all of its subnet (RFC 4291, section 2.5.4)."""


class Applicants:
    """Counts refused enrolments, in all and by who tried.

    Attributes:
        refused: how many there were, by the status that they were answered with.
    """

    def __init__(self, limits: ServerLimits, refusals: RefusalTally, clock: Clock) -> None:
        """Start with nobody refused; tell of those that are too many together."""
        most = limits.refused_enrollments_per_minute
        self._by_token = TokenBuckets.per_minute(most, clock)
        self._by_address = TokenBuckets.per_minute(most, clock)
        self._strangers = TokenBucket.per_minute(STRANGERS * most, clock)
        self._refusals = refusals
        self.refused: Counter[grpc.StatusCode] = Counter()

    def let_in(self, token: str) -> None:
        """Let in somebody with a good token, before anything else of the attempt is looked at.

        Args:
            token: its hash.

        Raises:
            LimitExceeded: attempts with this token failed too often.
        """
        if self._by_token.is_empty(token):
            raise _too_often()

    def refuse(self, error: ControlPlaneError, source: Address, token: str) -> ControlPlaneError:
        """Count a refusal, and return what the caller is told.

        Args:
            error: why it is refused.
            source: where the attempt comes from.
            token: the hash of its token, or "" if that is not known or has expired.

        Returns:
            the same error, which is worth a line in the log; or another if there were so many that
            this one is told of with others.
        """
        if _is_fault(error) and not self._take(source, token):
            self._refusals.count(log_events.AUDIT_ENROLLMENTS_LIMITED, source)
            error = _too_often()
        self.refused[code_of(error)] += 1
        return error

    def has_line(self, error: ControlPlaneError, source: Address, token: str) -> bool:
        """Tell whether a refusal that ``refuse`` returned may have a line of its own in the log.

        Args:
            error: why it was refused.
            source: where the attempt came from, which a line for many names.
            token: the hash of its token, or "" if that is not known or has expired.
        """
        if not isinstance(error, AlreadyExists):
            return True
        return self._refusals.has_line(log_events.AUDIT_ENROLLMENTS_LIMITED, token, source)

    def left(self, source: Address, token: str) -> bool:
        """Count somebody who left before the answer; tell whether that may have a line of its own.

        Args:
            source: where the attempt came from.
            token: the hash of its token, which is good.
        """
        if self._by_token.take(token):
            return True
        self._refusals.count(log_events.AUDIT_ENROLLMENTS_LIMITED, source)
        return False

    def _take(self, source: Address, token: str) -> bool:
        """Take from a bucket of its own first, so that nobody alone empties the common one."""
        if token:
            return self._by_token.take(token)
        return self._by_address.take(_site(source)) and self._strangers.take()


def _is_fault(error: ControlPlaneError) -> bool:
    return isinstance(error, InvalidRequest) and not isinstance(error, AlreadyExists)


def _too_often() -> LimitExceeded:
    return LimitExceeded("too many enrolments were refused lately: come again in a minute")


def _site(source: Address) -> str:
    """Return the network that one stranger may have: all of its addresses count as one."""
    if ":" not in source:
        return source
    return str(ipaddress.ip_network((source, _SITE_PREFIX), strict=False))
