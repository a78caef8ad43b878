"""The nodes that a server knows: who is woken, what is kept, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from control_plane.nodes import LiveStream, Nodes, StreamObserver, Variant
from control_plane.xds.events import Connected, Event
from control_plane.xds.messages import Node, Reply, SotwRequest
from control_plane.xds.resource import Nonce, Resource, TypeUrl, Version
from control_plane.xds.resource_type import CLUSTER, SECRET, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream


class Recorder:
    """An observer that writes down what it is told, and fails when asked to."""

    def __init__(self, *, failing: bool = False) -> None:
        """Start with an empty record."""
        self.seen: list[str] = []
        self._failing = failing

    def opened(self, live: LiveStream) -> None:
        """Note it."""
        self._note(f"opened {live.number}")

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Note it."""
        self._note(f"told {live.number} {len(events)}")

    def sent(self, live: LiveStream, reply: Reply) -> None:
        """Note it."""
        self._note(f"sent {live.number} {reply.nonce}")

    def closed(self, live: LiveStream) -> None:
        """Note it."""
        self._note(f"closed {live.number}")

    def _note(self, what: str) -> None:
        self.seen.append(what)
        if self._failing:
            raise RuntimeError(what)


def stream_of(
    node_id: str, number: int = 1, type_url: TypeUrl = CLUSTER, *, program: str = ""
) -> LiveStream:
    """Return a stream whose client told its node, and asked for a type."""
    stream = Stream(ResourceTypes.of())
    request = SotwRequest(type_url, node=Node(node_id, user_agent=program))
    stream.identify(request)
    stream.receive(request, 0.0)
    return LiveStream(number, stream, Variant.SOTW, "peer", (), datetime.now(UTC))


def snapshot(body: bytes) -> Snapshot:
    """Return a snapshot with one cluster."""
    resources = TypeSnapshot.of([Resource.of(CLUSTER, "a", body)])
    return Snapshot({CLUSTER: resources})


async def is_woken(live: LiveStream) -> bool:
    """Tell whether a stream was woken since it was last asked."""
    was = live._woken.is_set()
    await live.woken(0)
    return was


async def test_only_the_streams_of_the_node_are_woken() -> None:
    """A new snapshot wakes every stream of its node, and nobody else's."""
    nodes = Nodes()
    first, second, other = stream_of("a", 1), stream_of("a", 2), stream_of("b", 3)
    for live in (first, second, other):
        nodes.opened(live)

    nodes.set("a", snapshot(b"1"))

    assert [await is_woken(each) for each in (first, second, other)] == [True, True, False]
    assert nodes.snapshot("a") == snapshot(b"1")
    assert nodes.snapshot("b") is None


async def test_streams_that_did_not_ask_for_what_changed_sleep_on() -> None:
    """A stream for names is not woken by a cluster, and one for clusters is by what is gone."""
    nodes = Nodes()
    clusters, secrets = stream_of("a", 1), stream_of("a", 2, SECRET)
    for live in (clusters, secrets):
        nodes.opened(live)

    nodes.set("a", snapshot(b"1"))
    assert [await is_woken(each) for each in (clusters, secrets)] == [True, True]

    nodes.set("a", snapshot(b"2"))
    assert [await is_woken(each) for each in (clusters, secrets)] == [True, False]

    nodes.set("a", Snapshot())
    assert [await is_woken(each) for each in (clusters, secrets)] == [True, False]


async def test_streams_that_did_not_ask_for_what_changed_of_the_default_sleep_on() -> None:
    """It wakes no more than a node's own content does, and what did not change is the same."""
    nodes = Nodes()
    clusters, secrets = stream_of("a", 1), stream_of("b", 2, SECRET)
    for live in (clusters, secrets):
        nodes.opened(live)
    one_more = TypeSnapshot.of([Resource.of(SECRET, "s", b"1")])

    nodes.set_default(snapshot(b"1"))
    assert [await is_woken(each) for each in (clusters, secrets)] == [True, True]
    before = nodes.snapshot("a")

    nodes.set_default(Snapshot({**snapshot(b"1").types, SECRET: one_more}))
    assert [await is_woken(each) for each in (clusters, secrets)] == [False, True]
    after = nodes.snapshot("a")
    assert before is not None
    assert after is not None
    assert after.of_type(CLUSTER) is before.of_type(CLUSTER)

    nodes.set_default(None)
    assert [await is_woken(each) for each in (clusters, secrets)] == [True, True]


async def test_the_first_content_of_a_node_wakes_also_who_asked_for_something_else() -> None:
    """W15, W7: that there is none of it is news, for which an Envoy waits up to 15 s."""
    nodes = Nodes()
    planned, unplanned = stream_of("a", 1, SECRET), stream_of("b", 2, SECRET)
    for live in (planned, unplanned):
        nodes.opened(live)

    nodes.set("a", snapshot(b"1"))
    assert [await is_woken(each) for each in (planned, unplanned)] == [True, False]

    nodes.set_default(snapshot(b"1"))
    assert [await is_woken(each) for each in (planned, unplanned)] == [False, True]


async def test_who_had_what_is_for_everybody_is_woken_by_what_is_gone() -> None:
    """The first content of a node's own replaces the default, also where it has less."""
    nodes = Nodes()
    nodes.set_default(snapshot(b"1"))
    live = stream_of("a")
    nodes.opened(live)

    nodes.set("a", Snapshot())

    assert await is_woken(live)


async def test_the_same_content_wakes_nobody() -> None:
    """A snapshot that was made anew with the same content is no news (R6)."""
    nodes, live = Nodes(), stream_of("a")
    nodes.opened(live)
    nodes.set("a", snapshot(b"1"))
    await live.woken(0)

    nodes.set("a", snapshot(b"1"))

    assert not await is_woken(live)


async def test_the_default_is_for_nodes_without_a_snapshot() -> None:
    """What is set for everybody else wakes and reaches those, and only those."""
    nodes = Nodes()
    named, unnamed = stream_of("a", 1), stream_of("b", 2)
    nodes.set("a", snapshot(b"1"))
    nodes.opened(named)
    nodes.opened(unnamed)

    nodes.set_default(snapshot(b"2"))

    assert [await is_woken(each) for each in (named, unnamed)] == [False, True]
    assert nodes.snapshot("a") == snapshot(b"1")
    assert nodes.snapshot("b") == snapshot(b"2")
    assert nodes.snapshot("never seen") == snapshot(b"2")

    nodes.set_default(snapshot(b"2"))

    assert not await is_woken(unnamed)


async def test_what_is_withheld_is_not_sent_before_it_is_set() -> None:
    """Then its streams look, also where it is the same; what a node should have stays known."""
    nodes, live = Nodes(), stream_of("a")
    nodes.withhold("never seen")
    nodes.set("a", snapshot(b"1"))
    nodes.opened(live)
    before = nodes.snapshot("a")
    nodes.withhold("a")
    assert nodes.sendable("a") is None
    assert nodes.snapshot("a") is before
    assert not await is_woken(live)

    nodes.set("a", snapshot(b"1"))

    assert nodes.sendable("a") is before
    assert await is_woken(live)
    nodes.set("a", snapshot(b"1"))
    assert not await is_woken(live)


def test_refusals_outlive_the_streams_of_a_node() -> None:
    """What a node refused is known to its next stream, until the node is forgotten (A7)."""
    nodes, (first, second, third) = Nodes(), [stream_of("a", number) for number in range(3)]
    nodes.set("a", snapshot(b"1"))
    nodes.opened(first)
    nodes.closed(first)
    nodes.opened(second)

    assert second.stream._refusals is first.stream._refusals

    nodes.closed(second)
    nodes.forget("a")
    nodes.opened(third)

    assert third.stream._refusals is not first.stream._refusals


def test_each_program_of_a_node_has_its_own_refusals() -> None:
    """What Envoy refused is no word against its next release, nor forgotten for a resolver (A7)."""
    nodes = Nodes()
    nodes.set("a", snapshot(b"1"))
    programs = ["envoy/1.36.0", "c2c-sidecar", "envoy/1.36.0", "envoy/1.40.0"]
    streams = [stream_of("a", number, program=each) for number, each in enumerate(programs)]
    for live in streams:
        nodes.opened(live)
        nodes.closed(live)

    refusals = [live.stream._refusals for live in streams]
    assert refusals[2] is refusals[0]
    assert len({id(each) for each in refusals}) == 3


def test_a_node_that_nobody_planned_leaves_nothing_behind() -> None:
    """Clients that make up node ids cannot make the server remember them."""
    nodes, live = Nodes(), stream_of("a")

    nodes.opened(live)
    nodes.closed(live)

    assert nodes._by_id == {}


def test_a_forgotten_node_keeps_its_streams_and_nothing_else() -> None:
    """Its streams stay open, with nothing to send, and go without a trace."""
    nodes, live = Nodes(), stream_of("a")
    nodes.set("a", snapshot(b"1"))
    nodes.opened(live)

    nodes.forget("a")

    assert nodes.snapshot("a") is None
    assert nodes.streams("a") == (live,)

    nodes.closed(live)

    assert nodes._by_id == {}
    nodes.forget("never seen")


def test_a_forgotten_node_is_known_by_what_it_refuses_as_long_as_it_has_streams() -> None:
    """What it refuses on them, once something is set again, its next stream is not sent (A7)."""
    nodes, first, second = Nodes(), stream_of("a", 1), stream_of("a", 2)
    nodes.set("a", snapshot(b"1"))
    nodes.opened(first)
    nodes.forget("a")
    nodes.set("a", snapshot(b"2"))
    nodes.closed(first)
    nodes.opened(second)

    assert second.stream._refusals is first.stream._refusals

    nodes.forget("a")
    nodes.closed(second)
    nodes.opened(second)

    assert second.stream._refusals is not first.stream._refusals


async def test_a_forgotten_node_is_sent_what_is_for_everybody_at_once() -> None:
    """Its streams look, without waiting for a request or a change."""
    nodes, live = Nodes(), stream_of("a")
    nodes.set_default(snapshot(b"2"))
    nodes.set("a", snapshot(b"1"))
    nodes.opened(live)

    nodes.forget("a")

    assert nodes.snapshot("a") == snapshot(b"2")
    assert await is_woken(live)


def test_streams_are_listed_oldest_first() -> None:
    """Two streams of one node are both there and told apart (V6)."""
    nodes = Nodes()
    lives = [stream_of("a", 1), stream_of("b", 2), stream_of("a", 3)]
    for live in lives:
        nodes.opened(live)

    assert [live.number for live in nodes.streams("a")] == [1, 3]
    assert {live.number for live in nodes.all_streams()} == {1, 2, 3}
    assert nodes.streams("c") == ()


def test_every_observer_is_told_of_everything() -> None:
    """Each sees opened, told, sent and closed of each stream, in that order."""
    nodes, live, recorder = Nodes(), stream_of("a"), Recorder()
    nodes.observe(recorder)

    nodes.opened(live)
    nodes.told(live, (Connected(Node("a")),))
    nodes.sent(live, Reply(TypeUrl("t"), Nonce("7"), Version(""), ()))
    nodes.closed(live)

    assert recorder.seen == ["opened 1", "told 1 1", "sent 1 7", "closed 1"]


def test_an_observer_hears_what_it_wants_to_hear() -> None:
    """Whoever inherits from ``StreamObserver`` defines no method for what it has no use for."""

    class Closing(StreamObserver):
        def __init__(self) -> None:
            self.closed_streams: list[LiveStream] = []

        def closed(self, live: LiveStream) -> None:
            self.closed_streams.append(live)

    nodes, observer, live = Nodes(), Closing(), stream_of("n")
    nodes.observe(observer)
    nodes.opened(live)
    nodes.told(live, [Connected(Node("n"))])
    nodes.sent(live, Reply(SECRET, Nonce("1"), Version("v"), ()))
    nodes.closed(live)
    assert observer.closed_streams == [live]


def test_a_stream_that_was_never_let_in_is_nobodys_business() -> None:
    """Who was refused at the door was never opened, so it is not closed either."""
    nodes, recorder = Nodes(), Recorder()
    nodes.observe(recorder)

    nodes.closed(stream_of("a"))

    assert recorder.seen == []


def test_an_observer_that_fails_does_not_keep_others_from_being_told() -> None:
    """The failure is raised after all were told, so that their books balance."""
    nodes, live, recorder = Nodes(), stream_of("a"), Recorder()
    nodes.observe(Recorder(failing=True))
    nodes.observe(recorder)

    with pytest.RaisesGroup(RuntimeError):
        nodes.opened(live)
    with pytest.RaisesGroup(RuntimeError):
        nodes.closed(live)

    assert recorder.seen == ["opened 1", "closed 1"]
    assert nodes.all_streams() == ()


async def test_only_the_first_reason_ends_a_stream() -> None:
    """Whatever goes wrong while a stream is being ended does not change why it ended."""
    live = stream_of("a")
    waiting = asyncio.create_task(live.ended())

    live.end(None)
    live.end(RuntimeError("later"))

    await waiting
    assert live.ended_by is None


def test_a_stream_has_no_node_before_its_first_request() -> None:
    """Nobody's id is the empty one."""
    live = LiveStream(1, Stream(ResourceTypes.of()), Variant.DELTA, "peer", (), datetime.now(UTC))

    assert live.node_id == ""
