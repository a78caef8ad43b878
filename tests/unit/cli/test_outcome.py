"""Whether it is known what became of a change, by the error of its call alone."""

from __future__ import annotations

from typing import cast

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from control_plane.cli.outcome import is_decided

SAID = ("grpc-status-details-bin", b"\n")
OTHER = ("server", "a proxy")


def _ended(
    code: StatusCode, details: str | None = "because", *said: tuple[str, str | bytes]
) -> grpc.Call:
    """Return a call that ended so."""
    error = AioRpcError(code, Metadata(), Metadata(*said), details=details)
    return cast("grpc.Call", error)  # it has all that is looked at


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.UNAUTHENTICATED,
        StatusCode.PERMISSION_DENIED,
        StatusCode.UNIMPLEMENTED,
    ],
)
def test_a_refusal_changed_nothing(code: StatusCode) -> None:
    """The server says so, or knows no such change."""
    assert is_decided(_ended(code))


@pytest.mark.parametrize(
    "code",
    [
        StatusCode.CANCELLED,
        StatusCode.UNKNOWN,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.ABORTED,
        StatusCode.OUT_OF_RANGE,
        StatusCode.INTERNAL,
        StatusCode.DATA_LOSS,
    ],
)
def test_any_other_end_says_nothing_of_a_change(code: StatusCode) -> None:
    """Also where the server says it: a change is durable before it is answered."""
    assert not is_decided(_ended(code, "because", SAID))


@pytest.mark.parametrize(
    ("details", "said", "decided"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: no socket", (), True),
        ("DNS resolution failed for c2c.example:18003", (), True),
        ("Socket closed", (), False),
        ("recvmsg: failed to connect to all addresses", (), False),
        (None, (), False),
        ("the server is shutting down", (SAID,), True),
        ("the server is shutting down", (OTHER, SAID), True),
        ("the server is shutting down", (OTHER,), False),
    ],
)
def test_who_was_never_reached_changed_nothing(
    details: str | None, said: tuple[tuple[str, str | bytes], ...], *, decided: bool
) -> None:
    """A connection that broke may have done so before the answer, and after the change."""
    assert is_decided(_ended(StatusCode.UNAVAILABLE, details, *said)) is decided
