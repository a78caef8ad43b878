"""How many turns of the event loop it takes to hear what gRPC has to tell."""

from __future__ import annotations

import asyncio
import socket
import time

import grpc

from control_plane.event_loop import GrpcEventLoop, run

Method = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

CALLS = 400
"""More than gRPC's socket has room for."""


async def turns_for_a_burst() -> int:
    """Return how many turns of the loop it takes until it has heard how all calls ended.

    They end while the loop is busy: nobody listens where they go.
    """
    turns = 0
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Method = channel.unary_unary("/service/method")
        calls = [asyncio.ensure_future(_ended(method)) for _ in range(CALLS)]
        await asyncio.sleep(0)
        time.sleep(1.0)  # noqa: ASYNC251 - this is what keeps the loop busy
        heard = asyncio.gather(*calls)
        while not heard.done():
            turns += 1
            await asyncio.sleep(0)
        assert set(await heard) == {grpc.StatusCode.UNAVAILABLE}
    return turns


async def _ended(method: Method) -> grpc.StatusCode:
    return await method(b"").code()


def test_a_burst_of_events_takes_a_few_turns() -> None:
    """All that gRPC has to tell by then is heard at once, however many clients it concerns."""
    # On a busy machine some end later than the loop is free again.
    assert any(run(turns_for_a_burst()) < CALLS / 4 for _ in range(10))


def test_the_usual_loop_takes_a_turn_for_each() -> None:
    """As long as gRPC takes one octet a turn there is a reason for a loop of our own."""
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(turns_for_a_burst()) > CALLS / 2


def test_other_sockets_are_left_to_their_readers() -> None:
    """Only the octets of gRPC mean nothing: any other reader finds what was sent to it."""

    async def read() -> bytes:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, GrpcEventLoop)
        here, there = socket.socketpair()
        with here, there:
            arrived: asyncio.Future[bytes] = loop.create_future()
            loop.add_reader(here, lambda: arrived.set_result(here.recv(16)))
            there.send(b"datagram")
            try:
                return await arrived
            finally:
                loop.remove_reader(here)

    assert run(read()) == b"datagram"
