"""``why``: what one app needs to reach another, and which part of that is missing.

The rule of this module: the answer names the first thing that is missing, with the command that
helps, and the exit code says whether anything is missing.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.errors import capitalised
from control_plane.cli.globals import Target, connection_options, pasted, target, target_options
from control_plane.cli.name_completion import complete_app_or_instance
from control_plane.cli.output import (
    begin,
    named,
    output_option,
    printable,
    tell,
    terminal_width,
    wants_json,
    warn,
)
from control_plane.cli.tables import print_records, record, wrapped
from control_plane.names import C2C_PORT
from control_plane.settings import SocketAddress

_WORDS = {
    inspection_pb2.LINK_STATE_UNKNOWN: "unknown",
    inspection_pb2.LINK_STATE_HOLDS: "ok",
    inspection_pb2.LINK_STATE_WAITS: "waits",
    inspection_pb2.LINK_STATE_MISSING: "MISSING",
}
_INDENT = " " * 12
"""The indent of a sentence below its link, at the column of the link's name."""

_LEAST = 30
"""Columns in which a sentence can still be read."""

_PORTS = {"https": 443, "http": 80}
"""The ports that clients use for a URL without a port."""

_STYLES = {"MISSING": "red", "ok": "green"}


@command(
    "why",
    usage=["[SOURCE_APP] (DESTINATION_APP | INSTANCE | ROUTE) [-s SPACE] [-o ORG] [--output json]"],
    examples=["app-a app-b", "app-a https://app-b.apps.internal:61443", "app-a app-b/0"],
    tip=[
        "INSTANCE is app-b/0, 0.app-b.apps.internal or its address. ROUTE is a name such as",
        "app-b.apps.internal, or a URL, of which only the host counts: the answer is always about",
        "port 61443. The exit code is 0 if nothing is missing, and 1 if something is missing or",
        "still under way.",
    ],
    see_also=["add-network-policy", "map-route", "status", "wait"],
)
@click.argument(
    "ends",
    metavar="[SOURCE_APP] (DESTINATION_APP | INSTANCE | ROUTE)",
    nargs=-1,
    shell_complete=complete_app_or_instance,
)
@target_options
@output_option
@connection_options
def why(ends: tuple[str, ...]) -> None:
    """Say why an app reaches another, or what is missing."""
    if not 1 <= len(ends) <= 2 or not all(ends):
        raise click.UsageError("give one destination, or a source and a destination")
    source, destination = ends if len(ends) == 2 else ("", ends[0])
    where = target()
    who = f"app {named(source)} reaches" if source else "anybody reaches"
    begin(f"Looking how {who} {named(destination)} in {where}")
    request = inspection_pb2.ExplainRequest(
        source=source,
        source_space=where.space,
        source_org=where.org,
        destination=destination,
        destination_space=where.space,
        destination_org=where.org,
    )
    with connect() as client:
        stub = inspection_pb2_grpc.InspectionServiceStub(client.channel)
        chains = client.call(stub.Explain, request).chains
    if wants_json():
        print_records([record(each) for each in chains])
    else:
        for each in chains:
            _print(each, is_one_of_several=len(chains) > 1)
        if (port := _port(destination)) not in (None, C2C_PORT):
            tell(f"Note: port {port} was not looked at, only {C2C_PORT}, where HTTPS is")
    missing = [each.missing for each in chains if not each.complete]
    if missing:
        warn(capitalised(missing[0].sentence))
        raise click.exceptions.Exit(1)


def _print(chain: inspection_pb2.Chain, *, is_one_of_several: bool) -> None:
    name = SocketAddress(chain.route or chain.destination, C2C_PORT)
    tell("")
    who = _named(chain.source, chain.source_org, chain.source_space) or "anybody"
    whose = _named(chain.destination, chain.destination_org, chain.destination_space)
    of = f" of {whose}" if is_one_of_several or whose != chain.destination else ""
    tell(f"{who} to https://{name}{of}")
    tell("")
    for link in chain.links:
        word = _WORDS[link.state]
        shown = click.style(f"{word:<8}", fg=_STYLES.get(word), bold=word in _STYLES)
        click.echo(_beside(f"   {shown} {link.kind:<12} ", printable(link.sentence)))
    tell("")
    helps = chain.missing.command and pasted(chain.missing.command)
    if help_ := ": ".join(filter(None, (chain.missing.advice, helps))):
        tell(f"TIP: {help_}")
    elif chain.complete:
        if any(each.state == inspection_pb2.LINK_STATE_UNKNOWN for each in chain.links):
            tell(f"TIP: see what is known of its instances: {_status(chain)}")
        # If calls fail all the same, the cause is one of these.
        asks, room = printable(chain.source) or "the caller", terminal_width()
        unseen = (
            f"Not looked at: firewalls in between, which resolver {asks} asks, the app's answers"
        )
        click.echo(unseen if room is None else wrapped(unseen, room, ""))


def _status(chain: inspection_pb2.Chain) -> str:
    """Return the command that shows the instances of the destination."""
    here = target()
    # An older server names no space.
    there = Target(chain.destination_org or here.org, chain.destination_space or here.space)
    return there.command("status", chain.destination)


def _named(app: str, org: str, space: str) -> str:
    """Return an app's name as seen from the target space; an older server names no space."""
    is_here = not org or target().has(org, space)
    return app if is_here else f"{app} in org {org} / space {space}"


def _port(text: str) -> int | None:
    """Return the port of what may be a URL; None if it names none."""
    try:
        url = urlsplit(text if "://" in text else f"//{text}")
        return url.port or _PORTS.get(url.scheme)
    except ValueError:  # such as an IPv6 address
        return None


def _beside(start: str, sentence: str) -> str:
    """Return a line wrapped to the terminal, at the column of its sentence or below its start."""
    room, column = terminal_width(), len(click.unstyle(start))
    if room is None:
        return start + sentence
    if room - column < _LEAST:
        return f"{start.rstrip()}\n{wrapped(sentence, room, _INDENT)}"
    return start + wrapped(sentence, room, " " * column).lstrip()
