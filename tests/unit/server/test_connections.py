"""The connections of a server: how many, for how long, and what is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from control_plane.server.http import connections
from control_plane.server.http.connections import Connections, Serve
from tests.envoy.harness import until

PATIENCE = 10.0
MORE_THAN_FITS = 1_000_000


@asynccontextmanager
async def listening(path: Path, serve: Serve) -> AsyncIterator[Connections]:
    """Have connections to a socket served until the block ends."""
    served = Connections(serve, most=1)
    try:
        await served.listen_at(str(path))
        yield served
    finally:
        await served.end()


async def wait(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say hello, and then nothing."""
    writer.write(b"hello")
    await asyncio.Event().wait()


async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say more than anybody takes who does not read."""
    writer.write(bytes(MORE_THAN_FITS))


async def all_of(path: Path) -> bytes:
    """Connect, and return all that comes until the server closes or resets."""
    reader, writer = await asyncio.open_unix_connection(path)
    said = await rest_of(reader)
    writer.close()
    return said


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return all that comes until the server closes or resets."""
    said = b""
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionResetError):
            while chunk := await reader.read(65_536):
                said += chunk
    return said


async def test_the_end_is_silent(tmp_path: Path) -> None:
    """A connection that is open when its server ends is cut, and that is no exception to report."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    async with listening(tmp_path / "s", wait):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert await reader.readexactly(5) == b"hello"
    assert await rest_of(reader) == b""
    writer.close()

    assert complaints == []


async def test_nothing_goes_on_after_the_end(tmp_path: Path) -> None:
    """Whoever has ended the connections may close what they are served with."""
    done: list[str] = []

    async def tidy_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        try:
            await asyncio.Event().wait()
        finally:
            for turn in ("shut", "lock", "leave"):
                await asyncio.sleep(0)
                done.append(turn)

    async with listening(tmp_path / "s", tidy_up):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await reader.readexactly(5)
    assert done == ["shut", "lock", "leave"]
    writer.close()


async def test_who_comes_after_the_end_is_cut(tmp_path: Path) -> None:
    """A connection whose TLS handshake is done only then is closed, and not served."""
    served: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)

    ended = Connections(serve, most=1)
    await ended.end()
    async with await asyncio.start_unix_server(ended.accept, tmp_path / "s"):
        assert await all_of(tmp_path / "s") == b""

    assert served == []


async def test_who_does_not_read_counts_and_ends_with_the_server(tmp_path: Path) -> None:
    """A connection is open until all was taken that was said on it."""
    async with listening(tmp_path / "s", talk):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        said = await reader.readexactly(1)
        assert await all_of(tmp_path / "s") == b""
    said += await rest_of(reader)
    writer.close()

    assert len(said) < MORE_THAN_FITS


async def test_who_does_not_read_is_cut_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for the next one then."""
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.05)
    async with listening(tmp_path / "s", talk):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        said = await reader.readexactly(1)

        async def is_let_in() -> bool:
            return await all_of(tmp_path / "s") != b""

        await until(is_let_in, what="there is room")
        said += await rest_of(reader)
        writer.close()

    assert len(said) < MORE_THAN_FITS
