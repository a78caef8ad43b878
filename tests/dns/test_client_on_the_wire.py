"""The client of the name table, octet by octet: what it sends, and what it makes of bad answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.clock import SystemClock
from control_plane.sidecar.dns.client import RESOURCE_NAME, TYPE_URL, NameTableClient
from control_plane.sidecar.dns.saved import SavedTable
from control_plane.sidecar.dns.table import NameTable
from tests.dns.control import INSTANCE
from tests.dns.world import ADDRESSES, APP_B, PATIENCE
from tests.unit.sidecar_dns.tables import message_of

Context = grpc.aio.ServicerContext[bytes, bytes]

BODY = message_of({APP_B: ADDRESSES}).SerializeToString()


class Server:
    """An ADS server that does what a test tells it to.

    Attributes:
        streams: the streams that were opened, in order.
    """

    def __init__(self) -> None:
        """Have no stream yet."""
        self.streams: list[ServedStream] = []
        self._opened = asyncio.Condition()

    async def serve(self, _: object, context: Context) -> None:
        """Hold a stream until the test or the client ends it."""
        stream = ServedStream(context)
        async with self._opened:
            self.streams.append(stream)
            self._opened.notify_all()
        await stream.ended.wait()
        if stream.farewell:
            await context.abort(grpc.StatusCode.UNAVAILABLE, stream.farewell)

    async def stream(self, number: int) -> ServedStream:
        """Return one of the streams, once it is there."""
        async with asyncio.timeout(PATIENCE), self._opened:
            await self._opened.wait_for(lambda: len(self.streams) > number)
            return self.streams[number]


class ServedStream:
    """One stream of the server."""

    def __init__(self, context: Context) -> None:
        """Serve a call."""
        self._context = context
        self.ended = asyncio.Event()
        self.farewell = ""

    async def request(self) -> Any:  # noqa: ANN401 - made at run time, without stubs
        """Return the next request."""
        raw = await asyncio.wait_for(self._context.read(), PATIENCE)
        return discovery_pb2.DeltaDiscoveryRequest.FromString(raw)

    async def send_raw(self, raw: bytes) -> None:
        """Send these bytes."""
        await self._context.write(raw)

    async def send(self, nonce: str, *resources: tuple[str, str, str, bytes]) -> Any:  # noqa: ANN401 - likewise
        """Send resources (name, version, type URL, body); return the client's answer."""
        response = discovery_pb2.DeltaDiscoveryResponse(type_url=TYPE_URL, nonce=nonce)
        for name, version, type_url, body in resources:
            entry = response.resources.add(name=name, version=version)
            entry.resource.type_url = type_url
            entry.resource.value = body
        await self.send_raw(response.SerializeToString())
        return await self.request()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, str]]:
    """Run a server in plaintext; give it and its address."""
    ads = Server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "DeltaAggregatedResources": grpc.stream_stream_rpc_method_handler(ads.serve)
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "envoy.service.discovery.v3.AggregatedDiscoveryService", handlers
            )
        ]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield ads, f"127.0.0.1:{port}"
    finally:
        for stream in ads.streams:
            stream.ended.set()
        await server.stop(None)


@asynccontextmanager
async def following(file: Path) -> AsyncIterator[tuple[Server, list[NameTable]]]:
    """Run a server and a client of it."""
    tables: list[NameTable] = []
    async with serving() as (server, address):
        client = NameTableClient(
            INSTANCE,
            lambda: grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]),
            apply=tables.append,
            saved=SavedTable(file, INSTANCE),
            clock=SystemClock(),
            random=Random(1),
        )
        task = asyncio.create_task(client.run())
        try:
            yield server, tables
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_it_subscribes_to_its_one_resource(tmp_path: Path) -> None:
    """The first request names the node, the type and the resource, and no version of it."""
    async with following(tmp_path / "table") as (server, _):
        request = await (await server.stream(0)).request()

    assert request.node.id == INSTANCE
    assert request.type_url == TYPE_URL
    assert list(request.resource_names_subscribe) == [RESOURCE_NAME]
    assert dict(request.initial_resource_versions) == {}
    assert request.response_nonce == ""


async def test_an_ack_has_the_nonce_and_no_error(tmp_path: Path) -> None:
    """A response that is accepted is answered by its nonce and nothing else (A12)."""
    async with following(tmp_path / "table") as (server, tables):
        stream = await server.stream(0)
        await stream.request()
        answer = await stream.send("n1", (RESOURCE_NAME, "v1", TYPE_URL, BODY))

    assert answer == discovery_pb2.DeltaDiscoveryRequest(type_url=TYPE_URL, response_nonce="n1")
    assert [table.version for table in tables] == ["v1"]


async def test_a_nack_has_the_nonce_and_the_error(tmp_path: Path) -> None:
    """A response that is refused is answered by its nonce, INVALID_ARGUMENT and the reason (A4)."""
    async with following(tmp_path / "table") as (server, tables):
        stream = await server.stream(0)
        await stream.request()
        answer = await stream.send("n1", (RESOURCE_NAME, "v1", "type.googleapis.com/x.Y", BODY))

    assert answer.response_nonce == "n1"
    assert answer.error_detail.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answer.error_detail.message == f"not a {TYPE_URL}: 'type.googleapis.com/x.Y'"
    assert tables == []


async def test_it_comes_back_with_the_version_that_it_has(tmp_path: Path) -> None:
    """A new stream states the version in force: that of the last ACK, not the last NACK (C1)."""
    async with following(tmp_path / "table") as (server, _):
        stream = await server.stream(0)
        await stream.request()
        await stream.send("n1", (RESOURCE_NAME, "v1", TYPE_URL, BODY))
        await stream.send("n2", (RESOURCE_NAME, "v2", TYPE_URL, b"\xff"))
        stream.ended.set()
        request = await (await server.stream(1)).request()

    assert dict(request.initial_resource_versions) == {RESOURCE_NAME: "v1"}
    assert list(request.resource_names_subscribe) == [RESOURCE_NAME]
    assert request.node.id == INSTANCE


async def test_resources_that_it_did_not_ask_for_are_ignored(tmp_path: Path) -> None:
    """Another resource in a response is neither applied nor a reason to refuse it (W1)."""
    async with following(tmp_path / "table") as (server, tables):
        stream = await server.stream(0)
        await stream.request()
        answer = await stream.send(
            "n1", ("other", "v9", TYPE_URL, b"\xff"), (RESOURCE_NAME, "v1", TYPE_URL, BODY)
        )

    assert not answer.HasField("error_detail")
    assert [table.version for table in tables] == ["v1"]


async def test_a_response_that_is_none_ends_the_stream(tmp_path: Path) -> None:
    """Bytes that are no response cannot be answered: the stream ends, and the next is opened."""
    async with following(tmp_path / "table") as (server, tables):
        first = await server.stream(0)
        await first.request()
        with capture_logs() as logs:
            await first.send_raw(b"\xff\xff\xff")
            second = await server.stream(1)
        await second.request()
        await second.send("n1", (RESOURCE_NAME, "v1", TYPE_URL, BODY))

    assert [table.version for table in tables] == ["v1"]
    assert [each["event"] for each in logs] == [log_events.SIDECAR_RETRYING]
    assert logs[0]["reason"].startswith("DecodeError: ")


async def test_a_stream_that_is_to_come_back_is_no_alarm(tmp_path: Path) -> None:
    """Each renewal of the identity ends one; a stream on which nothing was heard is another thing.

    That one is what a control plane that is gone looks like.
    """
    with capture_logs() as logs:
        async with following(tmp_path / "table") as (server, _):
            for number, is_heard in enumerate([True, False, True]):
                stream = await server.stream(number)
                await stream.request()
                if is_heard:
                    await stream.send("n1", (RESOURCE_NAME, f"v{number}", TYPE_URL, BODY))
                stream.farewell = "a newer certificate was issued to this instance: come back"
                stream.ended.set()
            await server.stream(3)
    retries = [each for each in logs if each["event"] == log_events.SIDECAR_RETRYING]

    assert [each["log_level"] for each in retries[:3]] == ["info", "warning", "info"]


class Waits:
    """A clock that does not wait, and stops whoever waits for the tenth time."""

    def __init__(self) -> None:
        """Nobody waited yet."""
        self.seconds: list[float] = []

    def now(self) -> datetime:
        """Return always the same moment."""
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        """Return always the same moment."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Note how long somebody wants to wait."""
        self.seconds.append(seconds)
        if len(self.seconds) == 10:
            raise asyncio.CancelledError


def no_identity() -> grpc.aio.Channel:
    """Fail as a channel does whose certificate cannot be read."""
    raise FileNotFoundError(2, "No such file or directory", "identity.pem")


async def test_pauses_grow_and_are_drawn(tmp_path: Path) -> None:
    """Each pause is drawn between half and the whole of 0.5 s, 1 s, 2 s, ... up to 30 s."""
    waits = Waits()
    client = NameTableClient(
        INSTANCE,
        no_identity,
        apply=lambda _: None,
        saved=SavedTable(tmp_path / "table", INSTANCE),
        clock=waits,
        random=Random(1),
    )
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await client.run()

    bounds = [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]
    assert all(
        bound / 2 <= pause <= bound for pause, bound in zip(waits.seconds, bounds, strict=True)
    )
    assert len({pause / bound for pause, bound in zip(waits.seconds, bounds, strict=True)}) == 10
    assert "identity.pem" in logs[0]["reason"]
    assert [each["log_level"] for each in logs] == ["warning", *["debug"] * 9]


async def test_nobody_there_is_tried_again(tmp_path: Path) -> None:
    """A port on which nobody listens yet is tried until somebody does."""
    async with serving() as (_, address):
        pass
    waits = Waits()
    client = NameTableClient(
        INSTANCE,
        lambda: grpc.aio.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]),
        apply=lambda _: None,
        saved=SavedTable(tmp_path / "table", INSTANCE),
        clock=waits,
        random=Random(1),
    )
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await client.run()

    assert logs[0]["reason"].startswith("UNAVAILABLE: ")
    assert not client.connected
