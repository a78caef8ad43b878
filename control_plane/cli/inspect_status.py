"""``status``: how far every instance is.

The rule of this module: the table has one line for each instance and one word for each type. Below
it stand the reasons for whatever is wrong. JSON has the same content: what concerns all instances
is a field of each instance, or goes to standard error if there is no instance.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import click

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.cli.about_app import about_app, asked_for
from control_plane.cli.client import Client, connect
from control_plane.cli.command import command
from control_plane.cli.globals import Target, all_option, connection_options, target, target_options
from control_plane.cli.inspect_moments import ago
from control_plane.cli.instance_name import (
    NoInstance,
    asked_instance,
    is_app_and_index,
    name_of,
    noun_of,
)
from control_plane.cli.name_completion import complete_app_or_instance
from control_plane.cli.output import begin, is_plain, output_option, tell, wants_json, warn
from control_plane.cli.patience import Patience
from control_plane.cli.tables import (
    fits,
    place_of,
    print_records,
    print_table,
    record,
    spaces_of,
    with_spaces,
)


class _Found(NamedTuple):
    """What one look found.

    Attributes:
        instances: the instances that were asked for.
        is_all: whether they may be in any space.
        alarms: what is about to go wrong for all instances.
        ca_rotation: what a CA rotation waits for; "" if none is under way.
    """

    instances: list[inspection_pb2.InstanceStatus]
    is_all: bool
    alarms: tuple[str, ...]
    ca_rotation: str

    def lines(self) -> list[str]:
        """Return the lines for users about what concerns all instances."""
        rotation = [f"CA ROTATION: {self.ca_rotation}"] if self.ca_rotation else []
        return [*(f"ALARM: {each}" for each in self.alarms), *rotation]

    def records(self) -> list[dict[str, object]]:
        """Return the records for programs."""
        all_ = {"control_plane_alarms": list(self.alarms), "ca_rotation": self.ca_rotation}
        return [{**record(each), **all_} for each in self.instances]


_WATCH_SECONDS = 1.0
_COLUMNS = ("CDS", "LDS", "SDS", "ECDS", "NAMES")

CERTIFICATE_WORDS = {
    inspection_pb2.CERTIFICATE_STATE_NONE: "-",
    inspection_pb2.CERTIFICATE_STATE_ISSUED: "issued",
    inspection_pb2.CERTIFICATE_STATE_ACKED: "acked",
    inspection_pb2.CERTIFICATE_STATE_SERVED: "served",
    inspection_pb2.CERTIFICATE_STATE_NOT_SERVED: "NOT SERVED",
}


@command(
    "status",
    usage=["[APP | APP/INDEX | --all] [-s SPACE] [-o ORG] [--watch] [--output json]"],
    examples=["", "app-b", "app-b/0", "--all --watch", "app-b --output json"],
    tip=[
        "CDS, LDS, SDS, ECDS and NAMES are types of configuration. Each is SYNCED (ACKed), STALE",
        "(sent, and not answered yet), NOT_SENT (it waits for its turn), ERROR (refused, and the",
        "reason is below the table) or - (no client asked for it). If a terminal is too narrow for",
        "five columns, one column xDS replaces them.",
    ],
    see_also=["certs", "events", "instances", "wait", "why"],
)
@about_app(complete=complete_app_or_instance)
@click.option("--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C")
@target_options
@all_option
@output_option
@connection_options
def status(app_name: str | None, *, watch: bool) -> None:
    """Show how far every instance is: sent, ACKed, served."""
    where = target()
    if not watch:
        is_one = is_app_and_index(app_name)
        verb, what = ("Getting", "status") if is_one else ("Getting status of", "instances")
        begin(where.listing(verb, what, app_name, noun=noun_of(app_name)))
        with connect() as client:
            found = _ask(client, app_name, where)
        if wants_json():
            print_records(found.records())
            _warn_nobody(found)
        else:
            _print(found)
        return
    with connect() as client:
        _watch(lambda: _ask(client, app_name, where))


def statuses(
    client: Client, app_name: str | None, where: Target
) -> list[inspection_pb2.InstanceStatus]:
    """Return the status of every instance of a space or an app, or of one if it is there."""
    try:
        return _ask(client, app_name, where).instances
    except NoInstance:
        return []


def _ask(client: Client, app_name: str | None, where: Target) -> _Found:
    request = inspection_pb2.GetStatusRequest(
        app=app_name or "", space=where.space, org=where.org, in_space=not where.is_all
    )
    if (only := asked_instance(client, app_name)) is not None:
        request = inspection_pb2.GetStatusRequest(instance_guid=only.guid)
    stub = inspection_pb2_grpc.InspectionServiceStub(client.channel)
    answer = client.call(stub.GetStatus, request)
    found = asked_for(answer.instances, app_name)
    return _Found(found, where.is_all, tuple(answer.alarms), answer.ca_rotation)


def _warn_nobody(found: _Found) -> None:
    """Print what concerns all instances, if there is no record to put it in."""
    for line in found.lines() if not found.instances else ():
        warn(line)


def _print(looked: _Found) -> None:
    found = looked.instances
    now = datetime.now(UTC)
    columns: dict[str, list[object]] = {
        "instance": [name_of(each) for each in found],
        "address": [each.address for each in found],
        "status": [each.status.replace("_", " ") for each in found],
        "connected": [ago(each.connected_since, now) if each.connected else "no" for each in found],
    }
    types: dict[str, list[object]] = {
        short: [_word(each, short) for each in found] for short in _COLUMNS
    }
    certificate: dict[str, list[object]] = {
        "certificate": [CERTIFICATE_WORDS[each.certificate] for each in found]
    }
    spaces = spaces_of(found) if looked.is_all else {}
    if not fits(columns | types | certificate | spaces):
        types = {"xDS": [_summary(each) for each in found]}
    rows: Mapping[str, Sequence[object]] = columns | types | certificate
    if looked.is_all:
        rows = with_spaces(rows, found)
    print_table(rows, empty="No instances found.", below="where")
    reasons = looked.lines()
    reasons += [line for each in found for line in _reasons(each, is_all=looked.is_all)]
    if reasons:
        click.echo()
    for line in reasons:
        tell(line)


def _watch(look: Callable[[], _Found]) -> None:
    """Show what is found, repeatedly: in place on a terminal, elsewhere only when it changes."""
    before: tuple[object, ...] | None = None
    is_in_place = sys.stdout.isatty() and not is_plain()
    patience = Patience()
    while True:
        if (found := patience.look(look)) is not None:
            told = ([_without_ages(each) for each in found.instances], found.lines())
            if wants_json() and told != before:
                click.echo(json.dumps(found.records()))
                _warn_nobody(found)
            elif not wants_json() and (told != before or is_in_place):
                if is_in_place:
                    click.clear()
                _print(found)
            sys.stdout.flush()
            before = told
        time.sleep(_WATCH_SECONDS)


def not_ready(each: inspection_pb2.InstanceStatus) -> str:
    """Say that an instance is not ready, and why, if the server is new enough to tell."""
    return f"is not ready: {each.not_ready_reason}" if each.not_ready_reason else "is not ready"


def _word(each: inspection_pb2.InstanceStatus, short: str) -> str:
    status = next((status for status in each.types if status.type == short), None)
    if status is None or status.status == inspection_pb2.CONFIG_STATUS_NOT_ASKED:
        return "-"
    return inspection_pb2.ConfigStatus.Name(status.status).removeprefix("CONFIG_STATUS_")


def _summary(each: inspection_pb2.InstanceStatus) -> str:
    """Summarise how far all types are, in one cell."""
    asked = {short: word for short in _COLUMNS if (word := _word(each, short)) != "-"}
    late = [f"{short} {word}" for short, word in asked.items() if word != "SYNCED"]
    return ", ".join(late) or ("SYNCED" if asked else "-")


def _reasons(each: inspection_pb2.InstanceStatus, *, is_all: bool) -> Iterable[str]:
    name = f"{name_of(each)} {place_of(each)}" if is_all else name_of(each)
    for alarm in each.alarms:
        yield f"{name} ALARM: {alarm}"
    # The reason why it is behind may repeat an alarm, or what is wrong with its certificate.
    if each.behind not in {*each.alarms, each.certificate_reason, ""}:
        yield f"{name}: {each.behind}"
    if each.status == "not_ready" or (each.status == "registered" and each.not_ready_reason):
        yield f"{name} {not_ready(each)}"
    for status in each.types:
        if status.reason:
            yield f"{name} {status.type}: {status.reason}"
    # What holds up the certificate may have been printed for its type already.
    said = {status.reason for status in each.types} | {""}
    if each.connected and each.certificate_reason not in said:
        yield f"{name} certificate: {each.certificate_reason}"
    if each.exposed_ports:
        ports = ", ".join(map(str, each.exposed_ports))
        yield f"{name} can be reached past Envoy on tcp {ports}"


def _without_ages(each: inspection_pb2.InstanceStatus) -> inspection_pb2.InstanceStatus:
    """Return a status without the times that the server computes anew for each answer."""
    made = inspection_pb2.InstanceStatus()
    made.CopyFrom(each)
    for status in made.types:
        status.ClearField("since")
    return made
