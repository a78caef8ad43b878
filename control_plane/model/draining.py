"""What was removed but is still served, for as long as connections of that time may be open.

The rule of this module: what drains follows from what a command did, so no command has to handle
it: a port that leads elsewhere now, and an app that may no longer call another. It is part of the
State, so that a restart withdraws nothing early.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TypeVar

from control_plane.model.change import Change, Decision, decide
from control_plane.model.entities import (
    App,
    Draining,
    DrainingCaller,
    DrainingPort,
    NetworkPolicy,
)
from control_plane.model.ports import forwarded
from control_plane.model.state import State

Result = TypeVar("Result")


def leave_draining(
    before: State, decision: Decision[Result], ends_at: datetime
) -> Decision[Result]:
    """Return a decision that also records what drains because of it.

    Args:
        before: the State before the command.
        decision: what the command did.
        ends_at: until when this drains.
    """
    draining = tuple(_draining(before, decision.change, ends_at))
    if not draining:
        return decision
    return decision.then(lambda state, result: decide(state, result, puts=draining))


def _draining(before: State, change: Change, ends_at: datetime) -> Iterator[Draining]:
    for app in (each for each in change.puts if isinstance(each, App)):
        known = before.app(app.guid)
        if known is not None and (were := forwarded(known)) != forwarded(app):
            for port, protocol in were.items():
                yield DrainingPort(app.guid, port.app_port, port.proxy_port, protocol, ends_at)
    for policy in (each for each in change.drops if isinstance(each, NetworkPolicy)):
        yield DrainingCaller(policy.source, policy.destination, ends_at)


def drop_drained(state: State, now: datetime) -> Decision[int]:
    """Forget what has drained; the result is how many entries that were."""
    drained = [each for each in state.all_draining() if each.ends_at <= now]
    return decide(state, len(drained), drops=drained)
