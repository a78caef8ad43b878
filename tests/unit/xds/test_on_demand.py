"""What a delta stream owes its client of resources that are sent on demand: virtual hosts."""

from __future__ import annotations

import pytest

from control_plane.errors import PeerProtocolError
from tests.unit.xds.peers import DeltaPeer, SotwPeer

HOSTS = "r/a@1|r/one|r/uno r/b@1|r/two"


def routed(hosts: str = HOSTS) -> DeltaPeer:
    """Return a client that has the routes ``r`` and heard of their virtual hosts."""
    peer = DeltaPeer(RDS="r@1", VHDS=hosts)
    peer.take("RDS", "r")
    peer.take("VHDS")
    return peer


def test_wildcard_brings_none() -> None:
    """W3, W15: it is answered with news of each routes, or Envoy waits 15 s to use them."""
    peer = DeltaPeer(RDS="r@1 s@1", VHDS=HOSTS)
    assert peer.ask("VHDS") == ["1 VHDS -r/ -s/"]
    assert peer.ack("VHDS") == []
    assert peer.put(VHDS=f"{HOSTS} r/c@1|r/three") == []
    assert peer.stream.in_step(peer.snapshot)


def test_wildcard_of_a_node_without_routes_is_answered_too() -> None:
    """W15: there is nothing to say, and that is said."""
    assert DeltaPeer(VHDS=HOSTS).ask("VHDS", "*") == ["1 VHDS"]


def test_alias_brings_its_virtual_host() -> None:
    """W13, R5: that one, and from then on each change of it."""
    peer = routed()
    assert peer.ask("VHDS", "r/one") == ["3 VHDS r/a@1"]
    peer.ack("VHDS")
    assert peer.put(VHDS="r/a@2|r/one|r/uno r/b@2|r/two") == ["4 VHDS r/a@2"]
    peer.ack("VHDS")
    assert peer.put(VHDS="r/b@2|r/two") == ["5 VHDS -r/a -r/one"]
    assert peer.ack("VHDS") == []
    assert peer.put(VHDS=HOSTS) == ["6 VHDS r/a@1"]


def test_name_brings_its_virtual_host() -> None:
    """W1: a client may know it by its name too."""
    peer = routed()
    assert peer.ask("VHDS", "r/b") == ["3 VHDS r/b@1"]
    peer.ack("VHDS")
    assert peer.put(VHDS="r/a@1|r/one") == ["4 VHDS -r/b"]


def test_alias_of_nothing_is_told_without_content() -> None:
    """W7, W8, W9: each time it is asked for; and it is sent once it exists."""
    peer = routed()
    assert peer.ask("VHDS", "r/three", "r/one") == ["3 VHDS r/a@1 !r/three"]
    assert peer.ack("VHDS", "r/three") == ["4 VHDS !r/three"]
    assert peer.ack("VHDS") == []
    assert peer.put(VHDS=f"{HOSTS} r/c@1|r/three") == ["5 VHDS r/c@1"]


def test_alias_given_up_under_the_wildcard_is_answered() -> None:
    """W12: an Envoy gives up all that it asked for when the routes have another source of them."""
    peer = routed()
    peer.take("VHDS", "r/one", "r/uno", "r/three")
    assert peer.ask("VHDS", drop=["r/three", "r/uno"]) == ["4 VHDS -r/three -r/uno"]
    peer.ack("VHDS")
    assert peer.ask("VHDS", drop=["r/one"]) == ["5 VHDS -r/a -r/one"]
    assert peer.ack("VHDS") == []
    assert peer.ask("VHDS", "r/one") == ["6 VHDS r/a@1"]


def test_alias_given_up_and_asked_for_again_is_sent_again() -> None:
    """W9: what the client said last counts, also before it was answered."""
    peer = routed()
    peer.ask("VHDS", "r/one")
    assert peer.ask("VHDS", drop=["r/one"]) == []
    assert peer.ask("VHDS", "r/one") == []
    assert peer.ack("VHDS") == ["4 VHDS r/a@1"]
    assert peer.ack("VHDS") == []


def test_wildcard_given_up_leaves_what_was_asked_for() -> None:
    """W6: a client that does not want everything any more has what it named."""
    peer = routed()
    peer.take("VHDS", "r/one")
    assert peer.ask("VHDS", drop=["*"]) == []
    assert peer.put(VHDS="r/a@2|r/one|r/uno") == ["4 VHDS r/a@2"]


def test_routes_that_are_sent_are_followed_by_news_of_their_virtual_hosts() -> None:
    """O1, O2: once they were ACKed; Envoy asks for nothing if it did so for other routes."""
    peer = routed()
    assert peer.ask("RDS", "s") == ["3 RDS -s"]
    peer.ack("RDS")
    assert peer.put(RDS="r@1 s@1") == ["4 RDS s@1"]
    assert peer.ack("RDS") == ["5 VHDS -s/"]
    assert peer.ack("VHDS") == []


def test_virtual_hosts_come_after_their_routes() -> None:
    """O1: VHDS after RDS."""
    peer = routed()
    peer.take("VHDS", "r/one")
    assert peer.put(RDS="r@2", VHDS="r/a@2|r/one") == ["4 RDS r@2"]
    assert peer.ack("RDS") == ["5 VHDS r/a@2 -r/"]


def test_client_that_comes_back_is_told_what_is_gone() -> None:
    """C1: it states by its name what it got by an alias, and by the alias what does not exist."""
    peer = DeltaPeer(RDS="r@1", VHDS=HOSTS)
    first = peer.ask("VHDS", "*", "r/one", "r/three", has="r/a@1 r/gone@1 r/three@1")
    assert first == ["1 VHDS r/a@1 -r/ -r/gone -r/three"]
    assert peer.ack("VHDS") == ["2 VHDS !r/three"]
    assert peer.ack("VHDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_client_that_refuses_what_it_has_may_have_it_still() -> None:
    """A7, C1: it refused what it was sent once more; when that goes, it is told by removal."""
    peer = DeltaPeer(VHDS="r/a@1")
    assert peer.ask("VHDS", "r/a", has="r/a@1") == ["1 VHDS r/a@1"]
    assert peer.nack("VHDS") == []
    assert peer.put(VHDS="") == ["2 VHDS -r/a"]
    assert peer.ack("VHDS") == ["3 VHDS !r/a"]
    assert peer.ack("VHDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_news_that_were_refused_are_told_again() -> None:
    """A7, O1: by themselves, after a pause."""
    peer = DeltaPeer(RDS="r@1", VHDS=HOSTS)
    assert peer.ask("VHDS", "*", "r/one") == ["1 VHDS r/a@1 -r/"]
    assert peer.nack("VHDS") == []
    assert peer.wait(1.0) == ["2 VHDS -r/"]
    assert peer.ack("VHDS") == ["3 VHDS r/a@1"]
    assert peer.ack("VHDS") == []


def test_state_of_the_world_clients_have_no_virtual_hosts() -> None:
    """V2: VHDS is delta only."""
    with pytest.raises(PeerProtocolError, match=r"VirtualHost is served by the incremental"):
        SotwPeer(VHDS=HOSTS).ask("VHDS", "r/one")
