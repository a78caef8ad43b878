"""Commands on operators' certificates: note one that is issued, revoke, drop ended ones, list.

The rule of this module: whoever held a certificate could have others issued, in any name. So a
certificate that is revoked takes with it all that were asked for with it, and those that were asked
for with these. A revocation is never forgotten: if it were once the certificate has ended, a clock
that is far ahead for a moment would make the certificate good again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from control_plane.errors import Unauthenticated
from control_plane.model.change import Decision, decide
from control_plane.model.entities import OperatorCertificate
from control_plane.model.state import State

REVOKED = "client certificate was revoked: connect with another one"


def is_revoked(state: State, serial: int) -> bool:
    """Tell whether the certificate with this serial number is worthless before its end."""
    known = state.operator_certificates.get(serial)
    return known is not None and known.revoked_at is not None


def note_issued(state: State, issued: OperatorCertificate) -> Decision[OperatorCertificate]:
    """Note a certificate, before anybody is given it.

    Raises:
        Unauthenticated: the certificate with which it was asked for has been revoked meanwhile.
    """
    if issued.issued_by is not None and is_revoked(state, issued.issued_by):
        raise Unauthenticated(REVOKED)
    return decide(state, issued, puts=[issued])


def revoke_of(state: State, name: str, now: datetime) -> Decision[tuple[OperatorCertificate, ...]]:
    """Revoke each certificate of a holder; the result is what was revoked by that, by holder."""
    certificates = state.operator_certificates.values()
    return _revoke(state, [each for each in certificates if each.name == name], now)


def revoke_serial(
    state: State, serial: int, now: datetime, unknown_ends_at: datetime
) -> Decision[tuple[OperatorCertificate, ...]]:
    """Revoke one certificate; the result is what was revoked by that, by holder.

    Args:
        unknown_ends_at: until when a certificate that was not issued here may be good.
    """
    unknown = OperatorCertificate(serial, "", unknown_ends_at)
    return _revoke(state, [state.operator_certificates.get(serial, unknown)], now)


def drop_ended_certificates(state: State, now: datetime) -> Decision[int]:
    """Forget the certificates that have ended and were not revoked; the result is their number.

    One stays for as long as another was asked for with it, even indirectly, that has not ended:
    otherwise nobody could tell by whom.
    """
    certificates, needed = state.operator_certificates, set[int]()
    for each in known_certificates(state, now):
        serial: int | None = each.serial
        while serial is not None and serial in certificates and serial not in needed:
            needed.add(serial)
            serial = certificates[serial].issued_by
    ended = [
        each
        for each in certificates.values()
        if each.serial not in needed and each.revoked_at is None
    ]
    return decide(state, len(ended), drops=ended)


def known_certificates(state: State, now: datetime) -> tuple[OperatorCertificate, ...]:
    """Return the certificates that have not ended, by holder; each holder's first to end first."""
    there = (each for each in state.operator_certificates.values() if each.ends_at > now)
    return tuple(sorted(there, key=_by_holder))


def _by_holder(certificate: OperatorCertificate) -> tuple[str, datetime, int]:
    return certificate.name, certificate.ends_at, certificate.serial


def _revoke(
    state: State, chosen: Sequence[OperatorCertificate], now: datetime
) -> Decision[tuple[OperatorCertificate, ...]]:
    """Revoke certificates, and all that were asked for with these."""
    asked_for: dict[int | None, list[OperatorCertificate]] = {}
    for each in state.operator_certificates.values():
        asked_for.setdefault(each.issued_by, []).append(each)
    found: dict[int, OperatorCertificate] = {}
    left = deque(chosen)
    while left:
        each = left.popleft()
        if each.serial not in found:
            found[each.serial] = each
            left.extend(asked_for.get(each.serial, ()))
    valid = [each for each in found.values() if each.revoked_at is None and each.ends_at > now]
    revoked = tuple(replace(each, revoked_at=now) for each in sorted(valid, key=_by_holder))
    return decide(state, revoked, puts=revoked)
