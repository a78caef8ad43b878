"""``events``: what happens, while it happens.

The rule of this module: a line is printed when the event is told, and each line is whole, so that
another program can read along.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC

import click

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.globals import connection_options, target, target_options
from control_plane.cli.output import begin, named, output_option, tell, wants_json, warn
from control_plane.cli.tables import record


@command(
    "events",
    usage=["[APP] [--kind KIND]... [--count NUMBER] [--output json]"],
    examples=["", "app-b --kind issued --kind served", "--output json"],
    tip=[
        "It tells what happens from now on, until Ctrl-C; a change has the same revision from",
        "mapped to settled. With --output json each line is one object.",
    ],
    see_also=["certs", "status"],
)
@click.argument("app_name", metavar="APP", required=False)
@click.option("--kind", "kinds_", multiple=True, help="Only events of this kind, such as nacked")
@click.option("--count", type=kinds.USES, help="End after so many (Default: never)")
@target_options
@output_option
@connection_options
def events(app_name: str | None, *, kinds_: tuple[str, ...], count: int | None) -> None:
    """Show what happens."""
    where = target()
    begin(f"Watching app {named(app_name)} in {where}" if app_name else "Watching")
    request = inspection_pb2.WatchEventsRequest(
        app=app_name or "", space=where.space, org=where.org, kinds=kinds_
    )
    with connect() as client:
        stub = inspection_pb2_grpc.InspectionServiceStub(client.channel)
        for number, event in enumerate(client.stream(stub.WatchEvents, request), 1):
            _print(event)
            if number == count:
                break


def _print(event: inspection_pb2.Event) -> None:
    if event.lost:
        warn(f"{event.lost} events were lost: this was read more slowly than things happened")
    if wants_json():
        numbers = {"revision": event.revision, "lost": event.lost}
        click.echo(json.dumps({**record(event), **numbers}))
    else:
        at = event.at.ToDatetime(tzinfo=UTC).strftime("%H:%M:%S.%f")[:-3]
        revision = f" (revision {event.revision})" if event.revision else ""
        tell(f"{at}   {event.kind:<12}   {event.sentence}{revision}")
    sys.stdout.flush()
