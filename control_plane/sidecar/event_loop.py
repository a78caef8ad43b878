"""The event loop of a sidecar.

The rule of this module: a sidecar that is told to stop waits for no DNS server. asyncio looks names
up in threads, and waits for these threads when it ends. Where no DNS server answers, a lookup takes
the system 10 s for each server in its configuration.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

_Found = list[tuple[Any, ...]]


class SidecarEventLoop(asyncio.SelectorEventLoop):
    """An event loop that, when it ends, abandons the lookups of names that still run."""

    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> _Found:
        """Look up a name; see ``asyncio.loop.getaddrinfo``.

        Raises:
            OSError: the name cannot be resolved.
        """
        answer: asyncio.Future[_Found] = self.create_future()

        def tell(settle: Callable[[Any], None], what: object) -> None:
            if not answer.done():
                settle(what)

        def look_up() -> None:
            try:
                found = socket.getaddrinfo(host, port, family, type, proto, flags)
            except Exception as error:  # noqa: BLE001 - the caller gets it, whatever it is
                told: tuple[Any, ...] = (answer.set_exception, error)
            else:
                told = (answer.set_result, found)
            with suppress(RuntimeError):  # the loop has ended
                self.call_soon_threadsafe(tell, *told)

        Thread(target=look_up, daemon=True).start()
        return await answer
