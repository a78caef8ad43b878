"""Retries: which failures are worth another attempt, and how long to wait before it.

The rule of this module: sidecars that failed together do not come back together. Each wait is drawn
anew between half and the whole of a bound that doubles. A call that was refused for good is never
repeated.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import grpc
import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.sidecar.channel import reason, refusal

T = TypeVar("T")

FIRST_SECONDS = 0.5
MOST_SECONDS = 30.0


def delays(
    draw: Callable[[], float], *, first: float = FIRST_SECONDS, most: float = MOST_SECONDS
) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt, without end.

    Args:
        draw: returns a number from 0 up to 1, another one each time.
        first: the bound of the first wait.
        most: the largest bound.
    """
    bound = min(first, most)
    while True:
        yield bound * (0.5 + draw() / 2)
        bound = min(2 * bound, most)


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeats an attempt that fails for now.

    Attributes:
        draw: returns a number from 0 up to 1, another one each time.
    """

    clock: Clock
    draw: Callable[[], float]

    async def until_done(self, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return the result of the first attempt that succeeds.

        Args:
            what: what is attempted, for the log.
            attempt: the attempt; it raises OSError, or the error of a gRPC call, if it fails.

        Raises:
            InvalidRequest: the control plane refused for good.
        """
        log = structlog.get_logger(__name__)
        for delay in delays(self.draw):
            try:
                return await attempt()
            except (OSError, grpc.aio.AioRpcError) as error:
                why = why_not(error)
            log.warning(
                log_events.SIDECAR_RETRYING, what=what, reason=why, again_in=round(delay, 1)
            )
            await self.clock.sleep(delay)
        raise AssertionError("delays never end")


def why_not(error: OSError | grpc.aio.AioRpcError) -> str:
    """Return why an attempt failed, if another attempt is worthwhile.

    Raises:
        InvalidRequest: another attempt is not, because the control plane refused for good.
    """
    if isinstance(error, OSError):
        why = error.strerror or str(error) or type(error).__name__
        if error.errno and why.startswith("Connect call failed"):  # asyncio says only where
            return f"{os.strerror(error.errno)}: {why}"
        return why
    final = refusal(error)
    if final is not None:
        raise final from None
    return reason(error)
