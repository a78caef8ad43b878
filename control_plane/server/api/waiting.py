"""Waiting for the data plane, as far as a caller asks for it.

The rule of this module: a change is already committed when a wait for it begins, so a wait never
fails. When its time is over, the answer is OK and names the instances that are behind; a caller
that took that for a failure and tried again would change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from control_plane.api.v1 import progress_pb2
from control_plane.errors import InvalidArgument
from control_plane.model.state import State
from control_plane.names import AppGuid
from control_plane.reconciler.progress import Behind, Stage
from control_plane.server.access.admission import Context
from control_plane.server.durations import parse_duration

DEFAULT_TIMEOUT = timedelta(seconds=30)
"""Long for a rotation, which takes milliseconds; short for an operator who sits and waits."""

MAX_TIMEOUT = timedelta(hours=1)

_ANSWER_SECONDS = 0.5
"""How long before the deadline of the call the answer is sent."""

_ROUNDING = 0.01
"""gRPC rounds the caller's timeout up, by a hundredth at most, to save bytes."""

_STAGES = {
    progress_pb2.WAIT_COMMITTED: Stage.COMMITTED,
    progress_pb2.WAIT_ACKED: Stage.ACKED,
    progress_pb2.WAIT_SERVED: Stage.SERVED,
}

_REACHED = {
    Stage.COMMITTED: progress_pb2.STAGE_COMMITTED,
    Stage.ACKED: progress_pb2.STAGE_ACKED,
    Stage.SERVED: progress_pb2.STAGE_SERVED,
}


class Progress(Protocol):
    """Knows how far a change got."""

    async def wait(
        self, apps: frozenset[AppGuid], stage: Stage, timeout: float
    ) -> tuple[Behind, ...]:
        """Wait until every connected instance of some apps has reached a stage.

        Args:
            apps: the apps whose instances to wait for.
            stage: how far these have to get with everything that was committed before this call.
            timeout: how many seconds to wait at most.

        Returns:
            the instances that had not got so far when the time was up.
        """


@dataclass(frozen=True, slots=True)
class Wait:
    """How far a change has to get, and how many seconds it has for that."""

    stage: Stage
    seconds: float


def parse_wait(wait: int, timeout: Duration | None) -> Wait:
    """Return what a request says about waiting.

    Args:
        wait: a value of the enum ``c2c.v1.Wait``; it may come from a newer client.
        timeout: None if the request has none.

    Raises:
        InvalidArgument: the number is unknown, or the timeout is negative, longer than an hour or
            no duration at all.
    """
    for value, stage in _STAGES.items():
        if value == wait:
            return Wait(stage, _parse_timeout(timeout).total_seconds())
    known = ", ".join(progress_pb2.Wait.keys())
    raise InvalidArgument(f"unknown wait {wait}, known are: {known}", field="wait")


def _parse_timeout(timeout: Duration | None) -> timedelta:
    if timeout is None:
        return DEFAULT_TIMEOUT
    return parse_duration(timeout, field="timeout", least=timedelta(), most=MAX_TIMEOUT)


async def laggards(
    progress: Progress, state: State, apps: Iterable[AppGuid], wait: Wait, context: Context
) -> list[progress_pb2.Behind]:
    """Wait, and return the instances that are behind when the time is over, by app and index.

    Args:
        state: has the names of the apps.
        apps: the apps whose instances to wait for.
        context: the call, whose own deadline may come first.
    """
    if wait.stage is Stage.COMMITTED:
        return []
    behind = await progress.wait(frozenset(apps), wait.stage, _seconds(wait, context))
    messages = [_message(state, each) for each in behind]
    return sorted(messages, key=lambda message: (message.app, message.app_guid, message.index))


def _seconds(wait: Wait, context: Context) -> float:
    remaining: float | None = context.time_remaining()
    if remaining is None:
        return wait.seconds
    # A call with a short deadline gets an answer too.
    reserve = min(_ANSWER_SECONDS + remaining * _ROUNDING, remaining / 10)
    return min(wait.seconds, remaining - reserve)


def _message(state: State, behind: Behind) -> progress_pb2.Behind:
    # An app that is not in this State, because it was created during the wait, is called by its
    # GUID, which commands accept too.
    app = state.app(behind.app_guid)
    return progress_pb2.Behind(
        instance_guid=behind.instance_guid,
        app=app.key.name if app is not None else behind.app_guid,
        app_guid=behind.app_guid,
        space=app.key.space if app is not None else "",
        org=app.key.org if app is not None else "",
        index=behind.index,
        stage=_REACHED[behind.stage],
        reason=behind.reason,
        stopping=behind.stopping,
    )
