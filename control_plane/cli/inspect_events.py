"""``events``: what happens, while it happens.

The rule of this module: a line is printed as soon as its event arrives, and each line is whole, so
that another program can read along. If the server goes away, the command waits for it. The server
does not store past events, so a line says, in the place of any such events, that some may be
missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.about_app import about_app
from control_plane.cli.client import Client, connect
from control_plane.cli.command import command
from control_plane.cli.globals import (
    all_option,
    connection_options,
    pasted,
    target,
    target_options,
)
from control_plane.cli.instance_name import asked_instance, noun_of
from control_plane.cli.name_completion import complete_app_or_instance
from control_plane.cli.output import begin, output_option, tell, wants_json, warn
from control_plane.cli.patience import Patience
from control_plane.cli.reach import Away
from control_plane.cli.tables import place_of, record

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 1.0


@command(
    "events",
    usage=[
        (
            "[APP | APP/INDEX | --all] [-s SPACE] [-o ORG] [--kind KIND]... [--count NUMBER] "
            "[--output json]"
        ),
    ],
    examples=["", "app-b --kind issued --kind served", "app-b/0", "--all --output json"],
    tip=[
        "It prints what happens from now on, until Ctrl-C. All events of one change have the same",
        "revision, for example from mapped to settled. For one instance, it prints what is about",
        "that instance alone. With --output json each line is one object.",
        "If the server goes away, it waits for the server to come back, but what happens in the",
        "meantime is not printed. The kinds are created, updated, deleted, mapped, unmapped,",
        "allowed, forbidden, registered, moved, removed, ready, not_ready, gone, settled,",
        "connected, disconnected, sent, acked, nacked, denied, issued, renewed, served and",
        "not_served.",
    ],
    see_also=["certs", "status"],
)
@about_app(complete=complete_app_or_instance)
@click.option(
    "--kind", "kinds_", multiple=True, help="Only events of this kind; for several, repeat it"
)
@click.option("--count", type=kinds.NUMBER, help="End after so many events (Default: never)")
@target_options
@all_option
@output_option
@connection_options
def events(app_name: str | None, *, kinds_: tuple[str, ...], count: int | None) -> None:
    """Show what happens, while it happens."""
    where = target()
    begin(where.listing("Watching", "events", app_name, noun=noun_of(app_name)))
    request = inspection_pb2.WatchEventsRequest(
        app=app_name or "",
        space=where.space,
        org=where.org,
        in_space=not where.is_all,
        kinds=kinds_,
    )
    with connect() as client:
        only = asked_instance(client, app_name)
        if only is not None:
            request.app = only.app_guid
        told = _told(client, request, only.guid if only else None)
        for number, (event, has_gap) in enumerate(told, 1):
            _print(event, has_gap=has_gap, is_all=where.is_all)
            if number == count:
                break


def _told(
    client: Client, request: inspection_pb2.WatchEventsRequest, instance: str | None
) -> Iterator[tuple[inspection_pb2.Event, bool]]:
    """Yield each event, and whether events before it may be missing.

    Args:
        client: the connection.
        request: what is asked for.
        instance: the GUID of the only instance whose events are yielded; None for all events.

    Raises:
        Failed: the server refuses, or was never there.
    """
    stub = inspection_pb2_grpc.InspectionServiceStub(client.channel)
    watch = _Watch()
    lost = 0
    while True:
        try:
            for event in client.stream(stub.WatchEvents, request, watch.opened):
                lost += event.lost
                if instance not in (None, event.instance_guid):
                    continue
                event.lost, lost = lost, 0
                yield event, watch.has_gap
                watch.has_gap = False
        except Away as error:
            watch.broke(error)
        else:
            return
        time.sleep(watch.pause)
        watch.pause = min(2 * watch.pause, _LONGEST_PAUSE)


class _Watch:
    """The state of listening to a server.

    Attributes:
        has_gap: whether events may be missing since the last one.
        pause: how many seconds to wait before the server is asked again.
    """

    def __init__(self) -> None:
        """Start before the first answer of the server."""
        self.has_gap = False
        self.pause = _FIRST_PAUSE
        self._is_known = False
        self._patience = Patience()

    def opened(self) -> None:
        """Note that the server listens, and say so if it was away."""
        now = datetime.now(UTC)
        self._patience.meet(
            f"watching again since {now:%H:%M:%S}Z: what happened after the last event is not "
            f"known ('{pasted('c2c status')}' shows how everything is now)"
        )
        self._is_known, self.pause = True, _FIRST_PAUSE

    def broke(self, error: Away) -> None:
        """Note that the server is away.

        Raises:
            Away: the server was never there.
        """
        if not self._is_known:
            raise error
        self.has_gap = True
        self._patience.miss(error)


def _print(event: inspection_pb2.Event, *, has_gap: bool, is_all: bool) -> None:
    if event.lost:
        warn(f"{event.lost} events were lost: this was read more slowly than things happened")
    if wants_json():
        more = {"revision": event.revision, "lost": event.lost, "gap": has_gap}
        click.echo(json.dumps({**record(event), **more}))
    else:
        at = event.at.ToDatetime(tzinfo=UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"
        place = f" {place_of(event)}" if is_all and event.space else ""
        revision = f" (revision {event.revision})" if event.revision else ""
        tell(f"{at}   {event.kind:<12}   {event.sentence}{place}{revision}")
    sys.stdout.flush()
