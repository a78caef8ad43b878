"""When the streams of identities end, without sockets."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from control_plane.errors import Unavailable
from control_plane.nodes import Credential, LiveStream, Nodes, Variant
from control_plane.reconciler.certificates.holdings import Holdings
from control_plane.reconciler.certificates.ledger import Ledger
from control_plane.server.access import identity_watch
from control_plane.server.access.certificate_end import MARGIN_SECONDS
from control_plane.server.access.identity_watch import SETTLING_SECONDS, IdentityWatch
from control_plane.xds.messages import DeltaRequest, Node
from control_plane.xds.resource_type import CLUSTER, ResourceTypes
from control_plane.xds.stream import Stream
from tests.unit.server_security.still_clock import NOON
from tests.unit.server_security.test_identities import GUID, World


class Watched(World):
    """Identities of one instance, its streams, and who watches them."""

    def __init__(self) -> None:
        """Start with no stream."""
        super().__init__()
        self.nodes = Nodes()
        holdings = Holdings(Ledger(self.clock), ())
        self.watch = IdentityWatch(
            self.nodes, self.identities, holdings, lambda _: False, self.clock
        )
        self.nodes.observe(self.watch)

    def opened(self, lifetime: timedelta) -> LiveStream:
        """Open a stream with a new certificate that lives so long."""
        serial = self.issue()
        stream = Stream(ResourceTypes.of())
        stream.identify(DeltaRequest(CLUSTER, node=Node(GUID)))
        live = LiveStream(1, stream, Variant.DELTA, "peer", (), NOON)
        live.credential = Credential(serial, NOON + lifetime)
        self.nodes.opened(live)
        return live

    def left(self, live: LiveStream) -> float:
        """Return in how many seconds a stream has to end."""
        return self.watch._timers[live].when() - asyncio.get_running_loop().time()


async def test_a_stream_ends_before_its_certificate() -> None:
    """Also where a renewal would give it more time."""
    world = Watched()
    live = world.opened(timedelta(seconds=MARGIN_SECONDS + SETTLING_SECONDS / 2))

    assert world.left(live) == pytest.approx(SETTLING_SECONDS / 2, abs=0.5)

    world.issue()

    assert world.left(live) <= SETTLING_SECONDS / 2


async def test_a_stream_ends_although_the_clock_jumped_over_its_end() -> None:
    """The certificate ends by the wall clock, whatever timers were set before that was set."""
    world = Watched()
    live = world.opened(timedelta(hours=1))
    world.clock.set(timedelta(hours=2))
    world.watch.clock_jumped()
    async with asyncio.timeout(5):
        await live.ended()

    assert str(live.ended_by) == "the client certificate ends: come back"


async def test_a_clock_that_is_set_back_gives_a_stream_no_more_time() -> None:
    """The end only ever comes nearer."""
    world = Watched()
    live = world.opened(timedelta(hours=1))
    before = world.watch._timers[live].when()
    world.clock.set(-timedelta(hours=2))
    world.watch.clock_jumped()

    assert world.watch._timers[live].when() == before


async def test_a_stream_without_a_certificate_has_no_end() -> None:
    """Not by a clock that is set either."""
    world = Watched()
    live = world.opened(timedelta(hours=1))
    live.credential = None
    world.clock.set(timedelta(hours=2))
    world.watch.clock_jumped()

    assert world.left(live) > timedelta(minutes=59).total_seconds()


async def test_a_renewal_has_the_stream_end_soon() -> None:
    """Its certificate would have been good for longer."""
    world = Watched()
    live = world.opened(timedelta(hours=1))
    world.issue()

    assert world.left(live) <= SETTLING_SECONDS


async def test_a_stream_that_is_gone_is_remembered_by_no_timer() -> None:
    """Neither by the one that was set last, nor by one before it."""
    world = Watched()
    live = world.opened(timedelta(hours=1))
    first = world.watch._timers[live]
    world.issue()
    second = world.watch._timers[live]

    assert (first.cancelled(), second.cancelled()) == (True, False)

    world.nodes.closed(live)

    assert second.cancelled()
    assert world.watch._timers == {}


async def test_a_second_renewal_gives_a_stream_no_more_time() -> None:
    """The moment at which it has to end stays what the first one made it."""
    world = Watched()
    live = world.opened(timedelta(hours=1))
    world.issue()
    at = world.watch._timers[live].when()
    world.issue()

    assert world.watch._timers[live].when() == at


async def test_whoever_comes_back_with_an_older_identity_is_sent_away_again() -> None:
    """Else a client that keeps its connection would show the old certificate until that ends."""
    world = Watched()
    live = world.opened(timedelta(hours=1))
    world.nodes.closed(live)
    world.issue()
    world.nodes.opened(live)

    assert world.left(live) <= SETTLING_SECONDS


async def test_whoever_opened_a_stream_is_starting_no_more() -> None:
    """Once that stream is gone it is away, and may count as gone."""
    world = Watched()
    world.issue()
    assert world.identities.is_starting(GUID)
    live = world.opened(timedelta(hours=1))
    world.nodes.closed(live)

    assert not world.identities.is_starting(GUID)


async def test_a_stream_on_an_older_identity_ends_before_that_does() -> None:
    """It comes when a newer certificate was issued already, and its own has little left."""
    world = Watched()
    soon = timedelta(seconds=MARGIN_SECONDS)
    live = world.opened(timedelta(hours=1))
    world.nodes.closed(live)
    live.credential = Credential(1, NOON + soon)
    world.issue()
    world.nodes.opened(live)

    assert world.left(live) <= 0


async def test_whoever_renews_again_and_again_loses_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often it does, the stream ends and its client is told to come back."""
    monkeypatch.setattr(identity_watch, "SETTLING_SECONDS", 0.1)
    world = Watched()
    live = world.opened(timedelta(hours=1))
    over = asyncio.create_task(live.ended())
    async with asyncio.timeout(5):
        while not over.done():
            world.issue()
            await asyncio.wait([over], timeout=0.02)

    assert isinstance(live.ended_by, Unavailable)
    assert str(live.ended_by) == "a newer certificate was issued to this instance: come back"
