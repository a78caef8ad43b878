"""How the load of the story ends."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from control_plane.demo.client import RequestLoop


async def test_a_signal_is_heard_while_the_load_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request that is under way is waited for, and who asked for the end meanwhile gets it."""
    is_asked, goes_on, is_answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def get(*_: object, **__: object) -> None:
        is_asked.set()
        await goes_on.wait()
        is_answered.set()

    monkeypatch.setattr("control_plane.demo.client.get", get)
    loop = RequestLoop(ssl.create_default_context(), ["first.apps.internal"])
    loop.start()
    await is_asked.wait()
    stopping = asyncio.create_task(loop.stop())
    ended, _ = await asyncio.wait([stopping], timeout=0.1)
    assert not ended
    stopping.cancel()
    await asyncio.wait([stopping])
    goes_on.set()
    async with asyncio.timeout(10):
        await is_answered.wait()

    assert stopping.cancelled()
