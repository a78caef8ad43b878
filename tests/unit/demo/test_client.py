"""How the load of the story ends."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from control_plane.demo.client import RequestLoop


async def test_a_signal_is_heard_while_the_load_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request that is under way is waited for, and who asked for the end meanwhile gets it."""
    is_asked = asyncio.Event()

    async def get(*_: object, **__: object) -> None:
        is_asked.set()
        await asyncio.sleep(0.3)

    monkeypatch.setattr("control_plane.demo.client.get", get)
    loop = RequestLoop(ssl.create_default_context(), ["first.apps.internal"])
    loop.start()
    await is_asked.wait()
    stopping = asyncio.create_task(loop.stop())
    await asyncio.sleep(0.1)
    stopping.cancel()
    await asyncio.wait([stopping])

    assert stopping.cancelled()
