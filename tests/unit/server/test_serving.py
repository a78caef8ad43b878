"""A stream that is served looks again when something is due, and only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

from envoy.service.discovery.v3 import discovery_pb2
from google.rpc import status_pb2

from control_plane.nodes import LiveStream, Nodes, Variant
from control_plane.server.access.admission import Context, Everybody
from control_plane.server.access.arrivals import Arrivals
from control_plane.server.discovery.serving import ServedBy, Serving
from control_plane.server.limits import ServerLimits
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import LISTENER, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.server_security.still_clock import StillClock
from tests.waiting import eventually

NODE = "n"
TURNS = 200
LISTENER_1 = Resource.of(LISTENER, "l", b"1")


class BusyClock(StillClock):
    """A clock of a busy machine: seconds may pass from one look at it to the next."""

    def __init__(self) -> None:
        """Start as an idle one."""
        super().__init__()
        self.passed = 0.0
        self.step = 0.0
        self.looks = 0

    def monotonic(self) -> float:
        """Return the seconds that have passed, and let some more pass."""
        self.looks += 1
        self.passed += self.step
        return self.passed - self.step


class Call:
    """The call of a client that says what a test has it say, and reads everything."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self._said: asyncio.Queue[bytes] = asyncio.Queue()
        self.heard: list[Any] = []

    def say(self, **fields: Any) -> None:  # noqa: ANN401 - any field of the message
        """Say something about listeners."""
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=LISTENER, **fields)
        self._said.put_nowait(request.SerializeToString())

    def refuse(self) -> None:
        """Refuse the last response."""
        error = status_pb2.Status(code=13, message="the port is taken")
        self.say(response_nonce=self.heard[-1].nonce, error_detail=error)

    def peer(self) -> str:
        """Return where it comes from."""
        return "ipv4:127.0.0.1:1"

    def peer_identities(self) -> None:
        """Return no name, as without a certificate."""

    async def send_initial_metadata(self, _: object) -> None:
        """Take it."""

    async def read(self) -> bytes:
        """Return what is said next."""
        return await self._said.get()

    async def write(self, raw: bytes) -> None:
        """Hear a response."""
        self.heard.append(discovery_pb2.DeltaDiscoveryResponse.FromString(raw))


@asynccontextmanager
async def served(clock: BusyClock, nodes: Nodes) -> AsyncIterator[Call]:
    """Serve a client that asked for its one listener and was sent it."""
    nodes.set(NODE, Snapshot({LISTENER: TypeSnapshot.of([LISTENER_1])}))
    limits = ServerLimits()
    by = ServedBy(nodes, Everybody(), Arrivals(limits, clock), limits, clock, "cp")
    stream = Stream(ResourceTypes.of())
    live = LiveStream(1, stream, Variant.DELTA, "peer", (), datetime.now(UTC))
    call = Call()
    serving = asyncio.create_task(Serving(live, cast("Context", call), by).run())
    call.say(node={"id": NODE})
    await eventually(lambda: call.heard, "the listener is sent")
    try:
        yield call
    finally:
        live.end(None)
        await serving
        assert live.ended_by is None


async def is_quiet(clock: BusyClock) -> bool:
    """Tell whether nobody looks at the clock as long as nothing happens."""
    before = clock.looks
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return clock.looks - before < TURNS / 10


async def test_what_becomes_due_after_a_look_is_not_missed() -> None:
    """A7: it is due before the stream has worked out how long it may sleep."""
    clock, nodes = BusyClock(), Nodes()
    async with served(clock, nodes) as call:
        clock.step = 0.9
        call.refuse()
        await eventually(lambda: len(call.heard) > 1, "the listener is tried again")

        assert await is_quiet(clock), "it looks again and again while an answer is awaited"


async def test_what_is_due_and_may_not_be_sent_is_not_looked_at_again_and_again() -> None:
    """A7: a node from which everything is withheld is woken once that is over."""
    clock, nodes = BusyClock(), Nodes()
    async with served(clock, nodes) as call:
        nodes.withhold(NODE)
        clock.step = 1.1
        call.refuse()
        await eventually(lambda: clock.passed > 2.0, "it is due, and was looked at")

        assert await is_quiet(clock)
        assert len(call.heard) == 1

        nodes.set(NODE, Snapshot({LISTENER: TypeSnapshot.of([LISTENER_1])}))
        await eventually(lambda: len(call.heard) > 1, "the listener is tried again")


async def test_until_something_is_due_it_is_not_looked_for() -> None:
    """A7: a stream that waits to try again costs nothing meanwhile."""
    clock, nodes = BusyClock(), Nodes()
    async with served(clock, nodes) as call:
        (live,) = nodes.streams(NODE)
        call.refuse()
        await eventually(lambda: live.stream.next_due(0.0) is not None, "it is refused")

        assert await is_quiet(clock)
