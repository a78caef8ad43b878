"""What a stream tells of resources that end in the client by themselves."""

from __future__ import annotations

import pytest

from control_plane.xds.delivery import ConfigStatus, deliveries
from control_plane.xds.events import Nacked, Stale
from control_plane.xds.heartbeat import BEATS, SOONEST, UNANSWERED
from control_plane.xds.messages import DeltaRequest, Node, Reply, Request, SotwRequest
from control_plane.xds.resource import LONGEST_TTL, SHORTEST_TTL, Resource, TypeUrl
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    ROUTE,
    RUNTIME,
    SECRET,
    VIRTUAL_HOST,
    ResourceTypes,
)
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.peers import REFUSED, SotwPeer

TTL = 6.0
BEAT = TTL / BEATS
TTL_FEATURE = "xds.config.supports-resource-ttl"
WRAPPING = "xds.config.resource-in-sotw"
WRAPPING_IN_THE_TEXT = "xds.config.supports-resource-in-sotw"
NODE = Node("n", client_features=frozenset({TTL_FEATURE, WRAPPING}))

VARIANTS = pytest.mark.parametrize("delta", [True, False], ids=["delta", "sotw"])


def resource(name: str, version: int = 1, ttl: float | None = None, url: str = CLUSTER) -> Resource:
    """Return a resource with this content."""
    return Resource.of(url, name, f"{name}@{version}".encode(), ttl=ttl)


class Client:
    """A client of one type that is silent until it is told to answer."""

    def __init__(
        self, *resources: Resource, delta: bool, node: Node = NODE, url: TypeUrl = CLUSTER
    ) -> None:
        """Open a stream to a server that has these resources for its node."""
        self.stream = Stream(ResourceTypes.of())
        self.delta = delta
        self.url = url
        self.now = 100.0
        self._node: Node | None = node
        self._names: tuple[str, ...] = ()
        self.put(*resources)

    def ask(self, *names: str, nonce: str = "") -> list[Reply]:
        """Ask for these names of the type, or for everything by none."""
        self._names = names
        return self._send(nonce)

    def answer(self, reply: Reply, *, refuse: bool = False) -> list[Reply]:
        """Answer a response."""
        return self._send(reply.nonce, refuse=refuse)

    def put(self, *resources: Resource) -> list[Reply]:
        """Give the node other resources; return the responses."""
        self.snapshot = Snapshot({self.url: TypeSnapshot.of(resources)})
        return self.hear()

    def wait(self, seconds: float) -> list[Reply]:
        """Let time pass; return the responses."""
        self.now += seconds
        return self.hear()

    def hear(self) -> list[Reply]:
        """Return the responses that the stream has by now, and none twice."""
        replies = self.stream.replies(self.snapshot, self.now)
        assert self.stream.replies(self.snapshot, self.now) == []
        return replies

    def statuses(self) -> dict[str, ConfigStatus]:
        """Return how far each resource got."""
        return {each.name: each.status for each in deliveries(self.stream, self.snapshot)}

    def _send(self, nonce: str, *, refuse: bool = False) -> list[Reply]:
        node, self._node = self._node, None
        error = REFUSED if refuse else None
        request: Request
        if self.delta:
            names = () if nonce else self._names
            request = DeltaRequest(
                self.url, names, response_nonce=nonce, error_detail=error, node=node
            )
        else:
            request = SotwRequest(
                self.url, self._names, response_nonce=nonce, error_detail=error, node=node
            )
        self.stream.identify(request)
        self.told = self.stream.receive(request, self.now)
        return self.hear()


def settled(*resources: Resource, delta: bool) -> Client:
    """Return a client that has all this."""
    client = Client(*resources, delta=delta)
    (reply,) = client.ask()
    assert client.answer(reply) == []
    return client


def shown(reply: Reply) -> tuple[list[str], list[str]]:
    """Return what a response has with content, and what of it has a TTL."""
    return [each.body.decode() for each in reply.resources], sorted(reply.ttls)


@VARIANTS
def test_content_is_sent_with_its_ttl(*, delta: bool) -> None:
    """T1, T3: and what has none is sent as ever."""
    (reply,) = Client(resource("a", ttl=TTL), resource("b"), delta=delta).ask()
    assert shown(reply) == (["a@1", "b@1"], ["a"])
    assert reply.ttls == {"a": TTL}
    assert not reply.is_heartbeat


@pytest.mark.parametrize(
    ("features", "delta", "sotw"),
    [((), False, False), ((TTL_FEATURE,), True, False), ((WRAPPING,), False, False)],
)
def test_ttls_are_for_clients_that_support_them(
    features: tuple[str, ...], *, delta: bool, sotw: bool
) -> None:
    """T1, T3, N4: other clients see no difference at all."""
    node = Node("n", client_features=frozenset(features))
    for variant, supported in ((True, delta), (False, sotw)):
        client = Client(resource("a", ttl=TTL), delta=variant, node=node)
        (reply,) = client.ask()
        client.answer(reply)
        assert bool(reply.ttls) is supported
        assert bool(client.wait(BEAT)) is supported


def test_feature_of_the_state_of_the_world_has_either_name() -> None:
    """T3, N4: the text of the protocol calls it otherwise than the list of features does."""
    node = Node("n", client_features=frozenset({TTL_FEATURE, WRAPPING_IN_THE_TEXT}))
    (reply,) = Client(resource("a", ttl=TTL), delta=False, node=node).ask()
    assert reply.ttls == {"a": TTL}


@pytest.mark.parametrize("url", [CLUSTER, LISTENER, RUNTIME, ENDPOINT, ROUTE, SECRET])
@VARIANTS
def test_envoy_is_told_no_ttl_whose_end_would_crash_it(url: TypeUrl, *, delta: bool) -> None:
    """T1: in SotW it outlives TTLs of clusters, listeners and runtimes, in delta those of all."""
    node = Node("n", user_agent="envoy/1.40.0", client_features=NODE.client_features)
    (reply,) = Client(resource("a", ttl=TTL, url=url), delta=delta, node=node, url=url).ask("a")
    assert bool(reply.ttls) is (delta or url in {CLUSTER, LISTENER, RUNTIME})


def test_virtual_hosts_have_no_ttl() -> None:
    """T2: without content they would be those that do not exist."""
    host = resource("r/a", ttl=TTL, url=VIRTUAL_HOST)
    client = Client(host, delta=True, url=VIRTUAL_HOST)
    (reply,) = client.ask("r/a")
    assert client.answer(reply) == []
    assert not reply.ttls
    assert client.wait(TTL) == []


def test_heartbeat_has_name_and_version_and_no_content() -> None:
    """T2: one leaves each third of the TTL, of what has one."""
    client = settled(resource("a", ttl=TTL), resource("b"), delta=True)
    assert client.wait(BEAT - 0.1) == []
    (beat,) = client.wait(0.1)
    assert beat.is_heartbeat
    assert beat.kept == {"a": resource("a").version}
    assert beat.ttls == {"a": TTL}
    assert not beat.resources
    assert client.answer(beat) == []
    assert client.told == ()
    assert len(client.wait(BEAT)) == 1


def test_heartbeat_of_the_state_of_the_world_has_all_content() -> None:
    """T3, R3: Envoy would take what has none for gone, with all that is not there."""
    client = settled(resource("a", ttl=TTL), resource("b"), delta=False)
    (beat,) = client.wait(BEAT)
    assert beat.is_heartbeat
    assert shown(beat) == (["a@1", "b@1"], ["a"])
    assert client.answer(beat) == []
    assert client.told == ()
    assert len(client.wait(BEAT)) == 1


def test_heartbeat_of_the_state_of_the_world_has_what_the_client_has() -> None:
    """T3, O1: and not what is to come, which has to wait for something else."""
    first, second = (resource("l", each, ttl=TTL, url=LISTENER) for each in (1, 2))
    peer = SotwPeer(CDS="c@1", node=NODE)
    peer.snapshot = Snapshot({**peer.snapshot.types, LISTENER: TypeSnapshot.of([first])})
    for short in ("CDS", "LDS"):
        peer.take(short)
    peer.snapshot = Snapshot({**peer.snapshot.types, LISTENER: TypeSnapshot.of([second])})
    assert peer.put(CDS="c@2") == ["3 CDS c@2"]
    assert peer.wait(BEAT) == ["4 LDS l@1"]
    assert peer.ack("CDS") == ["5 LDS l@2"]


@pytest.mark.parametrize(("had", "due"), [(TTL, 2 * TTL), (None, TTL), (2 * TTL, TTL)])
def test_heartbeat_of_the_state_of_the_world_tells_a_ttl_that_is_to_come(
    had: float | None, due: float
) -> None:
    """T2, T3, R6: once, or each ACK of a heartbeat would bring the next one, without a pause."""
    first, second = (resource("l", version, ttl, LISTENER) for version, ttl in ((1, had), (2, due)))
    peer = SotwPeer(CDS="c@1", node=NODE)
    peer.snapshot = Snapshot({**peer.snapshot.types, LISTENER: TypeSnapshot.of([first])})
    for short in ("CDS", "LDS"):
        peer.ask(short)
        peer.ack(short)
    peer.snapshot = Snapshot({**peer.snapshot.types, LISTENER: TypeSnapshot.of([second])})
    assert peer.put(CDS="c@2") == ["3 CDS c@2", "4 LDS l@1"]
    assert peer.ack("LDS") == []
    assert peer.stream.next_due(peer.now) == peer.now + due / BEATS
    assert peer.wait(due / BEATS) == ["5 LDS l@1"]


def test_heartbeat_of_the_state_of_the_world_changes_no_other_ttl() -> None:
    """T3, T4: all content is in it, with each TTL, which needs no heartbeat of its own then."""
    kept = resource("a", ttl=TTL), resource("b", ttl=1.5 * TTL), resource("c")
    client = settled(*kept, delta=False)
    (beat,) = client.wait(BEAT)
    assert shown(beat) == (["a@1", "b@1", "c@1"], ["a", "b"])
    assert beat.ttls == {"a": TTL, "b": 1.5 * TTL}
    assert client.answer(beat) == []
    assert client.stream.next_due(client.now) == client.now + BEAT


def test_heartbeat_in_part_has_the_content_that_it_keeps() -> None:
    """T3, R4: of a type whose responses are not complete, nothing else is sent again."""
    kept, other = (resource(name, ttl=ttl, url=RUNTIME) for name, ttl in (("a", TTL), ("b", None)))
    client = Client(kept, other, delta=False, url=RUNTIME)
    (reply,) = client.ask("a", "b")
    client.answer(reply)
    (beat,) = client.wait(BEAT)
    assert shown(beat) == (["a@1"], ["a"])


def test_heartbeat_in_part_has_nothing_that_was_refused() -> None:
    """T3, A7: in whatever guise; what the client has ends, since it is not there to be sent."""
    client = Client(resource("a", ttl=TTL, url=EXTENSION_CONFIG), delta=False, url=EXTENSION_CONFIG)
    (reply,) = client.ask("a")
    client.answer(reply)
    (update,) = client.put(resource("a", 2, ttl=TTL, url=EXTENSION_CONFIG))
    client.answer(update, refuse=True)
    assert client.wait(BEAT) == []


def test_what_could_not_be_kept_alive_is_sent_as_soon_as_it_is_there_again() -> None:
    """T3, R4: the client was not told that it was gone, and may have let go of it by itself."""
    client = Client(resource("a", ttl=TTL, url=RUNTIME), delta=False, url=RUNTIME)
    (reply,) = client.ask("a")
    client.answer(reply)
    assert client.put() == []
    assert client.wait(TTL) == []
    (beat,) = client.put(resource("a", ttl=TTL, url=RUNTIME))
    assert shown(beat) == (["a@1"], ["a"])
    assert client.put() == []
    assert client.wait(TTL) == []
    (update,) = client.put(resource("a", url=RUNTIME))
    assert shown(update) == (["a@1"], [])


def test_request_that_follows_a_heartbeat_is_not_stale() -> None:
    """A8, W2: its nonce is that of the newest response, and what it asks for is sent at once."""
    kept, other = (resource(name, ttl=ttl, url=RUNTIME) for name, ttl in (("a", TTL), ("b", None)))
    client = Client(kept, other, delta=False, url=RUNTIME)
    (reply,) = client.ask("a")
    client.answer(reply)
    (beat,) = client.wait(BEAT)
    client.answer(beat)
    assert client.ask("a", "b", nonce=reply.nonce) == []
    assert client.told[0] == Stale(RUNTIME, reply.nonce)
    (news,) = client.ask("a", "b", nonce=beat.nonce)
    assert shown(news) == (["b@1"], [])


@VARIANTS
def test_heartbeat_is_no_update(*, delta: bool) -> None:
    """T2, A2: it has the version that the client knows, and is nothing that could be STALE."""
    client = Client(resource("a", ttl=TTL), delta=delta)
    (reply,) = client.ask()
    client.answer(reply)
    before = client.stream.machines[CLUSTER].exchange.accepted["a"]
    (beat,) = client.wait(BEAT)
    assert beat.version == reply.version
    assert beat.nonce != reply.nonce
    assert client.statuses() == {"a": ConfigStatus.SYNCED}
    assert client.stream.in_step(client.snapshot)
    client.answer(beat)
    assert client.stream.machines[CLUSTER].exchange.accepted["a"] == before


@VARIANTS
def test_update_leaves_although_a_heartbeat_is_not_answered(*, delta: bool) -> None:
    """T2: a heartbeat is not in flight, and the answer to it is none to the update."""
    client = settled(resource("a", ttl=TTL), resource("b"), delta=delta)
    (beat,) = client.wait(BEAT)
    (update,) = client.put(resource("a", ttl=TTL), resource("b", 2))
    client.answer(beat)
    assert client.statuses()["b"] is ConfigStatus.STALE
    client.answer(update)
    assert client.statuses()["b"] is ConfigStatus.SYNCED


def test_heartbeat_leaves_although_an_update_is_not_answered() -> None:
    """T2: who is slow to answer must not lose anything, and has what is in flight by then."""
    client = settled(resource("a", ttl=TTL), resource("b", ttl=TTL), delta=True)
    client.wait(1.0)
    (update,) = client.put(resource("a", ttl=TTL), resource("b", 2, ttl=TTL))
    assert not update.is_heartbeat
    (beat,) = client.wait(BEAT - 1.0)
    assert beat.kept == {"a": resource("a").version, "b": resource("b", 2).version}


def test_state_of_the_world_is_not_sent_again_before_it_was_answered() -> None:
    """T3, A10: what the client has is not known before, and nobody looks; then it is at once."""
    client = Client(resource("a", ttl=TTL), delta=False)
    (reply,) = client.ask()
    assert client.wait(BEAT) == []
    assert client.stream.next_due(client.now) is None
    (beat,) = client.answer(reply)
    assert beat.is_heartbeat


@VARIANTS
def test_ttl_that_changes_beside_an_update_is_told(*, delta: bool) -> None:
    """T2: also where that has to be answered first, or the client would drop what it is of."""
    node = (resource("a", ttl=TTL, url=RUNTIME), resource("b", url=RUNTIME))
    client = Client(*node, delta=delta, url=RUNTIME)
    (reply,) = client.ask("a", "b")
    client.answer(reply)
    long_lived = resource("a", ttl=100 * TTL, url=RUNTIME)
    update, *beats = client.put(long_lived, resource("b", 2, url=RUNTIME))
    assert shown(update) == (["b@2"], [])
    beats += client.answer(update)
    assert [(each.is_heartbeat, each.ttls) for each in beats] == [(True, {"a": 100 * TTL})]


def beats_of(client: Client, *, seconds: float) -> list[tuple[float, Reply]]:
    """Return the heartbeats, each with its moment, that a client gets that refuses all else."""
    beats: list[tuple[float, Reply]] = []
    for _ in range(round(seconds * 10)):
        replies = client.wait(0.1)
        while replies:
            reply = replies.pop()
            beats += [(client.now, reply)] if reply.is_heartbeat else []
            replies += client.answer(reply, refuse=not reply.is_heartbeat)
    return beats


@pytest.mark.parametrize("had", [["b@1"], []], ids=["had", "new"])
def test_heartbeat_of_the_state_of_the_world_has_nothing_that_was_refused(had: list[str]) -> None:
    """T3, A7, R3: in its place is what the client had of it, and what else it has lives on."""
    kept = resource("a", ttl=TTL)
    client = settled(kept, *(resource("b") for _ in had), delta=False)
    (update,) = client.put(kept, resource("b", 2))
    assert client.answer(update, refuse=True) == []
    beats = beats_of(client, seconds=10 * TTL)
    assert len(beats) > 20
    assert all(shown(beat) == (["a@1", *had], ["a"]) for _, beat in beats)
    assert client.statuses()["b"] is ConfigStatus.ERROR


@VARIANTS
@pytest.mark.parametrize("since", [0.1, 1.9], ids=["soon", "late"])
def test_content_that_is_refused_over_and_over_ends_nothing(since: float, *, delta: bool) -> None:
    """T2, A7: who refuses content was not told its TTL, so what it has is kept alive as ever."""
    client = settled(resource("a", ttl=TTL), delta=delta)
    told = client.now
    client.wait(since)
    (update,) = client.put(resource("a", 2, ttl=TTL))
    assert client.answer(update, refuse=True) == []
    for at, _ in beats_of(client, seconds=10 * TTL):
        assert at < told + TTL
        told = at
    assert client.now < told + TTL


@pytest.mark.parametrize("first", [True, False], ids=["at first", "later"])
def test_state_of_the_world_that_is_not_known_is_not_sent_again(*, first: bool) -> None:
    """T3, A7: of resources refused together, the client may have some, and nobody knows which."""
    kept, others = resource("a", ttl=TTL / 4), [resource("b"), resource("c")]
    if first:
        client = Client(kept, *others, delta=False)
        (update,) = client.ask()
    else:
        client = settled(kept, delta=False)
        (update,) = client.put(kept, *others)
    assert client.answer(update, refuse=True) == []
    assert client.wait(BEAT / 4) == []
    (again,) = client.wait(1.0 - BEAT / 4)
    assert not again.is_heartbeat
    assert again.ttls == {"a": TTL / 4}


def test_what_was_refused_and_is_gone_keeps_nothing_from_being_kept_alive() -> None:
    """T3: nobody will ever accept it, and the client has what it had."""
    client = settled(resource("a", ttl=TTL), delta=False)
    (update,) = client.put(resource("a", ttl=TTL), resource("b"))
    assert client.answer(update, refuse=True) == []
    assert client.put(resource("a", ttl=TTL)) == []
    (beat,) = client.wait(BEAT)
    assert beat.is_heartbeat
    assert shown(beat) == (["a@1"], ["a"])


def test_what_may_be_applied_is_taken_away_by_no_heartbeat() -> None:
    """T3, O1: of clusters refused together some are in use, as long as a listener may use them."""
    client = settled(resource("a", ttl=TTL), delta=False)
    (update,) = client.put(resource("a", ttl=TTL), resource("b"), resource("c"))
    client.stream.receive(SotwRequest(LISTENER), client.now)
    (listeners,) = client.answer(update, refuse=True)
    assert listeners.type_url == LISTENER
    assert client.put(resource("a", ttl=TTL)) == []
    assert client.wait(BEAT) == []
    client.stream.receive(SotwRequest(LISTENER, response_nonce=listeners.nonce), client.now)
    (reply,) = client.hear()
    assert shown(reply) == (["a@1"], ["a"])
    assert not reply.is_heartbeat


@VARIANTS
def test_refused_heartbeat_brings_the_content(*, delta: bool) -> None:
    """T2: the client let go of what it was to keep, since it was too late."""
    client = settled(resource("a", ttl=TTL), resource("b"), delta=delta)
    (beat,) = client.wait(BEAT)
    (reply,) = client.answer(beat, refuse=True)
    assert client.told == (Nacked(CLUSTER, beat.nonce, {}, REFUSED),)
    assert "a@1" in shown(reply)[0]
    assert reply.ttls == {"a": TTL}
    assert not reply.is_heartbeat
    assert client.answer(reply) == []
    assert client.statuses() == {"a": ConfigStatus.SYNCED, "b": ConfigStatus.SYNCED}


def test_refused_heartbeat_counts_also_when_the_next_left_meanwhile() -> None:
    """T2: a client that is slow to answer is told the content again of all that it lost."""
    client = settled(resource("a", ttl=TTL), resource("b", ttl=TTL / 2), delta=True)
    (first,) = client.wait(BEAT / 2)
    (second,) = client.wait(BEAT / 2)
    assert (set(first.kept), set(second.kept)) == ({"b"}, {"a", "b"})
    client.wait(BEAT / 2)
    assert client.answer(first) == []
    (reply,) = client.answer(second, refuse=True)
    assert shown(reply) == (["a@1", "b@1"], ["a", "b"])


def test_refused_heartbeat_of_what_is_sent_anyway_brings_it_once() -> None:
    """T2, R6: the update that is under way has the content that the client let go of."""
    client = settled(resource("a", ttl=TTL), delta=True)
    (beat,) = client.wait(BEAT)
    (update,) = client.put(resource("a", 2, ttl=TTL))
    assert client.answer(beat, refuse=True) == []
    assert client.answer(update) == []
    assert client.statuses() == {"a": ConfigStatus.SYNCED}


def test_heartbeats_that_are_never_answered_are_forgotten() -> None:
    """T2: what a client can make the server remember is bounded."""
    client = settled(resource("a", ttl=TTL), delta=True)
    first, *_, last = [client.wait(BEAT)[0] for _ in range(UNANSWERED + 1)]
    client.answer(first)
    assert [*client.told] == [Stale(CLUSTER, first.nonce)]
    client.answer(last)
    assert not client.told


def test_refused_heartbeat_of_what_was_refused_itself_tells_nothing() -> None:
    """T2, A7: it left before the server knew; what the client has is kept alive at once instead."""
    client = Client(resource("a", ttl=TTL, url=EXTENSION_CONFIG), delta=True, url=EXTENSION_CONFIG)
    (reply,) = client.ask("a")
    client.answer(reply)
    (update,) = client.put(resource("a", 2, ttl=TTL, url=EXTENSION_CONFIG))
    (beat,) = client.wait(BEAT)
    assert client.answer(update, refuse=True) == []
    (beat,) = client.answer(beat, refuse=True)
    assert beat.kept == {"a": resource("a").version}
    assert client.answer(beat) == []
    (beat,) = client.wait(BEAT)
    assert beat.kept == {"a": resource("a").version}


def test_refused_heartbeat_of_what_has_no_ttl_any_more_tells_nothing() -> None:
    """T2, T4: it was of an update that was refused too, and the next one takes the TTL away."""
    client = settled(resource("a", ttl=TTL), delta=True)
    (update,) = client.put(resource("a", 2, ttl=TTL))
    (beat,) = client.wait(BEAT)
    assert client.answer(update, refuse=True) == []
    (last,) = client.put(resource("a", 3))
    assert client.answer(beat, refuse=True) == []
    assert client.answer(last) == []
    assert client.wait(TTL) == []


@VARIANTS
def test_ttl_that_comes_or_changes_is_told_at_once(*, delta: bool) -> None:
    """T2: it needs no content, and is no other version."""
    client = settled(resource("a"), delta=delta)
    (beat,) = client.put(resource("a", ttl=TTL))
    assert beat.is_heartbeat
    assert beat.ttls == {"a": TTL}
    (beat,) = client.put(resource("a", ttl=2 * TTL))
    assert beat.ttls == {"a": 2 * TTL}
    assert client.put(resource("a", ttl=2 * TTL)) == []


@VARIANTS
def test_ttl_is_taken_away_by_the_content_without_it(*, delta: bool) -> None:
    """T4: once."""
    client = settled(resource("a", ttl=TTL), delta=delta)
    (reply,) = client.put(resource("a"))
    assert shown(reply) == (["a@1"], [])
    assert not reply.is_heartbeat
    assert client.answer(reply) == []
    assert client.wait(TTL) == []
    assert client.stream.next_due(client.now) is None


@VARIANTS
def test_ttl_is_taken_away_also_from_who_was_seen_to_have_the_content(*, delta: bool) -> None:
    """T4: a client that was in step when nothing but the TTL changed has yet to hear of that."""
    client = settled(resource("a", ttl=TTL), delta=delta)
    client.snapshot = Snapshot({client.url: TypeSnapshot.of([resource("a")])})
    assert client.stream.in_step(client.snapshot)
    (reply,) = client.hear()
    assert shown(reply) == (["a@1"], [])


def test_what_loses_its_ttl_is_kept_alive_until_that_is_told() -> None:
    """T4, T2: as long as a response awaits its answer, no content is sent."""
    client = Client(resource("a", ttl=TTL), delta=True)
    (reply,) = client.ask()
    assert client.put(resource("a")) == []
    (beat,) = client.wait(BEAT)
    assert beat.ttls == {"a": TTL}
    (again,) = client.answer(reply)
    assert shown(again) == (["a@1"], [])
    assert client.answer(again) == []
    assert client.wait(TTL) == []


@VARIANTS
def test_update_without_a_ttl_takes_it_away(*, delta: bool) -> None:
    """T4: there is nothing to say besides."""
    client = settled(resource("a", ttl=TTL), delta=delta)
    (reply,) = client.put(resource("a", 2))
    assert shown(reply) == (["a@2"], [])
    client.answer(reply)
    assert client.wait(TTL) == []


@VARIANTS
def test_what_is_gone_is_not_kept_alive(*, delta: bool) -> None:
    """T2: from when the client is told."""
    client = settled(resource("a", ttl=TTL), delta=delta)
    (reply,) = client.put()
    assert client.wait(TTL) == []
    client.answer(reply)
    assert client.wait(TTL) == []
    assert client.stream.next_due(client.now) is None


@VARIANTS
def test_what_is_being_made_anew_is_kept_alive(*, delta: bool) -> None:
    """T2, W16: what the client has must not end while the next content is made."""
    client = settled(resource("a", ttl=TTL), resource("b"), delta=delta)
    client.snapshot = Snapshot({CLUSTER: TypeSnapshot.of([resource("b")], pending=["a"])})
    (beat,) = client.wait(BEAT)
    assert beat.ttls == {"a": TTL}


def test_refused_content_leaves_alive_what_is_in_use() -> None:
    """T2, A7: a heartbeat has the version that the client has, not the one that it should have."""
    client = Client(resource("a", ttl=TTL, url=EXTENSION_CONFIG), delta=True, url=EXTENSION_CONFIG)
    (reply,) = client.ask("a")
    client.answer(reply)
    (update,) = client.put(resource("a", 2, ttl=TTL, url=EXTENSION_CONFIG))
    assert client.answer(update, refuse=True) == []
    (beat,) = client.wait(BEAT)
    assert beat.kept == {"a": resource("a").version}


def test_refused_content_that_was_to_live_longer_ends_nothing_sooner() -> None:
    """T2: what is in use has the TTL that was told with it, until that is told anew."""
    client = Client(resource("a", ttl=TTL, url=EXTENSION_CONFIG), delta=True, url=EXTENSION_CONFIG)
    (reply,) = client.ask("a")
    client.answer(reply)
    (update,) = client.put(resource("a", 2, ttl=100 * TTL, url=EXTENSION_CONFIG))
    assert client.answer(update, refuse=True) == []
    (beat,) = client.wait(BEAT)
    assert beat.kept == {"a": resource("a").version}
    assert beat.ttls == {"a": 100 * TTL}


def come_back(*resources: Resource, delta: bool) -> list[Reply]:
    """Return what a client is sent that says it has all this from an earlier stream."""
    client = Client(*resources, delta=delta)
    has = TypeSnapshot.of(resources)
    versions = {name: each.version for name, each in has.resources.items()}
    request: Request
    if delta:
        request = DeltaRequest(CLUSTER, initial_resource_versions=versions, node=NODE)
    else:
        request = SotwRequest(CLUSTER, version_info=has.version, node=NODE)
    client.stream.identify(request)
    client.stream.receive(request, client.now)
    return client.hear()


@VARIANTS
def test_client_that_comes_back_is_told_its_ttls_at_once(*, delta: bool) -> None:
    """T2, C1, C3: the one that is left alone with what it has is near the end of them, maybe."""
    kept = resource("a", ttl=TTL)
    replies = come_back(kept, delta=delta)
    assert [each.ttls for each in replies if each.is_heartbeat] == [{"a": TTL}]


@VARIANTS
def test_client_that_comes_back_is_sent_what_has_no_ttl_any_more(*, delta: bool) -> None:
    """T4, C1, C3: it may have been told one, which runs on although the stream is another."""
    (reply,) = come_back(resource("a"), delta=delta)
    assert shown(reply) == (["a@1"], [])
    assert not reply.is_heartbeat


@VARIANTS
def test_client_that_comes_back_is_not_waited_for_with_a_heartbeat(*, delta: bool) -> None:
    """T2: as long as there is nothing to tell of what it has, no moment is due."""
    client = Client(delta=delta)
    client.snapshot = Snapshot({CLUSTER: TypeSnapshot.of(pending=["a"])})
    has = {"a": resource("a").version}
    request: Request = (
        DeltaRequest(CLUSTER, ("a",), initial_resource_versions=has, node=NODE)
        if delta
        else SotwRequest(CLUSTER, ("a",), version_info=has["a"], node=NODE)
    )
    client.stream.identify(request)
    client.stream.receive(request, client.now)
    client.hear()
    assert client.stream.next_due(client.now) is None


@VARIANTS
def test_moment_of_the_next_heartbeat_is_known(*, delta: bool) -> None:
    """T2: the shell has to wake up for it, and not at once again where none can be sent."""
    client = settled(resource("a", ttl=TTL), resource("b", ttl=2 * TTL), delta=delta)
    assert client.stream.next_due(client.now) == client.now + BEAT
    client.now += TTL
    assert client.stream.next_due(client.now) == client.now + SOONEST


@VARIANTS
def test_a_stream_with_heartbeats_never_rests(*, delta: bool) -> None:
    """T2, A14: one is due although nobody asks, and nothing changes."""
    client = settled(resource("a", ttl=TTL), delta=delta)
    assert client.stream.in_step(client.snapshot)
    assert not client.stream.rests(client.snapshot)


def test_a_ttl_is_one_that_can_be_kept_and_told() -> None:
    """T2: or nothing but heartbeats would be sent, or a Duration could not hold it."""
    for ttl in (0.0, -1.0, SHORTEST_TTL / 2, float("nan"), LONGEST_TTL + 1, float("inf")):
        with pytest.raises(ValueError, match=r"a TTL is 0\.5 to 9223372036 seconds, or None, not"):
            resource("a", ttl=ttl)
    assert resource("a", ttl=SHORTEST_TTL).ttl == SHORTEST_TTL
    assert resource("a", ttl=LONGEST_TTL).ttl == LONGEST_TTL
