"""What a stream leaves in memory once it is over: nothing that only the garbage collector finds."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from weakref import ReferenceType, ref

import grpc
import pytest

from control_plane.errors import InvalidArgument, Unavailable
from control_plane.nodes import LiveStream
from control_plane.server.status import StatusInterceptor
from control_plane.xds.resource_type import SECRET
from tests.server.world import resource, served
from tests.waiting import eventually
from tests.xds_client import DeltaClient, SotwClient, plaintext_channel

Client = DeltaClient | SotwClient


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Have nothing freed but what nothing refers to any more."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _leaves(client: Client, _: LiveStream) -> None:
    await client.__aexit__(None, None, None)


async def _is_done(client: Client, _: LiveStream) -> None:
    await client.done_writing()
    await client.status()


async def _is_sent_away(client: Client, live: LiveStream) -> None:
    live.end(Unavailable("a newer certificate was issued to this instance: come back"))
    await client.status()


async def _breaks_the_protocol(client: Client, _: LiveStream) -> None:
    await client.send_raw(b"\xff")
    await client.status()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", [DeltaClient, SotwClient])
@pytest.mark.parametrize("end", [_leaves, _is_done, _is_sent_away, _breaks_the_protocol])
async def test_a_stream_that_ended_is_freed_at_once(
    kind: type[Client], end: Callable[[Client, LiveStream], Awaitable[None]]
) -> None:
    """Each instance opens streams every few hours, and the collector looks at old ones in weeks."""
    async with served() as world, kind(world.channel, "node-1") as client:
        world.set("node-1", resource(SECRET, "a", "1"))
        await client.subscribe(SECRET, "a")
        await client.ack(await client.receive())
        (live,) = world.nodes.all_streams()
        stream = ref(live.stream)
        await end(client, live)
        del live

        await eventually(lambda: stream() is None, "the stream is freed")


class _State:
    """Something large."""


@pytest.mark.usefixtures("no_collector")
async def test_a_call_that_is_refused_keeps_nothing_that_it_was_refused_by() -> None:
    """An old State would stay with each, and all that was removed since."""
    seen: list[ReferenceType[_State]] = []

    async def refuse(_: bytes, __: object) -> bytes:
        state = _State()
        seen.append(ref(state))
        raise InvalidArgument(f"{state} does not allow it")

    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    method: grpc.RpcMethodHandler[bytes, bytes]
    method = grpc.unary_unary_rpc_method_handler(refuse)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("s", {"Refuse": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with plaintext_channel(f"127.0.0.1:{port}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
            call = channel.unary_unary("/s/Refuse")
            with pytest.raises(grpc.aio.AioRpcError, match="does not allow it"):
                await call(b"")

        await eventually(lambda: seen[0]() is None, "what refused it is freed")
    finally:
        await server.stop(None)
