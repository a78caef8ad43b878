"""How far a type is: as far as the resource that is least far."""

from __future__ import annotations

import pytest

from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.type_status import TypeStatus, type_statuses, worst
from tests.unit.xds.notation import content, short_of
from tests.unit.xds.peers import DeltaPeer, Peer, SotwPeer

VARIANTS = pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])


def status_of(peer: Peer, short: str = "SDS") -> TypeStatus:
    """Return the status of one type that a peer asked for."""
    found = {short_of(each.type_url): each for each in type_statuses(peer.stream, peer.snapshot)}
    return found[short]


@VARIANTS
def test_a_type_follows_its_resource(variant: type[SotwPeer | DeltaPeer]) -> None:
    """D3: STALE once it is sent, SYNCED once it is ACKed, and since when."""
    peer = variant(SDS="s@1")
    peer.ask("SDS", "s")
    sent = status_of(peer)
    peer.now += 5
    peer.ack("SDS")
    acked = status_of(peer)

    assert (sent.status, sent.since, sent.reason) == (
        ConfigStatus.STALE,
        100.0,
        "sent and not answered yet: s",
    )
    assert sent.sent == sent.wanted != sent.accepted
    assert (acked.status, acked.since, acked.reason) == (ConfigStatus.SYNCED, 105.0, "")
    assert acked.wanted == acked.sent == acked.accepted == content("SDS", "s@1").version


@VARIANTS
def test_a_nack_is_told_in_the_clients_words(variant: type[SotwPeer | DeltaPeer]) -> None:
    """D3: ERROR names the resource and the text of the NACK, and what the client still has."""
    peer = variant(SDS="s@1")
    peer.take("SDS", "s")
    before = status_of(peer)
    peer.put(SDS="s@2")
    peer.now += 7
    peer.nack("SDS")
    refused = status_of(peer)

    assert (refused.status, refused.since, refused.reason) == (ConfigStatus.ERROR, 107.0, "s: no")
    assert refused.accepted == refused.sent == before.accepted != refused.wanted


@VARIANTS
def test_nothing_but_what_was_asked_for_is_wanted(variant: type[SotwPeer | DeltaPeer]) -> None:
    """A client that asked for one of two resources is SYNCED with the one."""
    peer = variant(SDS="s@1 t@1")
    peer.take("SDS", "s")

    assert status_of(peer).status is ConfigStatus.SYNCED
    assert status_of(peer).wanted == content("SDS", "s@1").version
    assert [each.name for each in status_of(peer).deliveries] == ["s"]


def test_since_is_when_the_last_of_them_was_accepted() -> None:
    """D3: of several resources the newest says since when the type is as it is."""
    peer = DeltaPeer(SDS="s@1 t@1")
    peer.ask("SDS", "s", "t")
    peer.now = 110.0
    peer.ack("SDS")
    peer.now = 120.0
    peer.ack("SDS")

    assert (status_of(peer).status, status_of(peer).since) == (ConfigStatus.SYNCED, 120.0)


def test_what_waits_for_another_type_is_not_sent() -> None:
    """D3: a listener waits for its cluster, and says so."""
    peer = DeltaPeer(CDS="c@1", LDS="l@1")
    peer.ask("CDS")
    peer.ask("LDS")

    assert status_of(peer, "CDS").status is ConfigStatus.STALE
    assert (status_of(peer, "LDS").status, status_of(peer, "LDS").reason) == (
        ConfigStatus.NOT_SENT,
        "not sent yet: l",
    )
    assert status_of(peer, "LDS").since is None


def test_only_what_waits_is_named() -> None:
    """D3: a listener that the client has is not among those that wait."""
    peer = DeltaPeer(CDS="c@1", LDS="l@1")
    for short in ("CDS", "LDS"):
        peer.take(short)
    peer.put(CDS="c@1 d@1", LDS="l@1 m@1")

    assert status_of(peer, "LDS").reason == "not sent yet: m"


def test_error_ends_when_other_content_is_there() -> None:
    """D3: what was refused is not what the client should have."""
    peer = DeltaPeer(SDS="s@1 t@1")
    peer.ask("SDS", "s", "t")
    peer.nack("SDS")
    peer.put(SDS="s@2 t@1")

    assert status_of(peer).status is ConfigStatus.STALE


def test_what_is_not_made_yet_is_not_sent() -> None:
    """A secret that is being issued keeps its type from being SYNCED; one nobody wants does not."""
    peer = DeltaPeer(SDS="?s")
    peer.ask("SDS", "s")
    other = DeltaPeer(SDS="t@1 ?s")
    other.take("SDS", "t")

    assert (status_of(peer).status, status_of(peer).reason) == (
        ConfigStatus.NOT_SENT,
        "not made yet: s",
    )
    assert status_of(other).status is ConfigStatus.SYNCED


def test_what_is_left_over_is_told() -> None:
    """A client that still has what it should not have is not SYNCED."""
    peer = DeltaPeer(CDS="c@1", LDS="l@1")
    peer.take("CDS")
    peer.take("LDS")
    peer.put(CDS="", LDS="l@2")
    waiting = status_of(peer, "CDS")
    peer.ack("LDS")
    withdrawing = status_of(peer, "CDS")
    peer.ack("CDS")

    assert (waiting.status, waiting.reason) == (
        ConfigStatus.NOT_SENT,
        "not everything is withdrawn",
    )
    assert (withdrawing.status, withdrawing.reason) == (
        ConfigStatus.STALE,
        "sent and not answered yet: c",
    )
    assert withdrawing.sent == withdrawing.wanted != withdrawing.accepted
    assert status_of(peer, "CDS").status is ConfigStatus.SYNCED


def test_an_empty_list_is_on_its_way_too() -> None:
    """W15: the first answer to a wildcard is sent, and awaited, also where there is nothing."""
    peer = SotwPeer()
    peer.ask("LDS")

    assert status_of(peer, "LDS").reason == "sent and not answered yet: the list"
    peer.ack("LDS")
    assert (status_of(peer, "LDS").status, status_of(peer, "LDS").since) == (
        ConfigStatus.SYNCED,
        None,
    )


def test_of_several_streams_the_one_that_is_least_far_counts() -> None:
    """V6: a node whose old stream lingers is as far as the worse of the two."""
    old, new = DeltaPeer(SDS="s@1"), DeltaPeer(SDS="s@1")
    for peer in (old, new):
        peer.ask("SDS", "s")
    new.ack("SDS")

    assert worst([status_of(old), status_of(new)]).status is ConfigStatus.STALE
    old.nack("SDS")
    assert worst([status_of(new), status_of(old)]).status is ConfigStatus.ERROR
