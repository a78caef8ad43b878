"""What operators are told about each resource on its way to a client."""

from __future__ import annotations

import pytest

from control_plane.xds.delivery import ConfigStatus, Delivery, deliveries, has_version
from control_plane.xds.resource_type import LISTENER, SECRET
from tests.unit.xds.notation import version
from tests.unit.xds.peers import REFUSED, DeltaPeer, Peer, SotwPeer


def statuses(peer: Peer) -> list[str]:
    """Return name and status of every delivery."""
    return [f"{each.name} {each.status.value}" for each in deliveries(peer.stream, peer.snapshot)]


def test_way_of_a_secret() -> None:
    """A14: sent, then ACKed, is as far as the server can see."""
    peer = DeltaPeer(SDS="?s")
    peer.take("SDS", "s", "t")
    assert statuses(peer) == []
    peer.put(SDS="t@1 u@1 s@1")
    assert statuses(peer) == ["s STALE", "t NOT_SENT"]
    peer.now = 107.0
    peer.ack("SDS")
    assert statuses(peer) == ["s SYNCED", "t STALE"]
    peer.nack("SDS")
    assert statuses(peer) == ["s SYNCED", "t ERROR"]
    peer.put(SDS="s@1 t@2")
    assert statuses(peer) == ["s SYNCED", "t STALE"]


def test_error_is_of_the_content_that_was_refused() -> None:
    """D3: the content after it was not sent yet while another resource is answered for."""
    peer = DeltaPeer(SDS="s@1 t@1")
    peer.ask("SDS", "s", "t")
    peer.nack("SDS")
    peer.put(SDS="s@2 t@1")
    assert statuses(peer) == ["s NOT_SENT", "t STALE"]


def test_delivery_is_of_what_an_alias_means() -> None:
    """W13: operators see the resource by its name, whatever its client calls it."""
    peer = DeltaPeer(EDS="e@1|x f@1|y", VHDS="r/a@1|r/one r/b@1|r/two")
    peer.ask("EDS", "x")
    assert statuses(peer) == ["e STALE"]
    peer.ack("EDS")
    peer.ask("VHDS", "*")
    peer.ack("VHDS", "r/two")
    assert statuses(peer) == ["e SYNCED", "r/b STALE"]


def test_delivery_says_what_the_client_has_and_what_it_refused() -> None:
    """A5, A14: a refused secret stands beside the one that is still in use."""
    peer = DeltaPeer(SDS="s@1", now=50.0)
    peer.take("SDS", "s")
    peer.put(SDS="s@2")
    peer.now = 60.0
    peer.nack("SDS")
    (delivery,) = deliveries(peer.stream, peer.snapshot)
    assert delivery == Delivery(
        SECRET,
        "s",
        version("s@2"),
        ConfigStatus.ERROR,
        version("s@1"),
        50.0,
        peer.stream.refusal(SECRET, "s"),
    )
    assert delivery.refusal is not None
    assert delivery.refusal.error == REFUSED


def test_since_is_when_the_content_was_accepted_first() -> None:
    """R3: that it was in later complete responses too is no news."""
    peer = SotwPeer(LDS="a@1", now=50.0)
    peer.take("LDS")
    peer.put(LDS="a@1 b@1")
    peer.now = 60.0
    peer.ack("LDS")
    assert [each.since for each in deliveries(peer.stream, peer.snapshot)] == [50.0, 60.0]


def test_recorded_content_is_delivered_to_those_who_have_it() -> None:
    """C2: after a restart the ledger is complete as soon as the clients are back."""
    peer = DeltaPeer(SDS="=s@1 =t@1")
    peer.ask("SDS", "s", "t", has="s@1")
    assert statuses(peer) == ["s SYNCED", "t NOT_SENT"]


@pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
def test_only_acked_versions_count_as_had(variant: type[SotwPeer | DeltaPeer]) -> None:
    """A14: a command that waits for a rotation waits for the ACK."""
    peer = variant(SDS="s@1")
    peer.ask("SDS", "s")
    assert not has_version(peer.stream, SECRET, "s", version("s@1"))
    peer.ack("SDS")
    assert has_version(peer.stream, SECRET, "s", version("s@1"))
    assert not has_version(peer.stream, SECRET, "s", version("s@2"))
    assert not has_version(peer.stream, LISTENER, "l", version("l@1"))
