"""``wait``: until every instance has what it should have.

The rule of this module: it looks at what ``status`` shows, and succeeds when nothing is missing
there. If the time is up first, it says which instances are not there and why, and fails, so that a
script notices. A server that goes away meanwhile may come back until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import click

from control_plane.api.v1 import inspection_pb2
from control_plane.cli import kinds
from control_plane.cli.about_app import about_app
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.errors import Failed
from control_plane.cli.globals import connection_options, target, target_options
from control_plane.cli.inspect_status import not_ready, statuses
from control_plane.cli.instance_name import is_app_and_index, listed_by, name_of
from control_plane.cli.name_completion import complete_app_or_instance
from control_plane.cli.output import (
    begin,
    named,
    ok,
    output_option,
    some_of,
    tell,
    waiting,
    wants_json,
)
from control_plane.cli.patience import Patience
from control_plane.cli.tables import print_records, record
from control_plane.settings.values import format_duration

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_REQUIRED = frozenset({"CDS", "LDS", "SDS"})
"""The types that every Envoy asks for. A resolver asks for names, but not every instance has
one."""

_Statuses = list[inspection_pb2.InstanceStatus]


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look found.

    Attributes:
        there: how many instances are as far as they should be.
        wanted: how many should be: all that are waited for, or more.
        reasons: why each of the other instances is not.
    """

    found: _Statuses
    there: int
    wanted: int
    reasons: Sequence[str]

    @property
    def is_enough(self) -> bool:
        """Tell whether all of them are there."""
        return self.there >= self.wanted


@command(
    "wait",
    usage=[
        (
            "[APP] [--for acked|served|ready] [--instances NUMBER] [--timeout DURATION] "
            "[--output json]"
        ),
        "APP/INDEX [--for acked|served|ready] [--timeout DURATION] [--output json]",
    ],
    examples=["app-b", "app-b --instances 3 --timeout 1m", "app-b/0", "--for acked"],
    tip=[
        "It waits for every instance that is connected, and until there are at least as many as",
        "--instances says. It does not wait for instances that are gone or never connected.",
    ],
    see_also=["instances", "status", "why"],
)
@about_app(complete=complete_app_or_instance)
@click.option(
    "--for",
    "stage",
    type=click.Choice(["acked", "served", "ready"]),
    default="ready",
    help="How far each instance has to get: acked (it ACKed everything), served (and its "
    "certificate is served) or ready (and names lead to it) (Default: ready)",
)
@click.option(
    "--instances",
    type=kinds.NUMBER,
    default="1",
    help="How many instances there have to be (Default: 1)",
)
@click.option(
    "--timeout",
    type=kinds.WAIT_TIME,
    default="30s",
    help="How long to wait at the most (Default: 30s)",
)
@target_options
@output_option
@connection_options
def wait(app_name: str | None, *, stage: str, instances: int, timeout: timedelta) -> None:
    """Wait until every instance has what it should have."""
    where = target()
    if is_app_and_index(app_name):
        if instances > 1:
            raise click.UsageError("APP/INDEX and --instances cannot be used together")
        begin(f"Waiting until instance {named(app_name)} in {where} is {stage}")
    else:
        whose = f"instances of app {named(app_name)}" if app_name else "all instances"
        begin(f"Waiting until {whose} in {where} are {stage}")
    patience = Patience()
    with connect() as client, waiting(f"until they are {stage}") as show:
        until_then = client.waiting(timeout)

        def look() -> _Look | None:
            found = patience.look(lambda: statuses(until_then, app_name, where))
            if found is None:
                show("until the server answers")
                return None
            made = _judged(found, stage, instances)
            show(_awaited(made, stage))
            return made

        last = _last(_looks(look, timeout.total_seconds()))
    if last is None:
        raise Failed(str(patience.away))
    if not last.is_enough:
        raise Failed(_complaint(last, stage, timeout, app_name))
    if wants_json():
        print_records([record(each) for each in last.found])
        return
    tell(f"{last.there} {'instance is' if last.there == 1 else 'instances are'} {stage}.")
    ok()


def _looks(look: Callable[[], _Look | None], seconds: float) -> Iterator[_Look | None]:
    """Yield what each look finds; the last look ends when the time is up, or soon after."""
    until = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    yield look()
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(pause, left))
        yield look()
        pause = min(2 * pause, _LONGEST_PAUSE)


def _last(looks: Iterator[_Look | None]) -> _Look | None:
    """Return the first look that found all instances there, else the last; None for no answer."""
    found = None
    for found in looks:
        if found is not None and found.is_enough:
            break
    return found


def _judged(found: _Statuses, stage: str, instances: int) -> _Look:
    waited_for = [each for each in found if each.connected or each.status in ("ready", "not_ready")]
    verdicts = [_late(each, stage) for each in waited_for]
    reasons = [verdict for verdict in verdicts if verdict]
    there = len(verdicts) - len(reasons)
    return _Look(found, there, max(instances, len(verdicts)), reasons)


def _late(each: inspection_pb2.InstanceStatus, stage: str) -> str:
    """Return why an instance is not as far as it should be, or ""."""
    name = name_of(each)
    if each.behind:
        return f"{name}: {each.behind}"
    asked = {status.type for status in each.types if status.status}
    if not asked >= _REQUIRED:
        return f"the Envoy of {name} is not connected"
    for status in each.types:
        if status.reason:
            return f"{name} {status.type}: {status.reason}"
    is_served = each.certificate == inspection_pb2.CERTIFICATE_STATE_SERVED
    if stage != "acked" and not is_served:
        return f"{name} certificate: {each.certificate_reason or 'not served yet'}"
    if stage == "ready" and each.status != "ready":
        return f"{name} {not_ready(each)}"
    return ""


def _awaited(look: _Look, stage: str) -> str:
    """Return the sentence that says what is waited for, and why the first late instance is late."""
    why = f" ({look.reasons[0]})" if look.reasons else ""
    return f"until they are {stage}: {look.there} of {look.wanted} are{why}"


def _complaint(look: _Look, stage: str, timeout: timedelta, app_name: str | None) -> str:
    why = f": {some_of(look.reasons)}" if look.reasons else ""
    are = "is" if look.there == 1 else "are"
    after = format_duration(timeout)
    return (
        f"{look.there} of {look.wanted} instances {are} {stage} after {after}{why}"
        f"{_next_step(look, app_name)}"
    )


def _next_step(look: _Look, app_name: str | None) -> str:
    """Return what can be done about the missing instances, as the end of a sentence."""
    where = target()
    status = where.command("status", *([app_name] if app_name else []))
    if look.reasons:
        return f" (see '{status}')"
    if is_app_and_index(app_name):
        if look.found:
            return f": it is not connected, and '{status}' shows how it is"
        return (
            f": there is no such instance, and '{listed_by(app_name)}' lists those that there are"
        )
    if look.found and not look.there:
        return f": none is connected, and '{status}' shows how each is"
    token = where.command("join-token", app_name or "APP")
    if not look.found:
        return f": there are none, and '{token}' makes a token with which one can enrol"
    return f": '{status}' shows these, and '{token}' makes a token with which another can enrol"
