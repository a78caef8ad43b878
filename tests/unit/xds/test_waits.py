"""How long one type waits for another: for what it may refer to, and for no more than that."""

from __future__ import annotations

import pytest

from tests.unit.xds.notation import snapshot
from tests.unit.xds.peers import DeltaPeer, SotwPeer

VARIANTS = pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
Variant = type[SotwPeer | DeltaPeer]


def connected(
    variant: Variant, *, cds: str, lds: str, eds: str = "", rds: str = ""
) -> SotwPeer | DeltaPeer:
    """Return a client that has all clusters and listeners, endpoints of c and d, and the route."""
    peer = variant(CDS=cds, EDS=eds, LDS=lds, RDS=rds)
    for short, *names in (("CDS",), ("EDS", "c", "d"), ("LDS",), ("RDS", "r")):
        peer.take(short, *names)
    assert peer.stream.in_step(peer.snapshot)
    return peer


def told(lines: list[str]) -> list[str]:
    """Return responses without their nonces."""
    return [line.split(" ", 1)[1] for line in lines]


@VARIANTS
def test_followers_leave_although_endpoints_change_with_each_round_trip(variant: Variant) -> None:
    """O6: what changes all the time holds up a listener for one round trip, or two."""
    peer = connected(variant, cds="c@1", eds="c@1 d@1", lds="l@1", rds="r@1")
    assert told(peer.put(EDS="c@2 d@1", LDS="l@2", RDS="r@2")) == ["EDS c@2"]
    assert peer.put(EDS="c@3 d@1") == []
    assert told(peer.ack("EDS")) == ["EDS c@3", "LDS l@2"]
    assert peer.put(EDS="c@4 d@1") == []
    assert told(peer.ack("EDS")) == ["EDS c@4"]
    assert told(peer.ack("LDS")) == ["RDS r@2"]
    assert peer.put(EDS="c@5 d@1", LDS="l@5") == []
    assert told(peer.ack("EDS")) == ["EDS c@5"]
    assert peer.put(EDS="c@6 d@1") == []
    assert told(peer.ack("EDS")) == ["EDS c@6", "LDS l@5"]


@pytest.mark.parametrize("before", ["l@1", "l@2"], ids=["rested", "waited"])
@VARIANTS
def test_follower_waits_for_content_that_is_as_new_as_its_own(
    variant: Variant, before: str
) -> None:
    """O6: the answer to older content of the same name, which was in flight, does not count."""
    peer = connected(variant, cds="c@1", lds="l@1")
    assert told(peer.put(CDS="c@2", LDS=before)) == ["CDS c@2"]
    assert peer.put(CDS="c@3", LDS="l@3") == []
    assert told(peer.ack("CDS")) == ["CDS c@3"]
    assert told(peer.ack("CDS")) == ["LDS l@3"]


@VARIANTS
def test_follower_that_changes_waits_for_what_is_new_by_then(variant: Variant) -> None:
    """O1, O6: it may refer to that, and not to what comes still later."""
    peer = connected(variant, cds="c@1", lds="l@1")
    assert told(peer.put(CDS="c@2", LDS="l@c")) == ["CDS c@2"]
    assert peer.put(CDS="c@2 d@1", LDS="l@d") == []
    assert peer.put(CDS="c@2 d@1 e@1") == []
    new = "c@2 d@1 e@1" if variant is SotwPeer else "d@1 e@1"
    assert told(peer.ack("CDS")) == [f"CDS {new}"]
    assert peer.put(CDS="c@3 d@1 e@2 f@1") == []
    new = "c@3 d@1 e@2 f@1" if variant is SotwPeer else "f@1 c@3 e@2"
    assert told(peer.ack("CDS")) == [f"CDS {new}", "LDS l@d"]


@VARIANTS
def test_follower_that_changes_all_the_time_waits_once_for_each_name(variant: Variant) -> None:
    """O6: else a listener that changes along with its cluster would never leave."""
    peer = connected(variant, cds="c@1", lds="l@1")
    assert told(peer.put(CDS="c@2", LDS="l@2")) == ["CDS c@2"]
    assert peer.put(CDS="c@3", LDS="l@3") == []
    assert told(peer.ack("CDS")) == ["CDS c@3"]
    assert peer.put(CDS="c@4", LDS="l@4") == []
    assert told(peer.ack("CDS")) == ["CDS c@4", "LDS l@4"]


@VARIANTS
def test_follower_that_changes_as_it_has_waited_leaves(variant: Variant) -> None:
    """O6: of what it waited for before, newer content is no reason to wait anew."""
    peer = connected(variant, cds="c@1", lds="l@1")
    assert told(peer.put(CDS="c@2", LDS="l@2")) == ["CDS c@2"]
    peer.snapshot = snapshot(CDS="c@3", LDS="l@3")
    assert told(peer.ack("CDS")) == ["CDS c@3", "LDS l@3"]


@VARIANTS
def test_follower_that_changes_waits_for_what_is_new_although_it_waited_for_the_rest(
    variant: Variant,
) -> None:
    """O1, O6: whatever of it is new, and of whichever type."""
    peer = connected(variant, cds="c@1", eds="c@1 d@1", lds="l@1")
    assert told(peer.put(EDS="c@2 d@1", LDS="l@2")) == ["EDS c@2"]
    peer.snapshot = snapshot(CDS="c@1 n@1", EDS="c@3 d@1 n@1", LDS="l@n")
    now = "c@1 n@1" if variant is SotwPeer else "n@1"
    assert told(peer.ack("EDS")) == [f"CDS {now}", "EDS c@3"]
    assert told(peer.ack("CDS")) == ["LDS l@n"]


@VARIANTS
def test_name_that_was_refused_is_new_to_a_follower_that_changes(variant: Variant) -> None:
    """O1: what the client has not taken while the follower waited is no place to refer to."""
    peer = connected(variant, cds="c@1", eds="c@1 d@1", lds="l@1")
    peer.put(EDS="c@2 d@1")
    assert peer.put(EDS="c@3 d@1", LDS="l@2") == []
    assert told(peer.put(CDS="c@1 n@1"))[0].startswith("CDS ")
    assert peer.nack("CDS") == []
    now = "c@1 n@2" if variant is SotwPeer else "n@2"
    assert told(peer.put(CDS="c@1 n@2", LDS="l@n")) == [f"CDS {now}"]
    assert told(peer.ack("EDS")) == ["EDS d@1 c@3"]
    assert peer.ack("EDS") == []
    assert told(peer.ack("CDS")) == ["LDS l@n"]


@VARIANTS
def test_removal_holds_up_nobody(variant: Variant) -> None:
    """O1, O6: nothing refers to what is gone, so nothing waits for the answer to that."""
    peer = connected(variant, cds="c@1 d@1", lds="l@1")
    assert told(peer.put(CDS="c@1")) == ["CDS c@1" if variant is SotwPeer else "CDS -d"]
    assert told(peer.put(LDS="l@2")) == ["LDS l@2"]


@VARIANTS
def test_follower_waits_for_what_comes_back_while_its_removal_is_in_flight(
    variant: Variant,
) -> None:
    """O1: the client loses it before it has it again."""
    peer = connected(variant, cds="c@1 d@1", lds="l@1")
    assert told(peer.put(CDS="c@1")) == ["CDS c@1" if variant is SotwPeer else "CDS -d"]
    assert peer.put(CDS="c@1 d@1", LDS="l@d") == []
    assert told(peer.ack("CDS")) == ["CDS c@1 d@1" if variant is SotwPeer else "CDS d@1"]
    assert told(peer.ack("CDS")) == ["LDS l@d"]


@VARIANTS
def test_follower_waits_for_the_rest_of_a_change_that_takes_several_responses(
    variant: Variant,
) -> None:
    """O6: what is due counts like what is in flight, also while it is not its turn."""
    peer = connected(variant, cds="c@1 d@1", eds="c@1 d@1", lds="l@1")
    assert told(peer.put(EDS="c@2 d@1")) == ["EDS c@2"]
    assert peer.put(EDS="c@2 d@2", LDS="l@2") == []
    assert told(peer.ack("EDS")) == ["EDS d@2"]
    assert told(peer.ack("EDS")) == ["LDS l@2"]


def test_follower_waits_for_what_comes_while_everything_is_asked_for_again() -> None:
    """O1, W9: a cluster that is new by then is in the answer to that."""
    peer = DeltaPeer(CDS="a@1", LDS="l@1")
    for short in ("CDS", "LDS"):
        peer.take(short)
    assert peer.put(CDS="a@2") == ["3 CDS a@2"]
    assert peer.ask("CDS", "*") == []
    assert peer.put(CDS="a@2 b@1", LDS="l@2") == []
    assert peer.ack("CDS") == ["4 CDS b@1 a@2"]
    assert peer.ack("CDS") == ["5 LDS l@2"]


def test_client_that_asks_for_everything_again_and_again_holds_up_nobody() -> None:
    """O6, W15: that there are no clusters is waited for once, like a cluster."""
    peer = DeltaPeer(LDS="l@1")
    assert peer.ask("CDS") == ["1 CDS"]
    assert peer.ask("LDS") == []
    assert peer.ack("CDS", "*") == ["2 CDS", "3 LDS l@1"]


@VARIANTS
def test_follower_with_nothing_to_send_waits_for_nothing(variant: Variant) -> None:
    """O6: it waits from when it has something, whatever went before."""
    peer = connected(variant, cds="c@1", eds="c@1 d@1", lds="l@1")
    assert told(peer.put(LDS="l@2")) == ["LDS l@2"]
    peer.nack("LDS")
    assert told(peer.put(EDS="c@2 d@1")) == ["EDS c@2"]
    assert peer.put(EDS="c@3 d@1") == []
    assert peer.wait(1) == []
    assert told(peer.ack("EDS")) == ["EDS c@3"]
    assert told(peer.ack("EDS")) == ["LDS l@2"]
