"""``certs``: which certificate each instance has, and how far it is."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.cli.about_app import about_app, asked_for
from control_plane.cli.client import Client, connect
from control_plane.cli.command import command
from control_plane.cli.globals import all_option, connection_options, target, target_options
from control_plane.cli.inspect_moments import ago, ahead
from control_plane.cli.inspect_status import CERTIFICATE_WORDS
from control_plane.cli.instance_name import asked_instance, name_of, noun_of
from control_plane.cli.name_completion import complete_app_or_instance
from control_plane.cli.output import begin, output_option, tell, wants_json
from control_plane.cli.tables import (
    place_of,
    print_records,
    print_table,
    record,
    spaces_of,
)

_MAX_NAMES = 3
"""How many names a line has; one of them is the instance's GUID."""


@command(
    "certs",
    usage=["[APP | APP/INDEX | --all] [-s SPACE] [-o ORG] [--output json]"],
    examples=["", "app-b", "app-b/0", "--all --output json"],
    tip=[
        "A certificate is issued, then acked by the instance, and then served, once a TLS",
        "handshake with the instance has shown it. NOT SERVED means that it is acked, but a",
        "handshake a while later still did not show it. Nobody checks id-cert-and-key, so it",
        "stays acked.",
    ],
    see_also=["routes", "status", "trust-bundle"],
)
@about_app(complete=complete_app_or_instance)
@target_options
@all_option
@output_option
@connection_options
def certs(app_name: str | None) -> None:
    """List the certificates of instances."""
    where = target()
    begin(where.listing("Getting", "certificates", app_name, noun=noun_of(app_name)))
    with connect() as client:
        found = _found(client, app_name)
    if wants_json():
        print_records([record(each) for each in found])
        return
    now = datetime.now(UTC)
    print_table(
        {
            "instance": [name_of(each) for each in found],
            "secret": [each.secret for each in found],
            "serial": [each.serial for each in found],
            "state": [
                f"{CERTIFICATE_WORDS[each.state]} ({ago(each.since, now)})" for each in found
            ],
            "expires": [ahead(each.not_after, now) for each in found],
            "renewed": [ahead(each.renew_at, now) for each in found],
            **(spaces_of(found) if where.is_all else {}),
            "names": [_names(each) for each in found],
        },
        empty="No certificates found.",
        cut=["serial"],
        below="names",
    )
    late = [each for each in found if each.reason]
    if late:
        click.echo()
    for each in late:
        place = f" {place_of(each)}" if where.is_all else ""
        tell(f"{name_of(each)}{place} {each.secret}: {each.reason}")


def _found(client: Client, app_name: str | None) -> list[inspection_pb2.Certificate]:
    """Return the certificates of a space, of an app, or of one instance."""
    where = target()
    request = inspection_pb2.ListCertificatesRequest(
        app=app_name or "", space=where.space, org=where.org, in_space=not where.is_all
    )
    only = asked_instance(client, app_name)
    if only is not None:
        request.app = only.app_guid
    stub = inspection_pb2_grpc.InspectionServiceStub(client.channel)
    found = asked_for(client.call(stub.ListCertificates, request).certificates, app_name)
    return [each for each in found if only is None or each.instance_guid == only.guid]


def _names(certificate: inspection_pb2.Certificate) -> str:
    names = [name for name in certificate.names if name != certificate.instance_guid]
    shown = names[:_MAX_NAMES]
    hidden = len(names) - len(shown)
    return ", ".join([*shown, f"{hidden} more"] if hidden else shown)
