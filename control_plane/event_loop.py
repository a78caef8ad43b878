"""The event loop of programs that have many gRPC calls open.

The rule of this module: all pending gRPC events are taken in one turn of the loop, however many
they are.

gRPC's own thread writes one octet into a socket for each event. Its reader on the event loop takes
all pending events, but only one octet (grpcio 1.85, ``PollerCompletionQueue``). Each remaining
octet causes a turn of the loop for nothing. And when the socket is full, after some 280 octets,
gRPC's thread has to wait for such a turn before it can announce the next event.
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
"""More than a full socket holds at one octet per message."""

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")


class GrpcEventLoop(asyncio.SelectorEventLoop):
    """An event loop that empties gRPC's event socket before the events are taken."""

    def add_reader(
        self,
        fd: FileDescriptorLike,
        callback: Callable[[*_Arguments], Any],
        *args: *_Arguments,
    ) -> None:
        """Call back when a file can be read; see ``asyncio.loop.add_reader``."""
        if isinstance(fd, socket.socket) and _is_of_grpc(callback):
            super().add_reader(fd, lambda *given: _take(fd, callback, given), *args)
        else:
            super().add_reader(fd, callback, *args)


def run(
    main: Coroutine[Any, Any, _Result],
    loop: Callable[[], asyncio.AbstractEventLoop] = GrpcEventLoop,
) -> _Result:
    """Run a program on such a loop, or on another kind, otherwise like ``asyncio.run``."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


def _is_of_grpc(callback: Callable[..., Any]) -> bool:
    reader = callback.func if isinstance(callback, partial) else callback
    return type(getattr(reader, "__self__", None)).__module__.startswith("grpc.")


def _take(
    told: socket.socket, take_events: Callable[[*_Arguments], Any], given: tuple[*_Arguments]
) -> None:
    """Empty the socket, then take the events: one that arrives in between writes another octet."""
    with suppress(BlockingIOError):
        told.recv(_OCTETS)
    take_events(*given)
