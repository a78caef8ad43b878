"""How often an applicant may fail to enrol.

The rule of this module: what a stranger can make the server do is bounded, and that bound costs
nothing to applicants with a good token. A refusal counts only if it is the applicant's fault. It
counts against the applicant's token if that is known; otherwise against the address that the
attempt comes from, and against all strangers together. So a good token enrols as soon as the server
can, however many other attempts fail. An applicant whose address is held by another instance is
told to try again; as that is not its fault, only its lines in the log are bounded. An applicant
that leaves before it is answered made the server work for nothing, so this counts like a refusal.
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
from control_plane.server.limits import ServerLimits
from control_plane.server.rates import TokenBucket, TokenBuckets
from control_plane.server.status import code_of

STRANGERS = 10
"""The bound that all strangers share, as a multiple of the bound of one address."""

_SITE_PREFIX = 64
"""A host that has one IPv6 address has its whole subnet (RFC 4291, section 2.5.4)."""


class Applicants:
    """Counts refused enrolments, in all and by applicant.

    Attributes:
        refused: how many enrolments were refused, by the status that answered them.
    """

    def __init__(self, limits: ServerLimits, refusals: RefusalTally, clock: Clock) -> None:
        """Start with no refusals; those that are too many for a line each go to the tally."""
        most = limits.refused_enrollments_per_minute
        self._by_token = TokenBuckets.per_minute(most, clock)
        self._by_address = TokenBuckets.per_minute(most, clock)
        self._strangers = TokenBucket.per_minute(STRANGERS * most, clock)
        self._refusals = refusals
        self.refused: Counter[grpc.StatusCode] = Counter()

    def let_in(self, token: str) -> None:
        """Let in an applicant with a good token, before anything else of the attempt is looked at.

        Args:
            token: the hash of the token.

        Raises:
            LimitExceeded: attempts with this token failed too often.
        """
        if self._by_token.is_empty(token):
            raise _too_often()

    def refuse(self, error: ControlPlaneError, source: Address, token: str) -> ControlPlaneError:
        """Count a refusal, and return what the applicant is told.

        Args:
            error: why the attempt is refused.
            source: the address that the attempt comes from.
            token: the hash of its token, or "" if that is not known or has expired.

        Returns:
            the same error, which is worth a line in the log; or another error, if there were so
                many refusals that this one is only reported together with others.
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
            source: the address that the attempt came from, which a line for many refusals names.
            token: the hash of its token, or "" if that is not known or has expired.
        """
        if not isinstance(error, AlreadyExists):
            return True
        return self._refusals.has_line(log_events.AUDIT_ENROLLMENTS_LIMITED, token, source)

    def left(self, source: Address, token: str) -> bool:
        """Count an applicant that left before the answer; tell whether it may have a log line.

        Args:
            source: the address that the attempt came from.
            token: the hash of its token, which is good.
        """
        if self._by_token.take(token):
            return True
        self._refusals.count(log_events.AUDIT_ENROLLMENTS_LIMITED, source)
        return False

    def _take(self, source: Address, token: str) -> bool:
        """Take from the applicant's own bucket first, so that no one empties the shared one."""
        if token:
            return self._by_token.take(token)
        return self._by_address.take(_site(source)) and self._strangers.take()


def _is_fault(error: ControlPlaneError) -> bool:
    return isinstance(error, InvalidRequest) and not isinstance(error, AlreadyExists)


def _too_often() -> LimitExceeded:
    return LimitExceeded("too many enrolments were refused lately: come again in a minute")


def _site(source: Address) -> str:
    """Return the network that one stranger may have; all of its addresses count as one."""
    if ":" not in source:
        return source
    return str(ipaddress.ip_network((source, _SITE_PREFIX), strict=False))
