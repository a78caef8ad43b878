"""Make before break, the way back: when what is gone is taken from a client."""

from __future__ import annotations

import pytest

from control_plane.xds.withdrawal import PATIENCE
from tests.unit.xds.peers import DeltaPeer, SotwPeer


def calling(peer: SotwPeer | DeltaPeer, *names: str) -> SotwPeer | DeltaPeer:
    """Have a client ask for everything by name, as gRPC does: one listener, and what it leads to.

    Args:
        peer: the client.
        names: of its listener, routes, cluster and endpoints; the first ones only, if there are
            fewer.
    """
    for short, name in zip(("LDS", "RDS", "CDS", "EDS"), names, strict=False):
        peer.ask(short, name)
        peer.ack(short)
    assert peer.stream.in_step(peer.snapshot)
    return peer


def caller() -> SotwPeer:
    """Return a client whose listener names the routes ``r``, which lead to the cluster ``c``."""
    peer = SotwPeer(LDS="l@r", RDS="r@c", CDS="c@1", EDS="c@1")
    calling(peer, "l", "r", "c", "c")
    return peer


def test_cluster_stays_until_the_client_has_the_routes_that_its_listener_names_now() -> None:
    """O1: gRPC ACKs the listener, then asks for its routes, and uses the ones before meanwhile."""
    peer = caller()
    assert peer.put(LDS="l@s", RDS="s@d", CDS="d@1", EDS="d@1") == ["5 LDS l@s"]
    assert peer.ack("LDS") == []
    assert peer.ask("RDS", "s") == ["6 RDS s@d"]
    assert peer.ack("RDS") == ["7 CDS"]
    assert peer.ask("CDS", "d") == ["8 CDS d@1"]


def test_cluster_stays_also_while_both_routes_are_asked_for() -> None:
    """O1: a client may give up the routes before only when it has the new ones."""
    peer = caller()
    peer.put(LDS="l@s", RDS="s@d", CDS="d@1", EDS="d@1")
    assert peer.ack("LDS") == []
    assert peer.ask("RDS", "r", "s") == ["6 RDS s@d"]
    assert peer.ack("RDS") == []
    assert peer.ask("CDS", "c", "d") == ["7 CDS c@1 d@1"]
    assert peer.ack("CDS") == []
    assert peer.ask("RDS", "s") == ["8 CDS d@1"]


def test_cluster_of_a_delta_client_stays_until_it_has_the_new_routes() -> None:
    """O1: there, routes that are gone are withdrawn first, and what the client asks for comes."""
    peer = calling(DeltaPeer(LDS="l@r", RDS="r@c", CDS="c@1", EDS="c@1"), "l", "r", "c", "c")
    assert isinstance(peer, DeltaPeer)
    assert peer.put(LDS="l@s", RDS="s@d", CDS="d@1", EDS="d@1") == ["5 LDS l@s"]
    assert peer.ack("LDS") == ["6 RDS -r"]
    assert peer.ask("RDS", "s", drop=["r"]) == []
    assert peer.ack("RDS") == ["7 RDS s@d"]
    assert peer.ack("RDS") == ["8 CDS -c", "9 EDS -c"]


def test_client_that_goes_on_asking_for_routes_keeps_their_cluster_for_a_while_only() -> None:
    """O1, R6: its listener may go on naming them, and what is gone is not kept for ever."""
    peer = caller()
    peer.put(RDS="", CDS="")
    due = peer.stream.next_due(peer.now)
    assert due == peer.now + PATIENCE
    assert not peer.stream.rests(peer.snapshot)
    assert peer.wait(PATIENCE - 0.5) == []
    assert peer.wait(0.5) == ["5 CDS"]
    assert peer.ack("CDS") == []
    assert peer.stream.next_due(peer.now) is None
    assert peer.stream.in_step(peer.snapshot)


def test_client_is_waited_for_once_for_each_name() -> None:
    """R6: the cluster that goes next has nothing to do with routes that went long ago."""
    peer = caller()
    peer.put(RDS="", CDS="c@1 d@1")
    peer.ask("CDS", "c", "d")
    assert peer.stream.next_due(peer.now) == peer.now + PATIENCE
    peer.wait(PATIENCE)
    peer.ack("CDS")
    assert [line[2:] for line in peer.put(CDS="c@1")] == ["CDS c@1"]


def test_client_is_waited_for_anew_if_it_was_to_have_the_routes_meanwhile() -> None:
    """O1: what was said of them before they came back holds no more."""
    peer = caller()
    assert peer.put(RDS="", CDS="") == []
    assert peer.wait(1) == []
    assert peer.put(RDS="r@c", CDS="c@1") == []
    assert peer.stream.next_due(peer.now) is None
    assert peer.wait(PATIENCE) == []
    assert peer.put(RDS="", CDS="") == []
    assert peer.stream.next_due(peer.now) == peer.now + PATIENCE


def test_new_name_that_is_gone_is_waited_for_although_another_was() -> None:
    """O1: each has its time from when it went."""
    peer = SotwPeer(LDS="l@1", RDS="r@c s@c", CDS="c@1")
    for short, *names in (("LDS", "l"), ("RDS", "r", "s"), ("CDS", "c")):
        peer.ask(short, *names)
        peer.ack(short)
    assert peer.put(RDS="s@c", CDS="") == []
    assert peer.wait(1) == []
    assert peer.put(RDS="") == []
    assert peer.wait(PATIENCE - 1) == []
    assert peer.wait(1) == ["4 CDS"]


def test_listener_and_its_routes_go_together() -> None:
    """O1: what would have the client give up the routes is the listener itself."""
    peer = caller()
    assert peer.put(LDS="", RDS="") == ["5 LDS"]


@pytest.mark.parametrize("names", [("l",), ("l", "r")], ids=["no routes", "routes"])
def test_cluster_goes_after_the_listener_if_nothing_else_is_asked_for(
    names: tuple[str, ...],
) -> None:
    """O1: routes that the client does not ask for, or that are there, keep nothing."""
    peer = calling(SotwPeer(LDS="l@1", RDS="r@c", CDS="c@1"), *names)
    peer.ask("CDS", "c")
    peer.ack("CDS")
    assert [line[2:] for line in peer.put(LDS="l@2", CDS="")] == ["LDS l@2"]
    assert [line[2:] for line in peer.ack("LDS")] == ["CDS"]


def test_routes_of_a_listener_that_is_no_business_of_the_stream_keep_nothing() -> None:
    """O1: nothing that is sent can have the client give them up, so it is not waited for."""
    peer = SotwPeer(RDS="r@c", CDS="c@1")
    for short, name in (("RDS", "r"), ("CDS", "c")):
        peer.ask(short, name)
        peer.ack(short)
    assert peer.put(RDS="", CDS="") == ["3 CDS"]
