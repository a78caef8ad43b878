"""The event loop of programs that have many gRPC calls open.

The rule of this module: what gRPC has to tell is taken as a whole, however much it is. gRPC's own
thread writes an octet into a socket for each event. Its reader on the event loop takes all events
that are there, and one octet (grpcio 1.85, ``PollerCompletionQueue``): the others lead to a turn of
the loop each, for nothing; and when the socket is full, after some 280, gRPC's thread has to wait
for one of these turns before it can tell of the next event.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_OCTETS = 4096
"""More than a full socket holds, one octet a message."""

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class GrpcEventLoop(asyncio.SelectorEventLoop):
    """An event loop that empties the socket of gRPC's events before they are taken."""

    def add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Arguments], Any],
        *args: *_Arguments,
    ) -> None:
        """Call back when something can be read; see ``asyncio.loop.add_reader``."""
        if isinstance(fd, socket.socket) and _is_of_grpc(callback):
            super().add_reader(fd, lambda *given: _take(fd, callback, given), *args)
        else:
            super().add_reader(fd, callback, *args)


def run(
    main: Coroutine[Any, Any, _Result],
    loop: Callable[[], asyncio.AbstractEventLoop] = GrpcEventLoop,
) -> _Result:
    """Run a program on such a loop, or another kind, otherwise as ``asyncio.run`` does."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


def _is_of_grpc(callback: Callable[..., Any]) -> bool:
    reader = callback.func if isinstance(callback, partial) else callback
    return type(getattr(reader, "__self__", None)).__module__.startswith("grpc.")


def _take(
    told: socket.socket, take_events: Callable[[*_Arguments], Any], given: tuple[*_Arguments]
) -> None:
    """Empty the socket, then take the events: what comes in between writes another octet."""
    with suppress(BlockingIOError):
        told.recv(_OCTETS)
    take_events(*given)
