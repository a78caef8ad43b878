"""How far a CA rotation is: shown, and waited for.

The rule of this module: it looks at what ``ca list`` shows. The instances that hold up the rotation
are named, with the reason, even when the time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import click

from control_plane.api.v1 import certificate_authority_pb2 as messages
from control_plane.api.v1 import certificate_authority_pb2_grpc
from control_plane.cli.client import Client
from control_plane.cli.errors import Failed
from control_plane.cli.globals import DEFAULTS, pasted
from control_plane.cli.instance_name import name_of
from control_plane.cli.output import ok, some_of, tell, waiting, wants_json
from control_plane.cli.patience import Patience
from control_plane.cli.tables import place_of, print_records, print_table, record
from control_plane.settings.values import format_duration

Authorities = Sequence[messages.CertificateAuthority]

_PAUSE_SECONDS = 0.25
_NEXT_STEPS = {"prepared": "activate", "retiring": "retire"}
_UNCROSSED = "Programs that read trust once will fail with it"
_UNCROSSED_BACK = "Programs that trust the new CA only fail once its activation is taken back"


def stub(client: Client) -> certificate_authority_pb2_grpc.CertificateAuthorityServiceStub:
    """Return the stub of the service."""
    return certificate_authority_pb2_grpc.CertificateAuthorityServiceStub(client.channel)


def listed(client: Client) -> Authorities:
    """Return the present CAs."""
    request = messages.ListCertificateAuthoritiesRequest()
    return client.call(stub(client).ListCertificateAuthorities, request).authorities


def finish(found: Authorities, advice: str) -> None:
    """Show the state after a step, and the next step."""
    if not wants_json():
        ok()
    show_authorities(found)
    if advice:
        tell("")
        tell(f"TIP: {advice}")


def show_authorities(found: Authorities) -> None:
    """Print the CAs, and below them what the next step waits for."""
    if wants_json():
        print_records([record(each) for each in found])
        return
    print_table(
        {
            "role": [each.role for each in found],
            "subject": [each.subject for each in found],
            "expires": [_day(each) for each in found],
            "live certificates": [each.live_certificates for each in found],
            "fingerprint": [each.fingerprint for each in found],
        },
        empty="",
        cut=["subject"],
        below="fingerprint",
    )
    for each in found:
        if each.role in _NEXT_STEPS or each.not_cross_signed or each.not_pinned or each.not_strict:
            click.echo()
        if each.role in _NEXT_STEPS:
            step = pasted(f"c2c ca {_NEXT_STEPS[each.role]}")
            ready = f"everybody is ready for '{step}'"
            tell(f"The {each.role} CA: {each.waits_for or ready}")
            for late in each.waiting:
                tell(f"   {_named(late)}: {late.reason}")
        if each.not_cross_signed:
            what = _UNCROSSED if each.role == "prepared" else _UNCROSSED_BACK
            tell(f"{what}: {each.not_cross_signed}")
        if each.not_pinned:
            what = f"enrol while the {each.role} CA signs need its fingerprint"
            tell(f"Sidecars that {what}, not the old CA's: {each.not_pinned}")
        if each.not_strict:
            what = f"refuse what the {each.role} CA signs"
            tell(f"Strict clients, such as Python 3.13, {what}: {each.not_strict}")


def until_ready(
    client: Client, timeout: timedelta, done: str = "", *, force: bool = False
) -> Authorities:
    """Return once every instance is ready, or with ``force`` when the time is up.

    Raises:
        Failed: the time is up; the sentence names what is ``done`` already, then the instances that
            are not ready.
    """
    found = _until(client, timeout, lambda found: not _late(found), done)
    late = _late(found)
    if late is not None and not force:
        reasons = some_of([f"{_named(each)} ({each.reason})" for each in late.waiting])
        raise Failed(
            f"{done}not everybody is ready after {format_duration(timeout)}: {reasons} "
            f"(see '{pasted('c2c ca list')}')"
        )
    return found


def until_unused(client: Client, timeout: timedelta) -> None:
    """Return once nothing that the prepared CA signed is in use, or the time is up."""
    _until(
        client,
        timeout,
        lambda found: not any(each.live_certificates for each in found if each.role == "prepared"),
    )


def _until(
    client: Client, timeout: timedelta, is_enough: Callable[[Authorities], bool], done: str = ""
) -> Authorities:
    """Return the CAs once they satisfy the condition, or when the time is up.

    Raises:
        Failed: the server did not answer by then; the sentence begins with what is ``done``
            already.
    """
    until = time.monotonic() + timeout.total_seconds()
    client = client.waiting(timeout)
    patience = Patience()
    with waiting("until everybody is ready") as show:
        while True:
            found = patience.look(lambda: listed(client))
            left = until - time.monotonic()
            if found is not None and (is_enough(found) or left <= 0):
                return found
            if left <= 0:
                raise Failed(f"{done}{patience.away}")
            show(_awaited(found))
            time.sleep(min(_PAUSE_SECONDS, left))


def _awaited(found: Authorities | None) -> str:
    """Return the sentence that says what the command waits for."""
    if found is None:
        return "until the server answers"
    late = _late(found)
    return f"until everybody is ready: {late.waits_for}" if late else "until nothing is used"


def _late(found: Authorities) -> messages.CertificateAuthority | None:
    return next((each for each in found if each.waiting), None)


def _named(late: messages.WaitingInstance) -> str:
    """Return the name of an instance among those of every space, as the server writes it."""
    is_plain = (late.org, late.space) in (DEFAULTS, ("", ""))  # an older server leaves both empty
    return name_of(late) if is_plain else f"{name_of(late)} {place_of(late)}"


def _day(authority: messages.CertificateAuthority) -> str:
    moment: datetime = authority.not_after.ToDatetime(tzinfo=UTC)
    return f"{moment:%Y-%m-%d}"
