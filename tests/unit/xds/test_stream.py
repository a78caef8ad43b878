"""Who is at the other end of a stream, which types it carries, and what bounds it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from weakref import ref

import pytest

from control_plane.errors import PeerLimitExceeded, PeerProtocolError
from control_plane.xds.delivery import has_version
from control_plane.xds.events import Acked, Connected, Stale
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import DeltaRequest, Locator, Node, Reply, Request, SotwRequest
from control_plane.xds.refusal import NodeRefusals
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    ROUTE,
    SECRET,
    ResourceTypes,
)
from control_plane.xds.stream import Stream
from tests.unit.xds.notation import snapshot, url_of, version
from tests.unit.xds.peers import NODE, DeltaPeer, Peer, SotwPeer

TAKES_ERRORS = Node("n", client_features=frozenset({"supports-resource-error-unwrapping"}))


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
@pytest.mark.parametrize("only", [None, SECRET], ids=["aggregated", "one type"])
def test_four_kinds_of_streams(variant: type[SotwPeer | DeltaPeer], only: None) -> None:
    """V1: both variants work on an aggregated stream and on one of a single type."""
    peer = variant(only=only, SDS="s@1")
    assert peer.ask("SDS", "s") == ["1 SDS s@1"]
    assert peer.ack("SDS") == []


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_types_of_one_stream_are_independent(variant: type[SotwPeer | DeltaPeer]) -> None:
    """V3: a response of one type waits for no other type, and neither does its answer."""
    peer = variant(SDS="s@1", ECDS="e@1")
    assert peer.ask("SDS", "s") == ["1 SDS s@1"]
    assert peer.ask("ECDS", "e") == ["2 ECDS e@1"]
    assert peer.put(ECDS="e@2") == []
    assert peer.ack("ECDS") == ["3 ECDS e@2"]
    assert peer.put(SDS="s@2") == []
    assert peer.ack("SDS") == ["4 SDS s@2"]


def test_aggregated_stream_needs_a_type() -> None:
    """V4: on an aggregated stream nothing else tells the type."""
    with pytest.raises(PeerProtocolError, match="type_url is required on an aggregated stream"):
        DeltaPeer().ask("")


def test_stream_of_one_type_implies_it() -> None:
    """V4: on a stream of one type the type may be left out."""
    peer = DeltaPeer(only=SECRET, SDS="s@1")
    assert peer.send(DeltaRequest(url_of(""), ("s",), node=NODE)) == ["1 SDS s@1"]


def test_stream_of_one_type_refuses_another() -> None:
    """V4: another type on it is an error."""
    with pytest.raises(PeerProtocolError, match=r"serves .*Secret only, not '.*Cluster'"):
        DeltaPeer(only=SECRET).ask("CDS")


def test_two_streams_of_one_node_both_work() -> None:
    """V6: a client that reconnects may overlap with itself; each stream has its own state."""
    refusals = NodeRefusals()
    old, new = (DeltaPeer(SDS="s@1", refusals=refusals) for _ in range(2))
    assert old.ask("SDS", "s") == ["1 SDS s@1"]
    assert new.ask("SDS", "s") == ["1 SDS s@1"]
    assert old.ack("SDS") == []
    assert new.put(SDS="s@2") == []
    assert new.ack("SDS") == ["2 SDS s@2"]
    assert old.put(SDS="s@2") == ["2 SDS s@2"]


def test_what_one_stream_refuses_is_held_back_on_the_other() -> None:
    """V6, A7: a refusal is the node's, not the stream's."""
    refusals = NodeRefusals()
    old, new = (DeltaPeer(SDS="s@1", refusals=refusals) for _ in range(2))
    old.ask("SDS", "s")
    old.nack("SDS")
    assert new.ask("SDS", "s") == []


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
@pytest.mark.parametrize("kind", ["RDS", "EDS", "own"])
def test_a_client_that_comes_back_is_sent_what_was_refused_before(
    variant: type[SotwPeer | DeltaPeer], kind: str
) -> None:
    """A7: a process that was started again has nothing, and waits; it may not be the same one."""
    refusals = NodeRefusals()
    old, new = (variant(refusals=refusals, RDS="x@1", EDS="x@1", own="x@1") for _ in range(2))
    old.ask(kind, "x")
    old.nack(kind)
    assert new.ask(kind, "x") == []
    assert new.wait(1) == [f"1 {kind} x@1"]


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_what_was_refused_and_is_gone_is_forgotten(variant: type[SotwPeer | DeltaPeer]) -> None:
    """A7: or what a node refused in its life would pile up, with all that it said to that."""
    peer = variant(CDS="c@1")
    peer.take("CDS")
    for number in range(3):
        peer.put(CDS=f"c@1 bad-{number}@1")
        peer.nack("CDS")
    assert peer.stream.refusal(CLUSTER, "bad-1") is None
    assert peer.stream.refusal(CLUSTER, "bad-2") is not None
    assert peer.put(CDS="c@1") == []
    assert peer.stream.refusal(CLUSTER, "bad-2") is None
    assert peer.refusals._by_type == {}


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_it_is_forgotten_also_where_nothing_was_accepted(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A7: of a client of a partial type it is known that it has nothing but what it ACKed."""
    peer = variant(ECDS="e@1")
    peer.ask("ECDS", "*")
    peer.nack("ECDS")
    assert peer.put(ECDS="") == []
    assert peer.stream.refusal(EXTENSION_CONFIG, "e") is None


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_what_may_be_with_the_client_is_not_forgotten(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A7, A14: of clusters that it refused together it may have applied one."""
    peer = variant(CDS="c@1")
    peer.take("CDS")
    peer.put(CDS="c@1 d@1 e@1")
    peer.nack("CDS")
    (removal,) = peer.put(CDS="c@1")
    assert removal.startswith("3 CDS ")
    assert peer.stream.refusal(CLUSTER, "d") is not None
    assert peer.ack("CDS") == []
    assert peer.stream.refusal(CLUSTER, "d") is None


def test_what_a_client_refused_and_goes_on_asking_for_is_not_forgotten() -> None:
    """A7: Envoy goes on looking at a secret that is gone, and would accept the same bytes."""
    peer = SotwPeer(SDS="s@1")
    peer.ask("SDS", "s")
    peer.nack("SDS")
    assert peer.put(SDS="") == []
    assert peer.put(SDS="s@1") == []


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_neither_is_it_where_the_client_was_told_before_that_it_is_not_there(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A7, W8: it is owed nothing then, and goes on asking for it all the same."""
    peer = variant(node=TAKES_ERRORS)
    assert peer.ask("SDS", "s")[0].endswith("~s")
    peer.ack("SDS")
    assert peer.put(SDS="s@1") == ["2 SDS s@1"]
    peer.nack("SDS")
    assert peer.put(SDS="") == []
    assert peer.put(SDS="s@1") == []


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_what_was_refused_of_what_the_client_still_has_is_not_forgotten(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A7, O1: a cluster that is gone, but stays for the listeners, may come back as refused."""
    peer = variant(CDS="c@1", LDS="l@1")
    for short in ("CDS", "LDS"):
        peer.take(short)
    peer.put(CDS="c@2")
    peer.nack("CDS")
    assert [line[2:] for line in peer.put(CDS="", LDS="l@2")] == ["LDS l@2"]
    assert peer.put(CDS="c@2") == []


def test_what_was_refused_is_not_forgotten_before_the_client_heard_that_it_is_gone() -> None:
    """A7, W12: nor after it refused to hear that; it may come back as it was."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "*", "s")
    assert peer.put(SDS="s@2") == ["2 SDS s@2"]
    peer.nack("SDS")
    assert peer.ask("SDS", drop=["s"]) == []
    assert peer.put(SDS="") == ["3 SDS -s"]
    assert peer.hear() == []
    assert peer.nack("SDS") == []
    assert peer.hear() == []
    assert peer.put(SDS="s@2") == []


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
@pytest.mark.parametrize("meanwhile", ["?s", "=s@1", "t@1|s", "s@2{e=p}"])
def test_what_was_refused_is_not_forgotten_while_its_name_means_something(
    variant: type[SotwPeer | DeltaPeer], meanwhile: str
) -> None:
    """A7: content that is being made, whose key is gone, that others have, or with this alias."""
    peer = variant(SDS="s@1")
    peer.ask("SDS", "*")
    peer.nack("SDS")
    peer.put(SDS=meanwhile)
    assert peer.stream.refusal(SECRET, "s") is not None


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_what_is_never_tried_again_is_tried_alone_if_others_were_refused_with_it(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A7: one bad filter of two must not quarantine the good one."""
    peer = variant(ECDS="a@1 b@1")
    assert peer.ask("ECDS", "a", "b") == ["1 ECDS a@1 b@1"]
    assert peer.nack("ECDS") == []
    assert peer.wait(1) == ["2 ECDS a@1"]
    assert peer.ack("ECDS") == ["3 ECDS b@1"]
    assert peer.nack("ECDS") == []
    assert peer.wait(1e6) == []


def has_said_all(peer: Peer, request: Request) -> bool:
    """Tell whether a stream that said all has nothing to add to it after a request."""
    peer.hear()
    peer.stream.receive(request, peer.now)
    return peer.stream.has_said_all(peer.snapshot)


def test_a_delta_request_that_changes_nothing_is_no_reason_to_look() -> None:
    """A10: neither while something is under way, nor while something is held back."""
    peer = DeltaPeer(RDS="a@1 b@1")
    assert not peer.stream.has_said_all(peer.snapshot)
    peer.ask("RDS", "a", "b")
    assert has_said_all(peer, DeltaRequest(ROUTE))
    assert has_said_all(peer, DeltaRequest(ROUTE, response_nonce="none of mine"))
    peer.nack("RDS")
    assert has_said_all(peer, DeltaRequest(ROUTE))
    assert not has_said_all(peer, DeltaRequest(ROUTE, ("a",)))
    assert not has_said_all(peer, DeltaRequest(ROUTE, (), ("a",)))
    assert not has_said_all(peer, DeltaRequest(ENDPOINT, (), ("a",)))
    assert not peer.stream.has_said_all(snapshot(RDS="a@1 b@1"))


def test_a_sotw_request_that_changes_nothing_is_no_reason_to_look() -> None:
    """A8, A10: unless the last one was stale, so that this one is answered in its place."""
    peer = SotwPeer(RDS="a@1 b@1")
    peer.ask("RDS", "a")
    assert has_said_all(peer, SotwRequest(ROUTE, ("a",)))
    peer.ack("RDS")
    assert has_said_all(peer, SotwRequest(ROUTE, ("a",), response_nonce="1"))
    assert not has_said_all(peer, SotwRequest(ROUTE, ("a", "b"), response_nonce="0"))
    assert not has_said_all(peer, SotwRequest(ROUTE, ("a", "b"), response_nonce="1"))
    assert peer.hear() == ["2 RDS b@1"]


def test_a_request_that_means_other_variants_is_a_reason_to_look() -> None:
    """A10: the names are those of before, but not what is asked for by them."""
    peer = SotwPeer(RDS="a@1{r=1} a@2{r=2}")
    peer.take("RDS", "a{r=1}")
    located = SotwRequest(ROUTE, resource_locators=(Locator("a", (("r", "2"),)),))
    assert not has_said_all(peer, located)
    assert peer.hear() == ["2 RDS a@2{r=2}"]


@pytest.mark.parametrize("answer", ["none", "ack", "nack"])
def test_the_cost_of_an_empty_request_does_not_follow_the_names(answer: str) -> None:
    """A10: asking for much once must not make all that follows dear."""

    def seconds(names: int) -> float:
        peer = DeltaPeer(limits=StreamLimits(names=names))
        peer.ask("RDS", *(f"r{number}" for number in range(names)))
        while answer != "none" and (peer.ack if answer == "ack" else peer.nack)("RDS"):
            pass
        peer.hear()
        start = time.thread_time()
        for _ in range(50):
            peer.stream.receive(DeltaRequest(ROUTE), peer.now)
            assert peer.stream.has_said_all(peer.snapshot)
        return time.thread_time() - start

    assert min(seconds(8_000) for _ in range(3)) < 3 * min(seconds(500) for _ in range(3))


@pytest.mark.parametrize("variant", [DeltaPeer, SotwPeer])
def test_the_cost_of_one_name_does_not_follow_what_else_the_node_has(
    variant: type[DeltaPeer | SotwPeer],
) -> None:
    """V2: by the services of each type there is a stream for each resource of a node."""

    def seconds(others: int) -> float:
        rest = " ".join(f"o{number}@1" for number in range(others))
        contents = [snapshot(EDS=f"a@{number} {rest}") for number in range(2)]
        peer = variant(only=ENDPOINT)
        peer.snapshot = contents[1]
        assert peer.ask("EDS", "a") == ["1 EDS a@1"]
        assert peer.ack("EDS") == []
        start = time.thread_time()
        for number in range(40):
            peer.snapshot = contents[number % 2]
            assert peer.hear()
            peer.ack("EDS")
        return time.thread_time() - start

    # The best of several, since other processes of a busy machine slow down some of them.
    assert min(seconds(4_000) for _ in range(6)) < 3 * min(seconds(100) for _ in range(6))


def test_nonces_of_a_stream_begin_as_it_was_told() -> None:
    """A1: one of another stream is stale, although both count from one."""
    one, other = (Stream(ResourceTypes.of(), nonces=each) for each in ("a-", "b-"))
    told = snapshot(SDS="s@1")
    for stream in (one, other):
        stream.identify(SotwRequest(SECRET, node=NODE))
        stream.receive(SotwRequest(SECRET, ("s",)), 0.0)
    (reply,) = one.replies(told, 0.0)
    assert reply.nonce == "a-1"
    assert [each.nonce for each in other.replies(told, 0.0)] == ["b-1"]
    carried_over = SotwRequest(SECRET, ("s",), response_nonce=reply.nonce)
    assert other.receive(carried_over, 0.0) == (Stale(SECRET, "a-1"),)


def test_first_request_tells_the_node() -> None:
    """N1: only the first request must carry the node, and the stream remembers it."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.told()[0] == Connected(NODE)
    assert peer.send(DeltaRequest(SECRET, response_nonce="1")) == []
    assert [type(event) for event in peer.told()] == [Acked]
    assert peer.stream.node == NODE


@pytest.mark.parametrize("node", [None, Node("")], ids=["none", "empty id"])
def test_stream_without_a_node_is_refused(node: Node | None) -> None:
    """N1: a stream whose client does not say who it is cannot be served."""
    peer = DeltaPeer(node=node)
    with pytest.raises(PeerProtocolError, match=r"must carry node\.id"):
        peer.ask("SDS", "s")


def test_node_may_be_repeated() -> None:
    """N2: the node may come again if it is the same; one without an id says nothing."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.send(DeltaRequest(SECRET, response_nonce="1", node=NODE)) == []
    assert peer.send(DeltaRequest(SECRET, node=Node(""))) == []


def test_another_node_ends_the_stream() -> None:
    """N2: a server that authorises by node must not let a stream become another's."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    with pytest.raises(PeerProtocolError, match="'instance-1' became 'instance-2'"):
        peer.send(DeltaRequest(SECRET, ("s",), node=Node("instance-2")))


def test_node_comes_once_for_all_types() -> None:
    """N3: with set_node_on_first_message_only the node comes once a stream, not once a type."""
    peer = SotwPeer(CDS="c@1", LDS="l@1")
    assert peer.ask("CDS") == ["1 CDS c@1"]
    assert peer.take_node() is None
    peer.ack("CDS")
    assert peer.ask("LDS") == ["2 LDS l@1"]


def test_nothing_is_sent_that_needs_a_client_feature() -> None:
    """N4, E3: only TTLs and errors depend on a feature, and variants on locators."""
    with_features = Node("instance-1", client_features=frozenset({"xds.config.resource-in-sotw"}))
    told = [SotwPeer(SDS="s@1", node=node).ask("SDS", "s") for node in (NODE, with_features)]
    assert told == [["1 SDS s@1"], ["1 SDS s@1"]]
    plain = {"type_url", "nonce", "version", "resources", "removed", "unresolved"}
    by_features = {"ttls", "kept", "is_heartbeat", "errors"}
    assert set(Reply.__slots__) == plain | by_features | {"constraints", "removed_variants"}


def test_nonces_are_unique_in_a_stream() -> None:
    """A1: each response has a nonce of its own, over all types."""
    peer = SotwPeer(CDS="c@1", SDS="s@1", ECDS="e@1")
    told = [*peer.ask("CDS"), *peer.ask("SDS", "s"), *peer.ask("ECDS", "e"), *peer.ack("SDS")]
    nonces = [each.split()[0] for each in told]
    assert len(nonces) == len(set(nonces)) == 3
    assert all(nonces)


def test_nonce_of_one_type_does_not_answer_another() -> None:
    """V3, A1: the answer to a cluster is none to a secret."""
    peer = DeltaPeer(CDS="c@1", SDS="s@1")
    peer.ask("CDS")
    peer.ask("SDS", "s")
    peer.put(SDS="s@2")
    assert peer.ask("SDS", nonce=peer.nonces["CDS"]) == []
    assert peer.ack("SDS") == ["3 SDS s@2"]


def test_response_has_the_type_of_its_request() -> None:
    """R2: the type URL of a response and of all in it is the one that was asked for."""
    peer = DeltaPeer(CDS="c@1", SDS="s@1")
    peer.stream.identify(DeltaRequest(SECRET, node=NODE))
    peer.stream.receive(DeltaRequest(SECRET, ("s",)), 0.0)
    (reply,) = peer.stream.replies(peer.snapshot, 0.0)
    assert reply.type_url == SECRET
    assert {each.type_url for each in reply.resources} == {SECRET}


def test_type_that_nobody_knows_is_served_all_the_same() -> None:
    """W7, W8: a type of which the node has nothing is one whose resources do not exist yet."""
    peer = DeltaPeer()
    assert peer.ask("mine", "x") == ["1 mine -x"]
    peer.ack("mine")
    assert peer.put(mine="x@1") == ["2 mine x@1"]


def test_nothing_is_sent_for_a_type_that_was_not_asked_for() -> None:
    """W1: resources of a type leave once the client asks for the type."""
    peer = DeltaPeer(CDS="c@1", SDS="s@1")
    assert peer.hear() == []
    peer.take("SDS", "s")
    assert peer.put(CDS="c@2") == []


def test_nothing_is_made_anew_of_a_type_that_was_not_asked_for() -> None:
    """W1: nobody waits for it."""
    peer = DeltaPeer(CDS="c@1", SDS="=s@1")
    peer.ask("CDS")
    assert peer.stream.missing(peer.snapshot) == set()


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_wildcard_that_is_asked_for_later_brings_all(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """W3: also what nobody had to look at as long as the client asked by name."""
    peer = variant(EDS="a@1 b@1")
    peer.take("EDS", "a")
    (told,) = peer.ask("EDS", "*", "a")
    assert "b@1" in told
    assert peer.ack("EDS") == []
    assert peer.stream.in_step(peer.snapshot)


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_wildcard_that_was_given_up_brings_nothing(variant: type[SotwPeer | DeltaPeer]) -> None:
    """W10: also not what had yet to have its turn."""
    peer = variant(SDS="a@1 b@1")
    assert peer.ask("SDS", "*") == ["1 SDS a@1"]
    if isinstance(peer, DeltaPeer):
        peer.ask("SDS", drop=["*"])
    else:
        peer.ask("SDS", "x", nonce="")
    assert peer.ack("SDS") == []


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
@pytest.mark.parametrize("another", [False, True], ids=["it alone", "another with the ACK"])
def test_name_given_up_in_flight_is_not_had(
    variant: type[SotwPeer | DeltaPeer], *, another: bool
) -> None:
    """A14: the client lets go of it, whatever it says to the response that had it."""
    peer = variant(EDS="a@1 b@1 c@1")
    peer.ask("EDS", "a", "b", "c")
    if isinstance(peer, DeltaPeer):
        peer.ask("EDS", drop=["b"])
        peer.ack("EDS", drop=["c"] if another else [])
    else:
        peer.ask("EDS", "a", "c", nonce="")
        peer.ask("EDS", *(["a"] if another else ["a", "c"]))
    has = [has_version(peer.stream, ENDPOINT, n, version(f"{n}@1")) for n in "abc"]
    assert has == [True, False, not another]


def test_variants_do_not_mix() -> None:
    """V1: a stream is of one variant; a request of the other one breaks the protocol."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    with pytest.raises(PeerProtocolError, match="one variant"):
        peer.send(SotwRequest(SECRET, ("s",)))


def test_next_retry_is_the_earliest_of_all_types() -> None:
    """A7: whoever serves the stream has to know when to look again."""
    peer = DeltaPeer(CDS="c@1", LDS="l@1")
    peer.ask("LDS")
    peer.nack("LDS")
    assert peer.stream.next_due(peer.now) == 101.0
    peer.now += 0.5
    peer.ask("CDS")
    peer.nack("CDS")
    assert peer.stream.next_due(peer.now) == 101.0
    peer.now += 0.6
    assert peer.stream.next_due(peer.now) == 101.5


def test_stream_is_in_step_when_all_types_are() -> None:
    """A14: in step means that everything was ACKed, which is not that it was applied."""
    peer = DeltaPeer(CDS="c@1", SDS="s@1 ?t")
    assert peer.stream.in_step(peer.snapshot)
    peer.ask("CDS")
    peer.ask("SDS", "s")
    assert not peer.stream.in_step(peer.snapshot)
    peer.ack("CDS")
    assert not peer.stream.in_step(peer.snapshot)
    peer.ack("SDS")
    assert peer.stream.in_step(peer.snapshot)
    assert not peer.stream.in_step(snapshot(CDS="c@1", SDS="s@2"))


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_a_stream_rests_once_all_was_acked_and_until_something_is_owed(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A14: whoever ACKed all that it was owed need not be looked at before there is more."""
    peer = variant(CDS="c@1", SDS="s@1")
    peer.ask("CDS")
    peer.ask("SDS", "s")
    peer.ack("CDS")
    assert not peer.stream.rests(peer.snapshot)
    peer.ack("SDS")
    assert peer.stream.rests(peer.snapshot)
    assert peer.stream.in_step(peer.snapshot)
    assert not peer.stream.rests(snapshot(CDS="c@1", SDS="s@2"))
    peer.put(SDS="s@2")
    peer.nack("SDS")
    assert not peer.stream.rests(peer.snapshot)


def test_stream_is_not_in_step_while_something_is_pending() -> None:
    """W16: content that the client wants and that is being made is still to come."""
    peer = SotwPeer(SDS="?s")
    peer.ask("SDS", "s")
    assert not peer.stream.in_step(peer.snapshot)
    assert peer.put(SDS="s@1") == ["1 SDS s@1"]
    peer.ack("SDS")
    assert peer.stream.in_step(peer.snapshot)


def test_machine_that_was_not_asked_has_nothing_to_say() -> None:
    """W1: before its first request a client wants nothing, and is in step with anything."""
    for variant, request in ((SotwPeer, SotwRequest), (DeltaPeer, DeltaRequest)):
        peer: Peer = variant(CDS="c@1")
        machine = peer.stream._machine(CLUSTER, request(CLUSTER))
        contents = peer.snapshot.of_type(CLUSTER)
        assert machine.reply(contents, 0.0, withdraw=True) is None
        assert machine.in_step(contents)
        assert not machine.due(contents, 0.0, withdraw=True)


def test_node_id_is_bounded() -> None:
    """N1: a node id has so many octets at the most, however many characters these are."""
    limits = StreamLimits(node_id_octets=4)
    DeltaPeer(limits=limits, node=Node("éé")).ask("SDS", "s")
    with pytest.raises(PeerLimitExceeded, match=r"node\.id longer than 4 octets: 'ééx'"):
        DeltaPeer(limits=limits, node=Node("ééx")).ask("SDS", "s")


def test_types_are_bounded() -> None:
    """V3: a stream carries so many types at the most."""
    peer = DeltaPeer(limits=StreamLimits(types=2))
    peer.ask("CDS")
    peer.ask("LDS")
    peer.ack("CDS")
    with pytest.raises(PeerLimitExceeded, match="more than 2 resource types"):
        peer.ask("SDS", "s")
    assert CLUSTER in peer.stream.machines
    assert LISTENER in peer.stream.machines


def test_type_url_is_bounded() -> None:
    """V4: a type URL is as long as a name at the most."""
    with pytest.raises(PeerLimitExceeded, match="type_url longer than 3 octets: 'éé'"):
        DeltaPeer(limits=StreamLimits(name_octets=3)).ask("éé")


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_length_of_a_name_is_bounded(variant: type[SotwPeer | DeltaPeer]) -> None:
    """W14: a name has so many octets at the most."""
    limits = StreamLimits(name_octets=len(SECRET))
    short, long = "é" * (len(SECRET) // 2), "é" * len(SECRET)
    variant(limits=limits).ask("SDS", short)
    with pytest.raises(PeerLimitExceeded, match="resource name longer than"):
        variant(limits=limits).ask("SDS", long)


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_names_are_bounded_over_all_types(variant: type[SotwPeer | DeltaPeer]) -> None:
    """W14: a client may ask for so many names at the most."""
    peer = variant(limits=StreamLimits(names=3))
    peer.ask("SDS", "a", "b")
    peer.ask("EDS", "c")
    with pytest.raises(PeerLimitExceeded, match="more than 3 resource names on a stream: 4"):
        peer.ask("EDS", "c", "d")


def test_names_that_replace_others_do_not_count_twice() -> None:
    """W14: only the last list of a state-of-the-world client counts."""
    peer = SotwPeer(limits=StreamLimits(names=2))
    peer.ask("EDS", "a", "b")
    peer.ask("EDS", "c", "d")
    assert peer.stream.machines[ENDPOINT].subscription.names == {"c", "d"}


def test_stated_versions_are_bounded() -> None:
    """C1: the names in initial_resource_versions count like those that a client asks for."""
    limits = StreamLimits(names=2)
    with pytest.raises(PeerLimitExceeded, match="more than 2 resource names"):
        DeltaPeer(limits=limits).ask("CDS", has="a@1 b@1 c@1")
    peer = DeltaPeer(limits=limits)
    peer.ask("CDS", has="a@1 b@1")
    with pytest.raises(PeerLimitExceeded, match="more than 2 resource names"):
        peer.ask("SDS", "s")


@pytest.mark.parametrize(
    "request_with",
    [
        lambda version: SotwRequest(CLUSTER, version_info=version, node=NODE),
        lambda version: DeltaRequest(CLUSTER, initial_resource_versions={"a": version}, node=NODE),
    ],
    ids=["sotw", "delta"],
)
def test_length_of_a_stated_version_is_bounded(request_with: Callable[[str], Request]) -> None:
    """C1, C3: what a client says that it has is remembered, so it may not be of any length."""
    Peer().send(request_with("v" * 256))
    with pytest.raises(PeerLimitExceeded, match="version longer than 256 characters"):
        Peer().send(request_with("v" * 257))


def test_stated_versions_that_were_withdrawn_do_not_count_any_more() -> None:
    """C1: once the client let go of them, they are forgotten."""
    peer = DeltaPeer(CDS="c@1", limits=StreamLimits(names=2))
    peer.ask("CDS", has="a@1 b@1")
    assert peer.ack("CDS") == ["2 CDS -a -b"]
    peer.ack("CDS")
    assert peer.ask("SDS", "s", "t") == ["3 SDS -s"]


def test_stated_versions_of_what_nobody_asks_for_do_not_count_any_more() -> None:
    """C1: they mean nothing, so they are not remembered."""
    peer = DeltaPeer(limits=StreamLimits(names=2))
    peer.ask("SDS", "s", has="t@1")
    assert peer.ask("EDS", "e") == ["2 EDS -e"]


def test_what_a_client_was_sent_does_not_count() -> None:
    """W14: a wildcard brings as much as there is, and bounds nothing that is asked for besides."""
    peer = DeltaPeer(CDS="a@1 b@1 c@1", limits=StreamLimits(names=2))
    peer.take("CDS")
    assert peer.ask("SDS", "s", "t") == ["2 SDS -s"]


def test_what_a_client_gave_up_counts_until_it_was_told() -> None:
    """W12: names that are owed an answer are remembered, and so they are bounded."""
    peer = DeltaPeer(limits=StreamLimits(names=10))
    peer.ask("CDS", "*")
    for number in range(9):
        peer.ask("CDS", f"x{number}")
        peer.ask("CDS", drop=[f"x{number}"])
    peer.ask("CDS", "x0")
    with pytest.raises(PeerLimitExceeded, match="more than 10 resource names"):
        peer.ask("CDS", "y", "z")


def test_refused_removals_are_forgotten_with_the_name() -> None:
    """A7, W7: a client that refuses removals of ever new names leaves nothing behind."""
    peer = DeltaPeer()
    for number in range(3):
        peer.ask("SDS", f"x{number}")
        peer.nack("SDS")
        peer.ask("SDS", drop=[f"x{number}"])
    after = DeltaPeer(refusals=peer.refusals)
    after.ask("SDS", "x0")
    for each in (peer, after):
        exchange = each.stream.machines[SECRET].exchange
        assert all(exchange.may_send(f"x{number}", None, each.now) for number in range(3))


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_content_that_comes_back_is_not_in_step_while_other_is_in_flight(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A14: also if it is the very content with which everything was well before."""
    peer = variant(CDS="c@1")
    peer.take("CDS")
    before = peer.snapshot
    assert peer.stream.in_step(before)
    peer.put(CDS="c@2")
    peer.snapshot = before
    assert not peer.stream.in_step(before)
    assert [line[2:] for line in peer.ack("CDS")] == ["CDS c@1"]


def test_what_is_owed_is_sent_although_the_client_is_in_step() -> None:
    """W2: to ask whether the client has everything does not settle what it asked for again."""
    peer = SotwPeer(SDS="s@1", ECDS="e@1")
    peer.take("ECDS", "e")
    peer.ask("SDS", "s")
    peer.ask("SDS", nonce="")
    peer.ask("SDS", "s", nonce="")
    peer.stream.receive(SotwRequest(SECRET, ("s",), response_nonce="2"), peer.now)
    assert peer.stream.in_step(peer.snapshot)
    assert not peer.stream.rests(peer.snapshot)
    assert peer.hear() == ["3 SDS s@1"]


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_a_stream_that_is_over_needs_no_garbage_collector(
    variant: type[SotwPeer | DeltaPeer],
) -> None:
    """A stream is freed with its last user, because the collector comes by once in weeks."""
    gc.disable()
    try:
        peer = variant(CDS="c@1", EDS="c@1", LDS="l@1", RDS="r@1{env=prod} r@2{!env}")
        for short, names in {"CDS": (), "EDS": ("c",), "LDS": (), "RDS": ("r",)}.items():
            peer.ask(short, *names)
        for short in list(peer.nonces):
            peer.ack(short)
        peer.put(CDS="", LDS="")
        stream = ref(peer.stream)
        del peer

        assert stream() is None
    finally:
        gc.enable()
