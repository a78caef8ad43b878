"""A client that needs a type anew, and asks with the request that it sent before, or not at all."""

from __future__ import annotations

from control_plane.xds.messages import Node
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import SCOPED_ROUTE
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from tests.unit.xds.peers import DeltaPeer, SotwPeer

TAKES_TTLS = Node(
    "instance-1",
    client_features=frozenset(
        {"xds.config.supports-resource-ttl", "xds.config.resource-in-sotw"},
    ),
)


def scoped(*names: str) -> SotwPeer:
    """Return a client that had scoped routes, maybe by name, and is sent another listener now."""
    peer = SotwPeer(CDS="c@1", LDS="l@1", SRDS="s@1")
    for short, *asked in (("CDS",), ("LDS",), ("SRDS", *names)):
        peer.take(short, *asked)
    assert peer.put(LDS="l@2") == ["4 LDS l@2"]
    return peer


def test_scoped_routes_are_sent_again_to_a_client_that_asks_for_them_after_a_listener() -> None:
    """O2, W2: Envoy warms the listener until it is sent them, or for 15 s, and has none then."""
    peer = scoped()
    assert peer.ask("SRDS") == []
    assert peer.ack("LDS") == ["5 SRDS s@1"]
    assert peer.ack("SRDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_what_is_asked_for_again_is_sent_once_for_each_listener() -> None:
    """R6: a client that says everything twice does not go round in circles."""
    peer = scoped()
    peer.ack("LDS")
    assert peer.ask("SRDS") == ["5 SRDS s@1"]
    assert peer.ack("SRDS") == []
    assert peer.ask("SRDS") == []


def test_that_there_are_no_scoped_routes_is_said_again_too() -> None:
    """O2, W15: the request that asks for them may be the first answer to that there are none."""
    peer = scoped()
    peer.ack("LDS")
    assert peer.put(SRDS="") == ["5 SRDS"]
    assert peer.put(LDS="l@1") == ["6 LDS l@1"]
    assert peer.ask("SRDS") == []
    assert peer.ack("LDS") == ["7 SRDS"]
    assert peer.ack("SRDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_scoped_routes_are_sent_to_a_client_that_comes_back_and_has_them() -> None:
    """O2, C3: it cannot tell otherwise that it let go of them, and a listener waits for them now.

    The listener may also come next, and Envoy asks by the same request then.
    """
    peer = SotwPeer(LDS="l@1", SRDS="s@1")
    assert peer.ask("LDS", has="l@1") == []
    assert peer.ask("SRDS", has="s@1") == ["1 SRDS s@1"]
    assert peer.ack("SRDS") == []
    assert peer.put(LDS="l@2") == ["2 LDS l@2"]
    assert peer.ack("LDS") == []
    assert peer.ask("SRDS") == ["3 SRDS s@1"]


def test_client_that_comes_back_is_not_told_that_there_are_no_scoped_routes_before_it_asks() -> (
    None
):
    """R6, W15: an Envoy without a listener that has some would not answer, and look STALE."""
    peer = SotwPeer(LDS="l@1")
    assert peer.ask("SRDS", has="") == []
    assert peer.stream.in_step(peer.snapshot)
    assert peer.ask("LDS") == ["1 LDS l@1"]
    assert peer.ask("SRDS") == []
    assert peer.ack("LDS") == ["2 SRDS"]


def test_answer_is_no_question() -> None:
    """R6: an ACK or a NACK that comes after another listener left asks for nothing."""
    peer = scoped()
    peer.ack("LDS")
    assert peer.put(SRDS="s@2") == ["5 SRDS s@2"]
    assert peer.put(LDS="l@1") == ["6 LDS l@1"]
    assert [*peer.ack("LDS"), *peer.ack("SRDS")] == []
    assert peer.nack("SRDS") == []


def test_client_that_gives_names_asks_anew_by_these() -> None:
    """W2, R6: it says so when it is not interested in some any more, and when it is again."""
    peer = scoped("s")
    peer.ack("LDS")
    assert peer.ask("SRDS", "s") == []


def test_no_listener_that_has_yet_to_leave_is_a_reason_to_ask() -> None:
    """R6: who says everything twice before it was sent one is not sent it twice."""
    peer = SotwPeer(CDS="c@1", LDS="l@1", SRDS="s@1")
    for short in ("SRDS", "CDS"):
        peer.ask(short)
    assert peer.ask("LDS") == []
    assert peer.ack("SRDS") == []
    assert peer.ask("SRDS") == []


def test_nothing_is_asked_for_again_before_anything_was_sent() -> None:
    """R6, C3: a client that comes back without a listener, and repeats itself, is left alone."""
    peer = SotwPeer()
    assert [*peer.ask("LDS", has=""), *peer.ask("SRDS", has="")] == []
    assert peer.ask("SRDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_ack_of_a_heartbeat_asks_for_nothing() -> None:
    """R6: it has the last nonce, and answers no response, like a request that is repeated."""
    kept = TypeSnapshot.of([Resource.of(SCOPED_ROUTE, "s", b"s@1", ttl=9.0)])
    peer = SotwPeer(node=TAKES_TTLS, LDS="l@1")
    peer.snapshot = Snapshot({**peer.snapshot.types, SCOPED_ROUTE: kept})
    for short in ("LDS", "SRDS"):
        peer.take(short)
    assert peer.wait(3) == ["3 SRDS s@1"]
    assert peer.put(LDS="l@2") == ["4 LDS l@2"]
    assert [*peer.ack("SRDS"), *peer.ack("LDS")] == []


def test_client_that_takes_ttls_asks_again_like_any_other() -> None:
    """O2, T3: as long as it has no heartbeat to answer."""
    peer = SotwPeer(node=TAKES_TTLS, LDS="l@1", SRDS="s@1")
    for short in ("LDS", "SRDS"):
        peer.take(short)
    peer.put(LDS="l@2")
    peer.ack("LDS")
    assert peer.ask("SRDS") == ["4 SRDS s@1"]


def test_routes_are_not_asked_for_again_by_who_repeats_an_answer() -> None:
    """R6: only of a complete type is the same request a question."""
    peer = SotwPeer(LDS="l@1", RDS="r@1")
    for short in ("RDS", "LDS"):
        peer.take(short, "*")
    assert peer.ack("RDS") == []
    assert peer.stream.rests(peer.snapshot)


def test_old_nonce_asks_for_nothing() -> None:
    """A8: what a stale request says again is no more than what it said."""
    peer = scoped()
    peer.ack("LDS")
    assert peer.ask("SRDS", nonce="2") == []


def test_delta_client_is_sent_its_scoped_routes_after_a_listener_without_asking() -> None:
    """O2: Envoy does not ask: it goes on with its subscription while no listener has any.

    A request that says nothing is no question there (W9).
    """
    peer = DeltaPeer(LDS="l@1", SRDS="s@1")
    for short in ("LDS", "SRDS"):
        peer.take(short)
    assert peer.put(LDS="l@2") == ["3 LDS l@2"]
    assert peer.ack("LDS") == ["4 SRDS s@1"]
    assert peer.ack("SRDS") == []
    assert peer.ask("SRDS", nonce=peer.nonces["SRDS"]) == []


def test_delta_client_is_told_again_that_there_are_no_scoped_routes() -> None:
    """O2, W15: a listener that has some warms until it hears that there are none, or for 15 s."""
    peer = DeltaPeer(LDS="l@1")
    for short in ("LDS", "SRDS"):
        peer.take(short)
    assert peer.put(LDS="l@2") == ["3 LDS l@2"]
    assert peer.ack("LDS") == ["4 SRDS"]
    assert peer.ack("SRDS") == []
    assert peer.stream.in_step(peer.snapshot)
