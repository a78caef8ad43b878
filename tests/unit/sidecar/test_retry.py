"""What is tried again, and when."""

from __future__ import annotations

import asyncio
from itertools import islice

import grpc
import pytest
import structlog
from grpc.aio import AioRpcError, Metadata

from control_plane.errors import (
    FailedPrecondition,
    InvalidArgument,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from control_plane.sidecar.channel import reason, refusal
from control_plane.sidecar.retry import Retry, delays
from tests.unit.reconciler.clocks import ManualClock


def failed(code: grpc.StatusCode, details: str | None = "because") -> AioRpcError:
    """Return what a call raises."""
    return AioRpcError(code, Metadata(), Metadata(), details=details)


def test_waits_double_up_to_a_bound() -> None:
    """Nobody hammers a server that is down, and nobody waits for ever once it is back."""
    assert list(islice(delays(lambda: 1.0, first=0.5, most=3), 5)) == [0.5, 1, 2, 3, 3]


def test_no_two_sidecars_wait_equally_long() -> None:
    """A wait is drawn between half and the whole of its bound."""
    assert next(delays(lambda: 0.0, first=1)) == 0.5
    assert next(delays(lambda: 0.5, first=1)) == 0.75


def test_a_first_wait_is_no_longer_than_the_longest() -> None:
    """A bound holds from the beginning, however short a certificate's life."""
    assert next(delays(lambda: 1.0, first=5, most=1)) == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, FailedPrecondition),
        (grpc.StatusCode.UNAUTHENTICATED, Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.UNIMPLEMENTED, FailedPrecondition),
    ],
)
def test_a_refusal_is_final(code: grpc.StatusCode, kind: type[InvalidRequest]) -> None:
    """Time changes nothing about it, so the error says what the server said."""
    error = refusal(failed(code))

    assert type(error) is kind
    assert str(error) == reason(failed(code))


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    ],
)
def test_anything_else_is_worth_another_attempt(code: grpc.StatusCode) -> None:
    """A server that is down, busy or broken may not be so in a moment."""
    assert refusal(failed(code)) is None


def test_a_failure_without_words_is_named_by_its_code() -> None:
    """The log never says just nothing."""
    assert reason(failed(grpc.StatusCode.UNAVAILABLE, None)) == "unavailable"


async def test_what_fails_is_repeated_until_it_succeeds() -> None:
    """Each failure is logged with its reason, and the result is that of the last attempt."""
    clock = ManualClock()
    failures = iter(
        [ConnectionRefusedError(111, "Connection refused"), failed(grpc.StatusCode.UNAVAILABLE)]
    )

    async def attempt() -> int:
        for failure in failures:
            raise failure
        return 7

    with structlog.testing.capture_logs() as logs:
        result = asyncio.ensure_future(Retry(clock, lambda: 1.0).until_done("count", attempt))
        await clock.advance(0.5)
        await clock.advance(1.0)

    assert await result == 7
    assert [(each["what"], each["reason"], each["again_in"]) for each in logs] == [
        ("count", "Connection refused", 0.5),
        ("count", "because", 1.0),
    ]


async def test_a_refusal_is_not_repeated() -> None:
    """The first final answer is the last."""
    attempts = 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        raise failed(grpc.StatusCode.PERMISSION_DENIED, "instance x was removed")

    with pytest.raises(PermissionDenied, match="instance x was removed"):
        await Retry(ManualClock(), lambda: 1.0).until_done("renew", attempt)

    assert attempts == 1
