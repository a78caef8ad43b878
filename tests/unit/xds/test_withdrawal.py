"""Make before break, the way back: when what is gone is taken from a client."""

from __future__ import annotations

import pytest

from control_plane.xds.messages import Node
from control_plane.xds.refusal import FIRST_PAUSE
from control_plane.xds.withdrawal import PATIENCE
from tests.unit.xds.peers import DeltaPeer, SotwPeer

VARIANTS = pytest.mark.parametrize("variant", [DeltaPeer, SotwPeer])


def calling(peer: SotwPeer | DeltaPeer, *names: str) -> SotwPeer | DeltaPeer:
    """Have a client ask for everything by name, as gRPC does: one listener, and what it leads to.

    Args:
        peer: the client.
        names: of its listener, routes, cluster and endpoints; the first ones only, if there are
            fewer.
    """
    for short, name in zip(("LDS", "RDS", "CDS", "EDS"), names, strict=False):
        peer.take(short, name)
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


def test_cluster_stays_also_if_the_new_routes_are_gone_before_the_client_got_them() -> None:
    """O1: it waits for routes that are not there any more, and uses the ones that it gave up."""
    peer = caller()
    assert peer.put(LDS="l@s", RDS="s@d", CDS="d@1", EDS="d@1") == ["5 LDS l@s"]
    assert peer.put(LDS="l@t", RDS="t@d") == []
    assert peer.ack("LDS") == ["6 LDS l@t"]
    assert peer.ask("RDS", "s") == []
    assert peer.ack("LDS") == []
    assert peer.ask("RDS", "t") == ["7 RDS t@d"]
    assert peer.ack("RDS") == ["8 CDS"]


def test_cluster_of_a_delta_client_stays_until_it_has_the_new_routes() -> None:
    """O1: there, routes that are gone are withdrawn first, and what the client asks for comes."""
    peer = calling(DeltaPeer(LDS="l@r", RDS="r@c", CDS="c@1", EDS="c@1"), "l", "r", "c", "c")
    assert isinstance(peer, DeltaPeer)
    assert peer.put(LDS="l@s", RDS="s@d", CDS="d@1", EDS="d@1") == ["5 LDS l@s"]
    assert peer.ack("LDS") == ["6 RDS -r"]
    assert peer.ask("RDS", "s", drop=["r"]) == []
    assert peer.ack("RDS") == ["7 RDS s@d"]
    assert peer.ack("RDS") == ["8 CDS -c", "9 EDS -c"]


def test_delta_client_that_asks_for_routes_that_are_not_there_keeps_nothing_for_them() -> None:
    """O1, W7: it was told so, and has let go of those that it gave up."""
    peer = calling(DeltaPeer(LDS="l@r", RDS="r@c", CDS="c@1", EDS="c@1"), "l", "r", "c", "c")
    assert isinstance(peer, DeltaPeer)
    assert peer.ask("RDS", "s", drop=["r"]) == ["5 RDS -s"]
    assert peer.ack("RDS") == []
    assert peer.put(CDS="", EDS="") == ["6 CDS -c", "7 EDS -c"]


def test_cluster_goes_once_the_listeners_are_known_that_the_client_came_back_with() -> None:
    """O1, C3: listeners that are not sent again, since the client has them, hold up nothing."""
    peer = SotwPeer(CDS="c@1 d@1", LDS="l@1")
    assert peer.ask("CDS") == ["1 CDS c@1 d@1"]
    assert peer.ask("LDS", has="l@1") == []
    assert peer.put(CDS="c@1") == []
    assert peer.ack("CDS") == ["2 CDS c@1"]


def test_cluster_stays_as_long_as_routes_that_need_it_no_more_are_not_answered() -> None:
    """O1: only a response with nothing in it may never be."""
    peer = caller()
    assert peer.put(RDS="r@d", CDS="d@1") == ["5 RDS r@d"]
    assert peer.wait(PATIENCE) == []
    assert peer.ack("RDS") == ["6 CDS"]


def warming(variant: type[DeltaPeer | SotwPeer], **secrets: str) -> DeltaPeer | SotwPeer:
    """Return a client with a listener that leads to another cluster now, and needs two secrets."""
    peer = variant(CDS="c@1", LDS="l@c")
    for short in ("CDS", "LDS"):
        peer.take(short)
    assert len(peer.put(CDS="d@1", LDS="l@d", **secrets)) == 1
    assert told(peer.ack("CDS")) == ["LDS l@d"]
    return peer


def told(responses: list[str]) -> list[str]:
    """Return responses without their nonces."""
    return [each.partition(" ")[2] for each in responses]


@VARIANTS
def test_cluster_stays_until_the_client_can_use_the_listener_that_it_accepted(
    variant: type[DeltaPeer | SotwPeer],
) -> None:
    """O1, O3, A14: Envoy goes on with the one before while it lacks a secret of the new one."""
    peer = warming(variant, SDS="s@1 t@1")
    assert told(peer.ask("SDS", "s", "t")) == ["SDS s@1"]
    assert peer.ack("LDS") == []
    assert told(peer.ack("SDS")) == ["SDS t@1"]
    gone = ["CDS -c"] if variant is DeltaPeer else ["CDS d@1"]
    assert told(peer.ack("SDS")) == gone


@VARIANTS
def test_secret_that_never_comes_keeps_a_cluster_for_a_while_only(
    variant: type[DeltaPeer | SotwPeer],
) -> None:
    """O1: after that, what should not be there goes all the same."""
    peer = warming(variant)
    peer.ask("SDS", "s")
    assert peer.ack("LDS") == []
    assert peer.stream.next_due(peer.now) == peer.now + PATIENCE
    gone = ["CDS -c"] if variant is DeltaPeer else ["CDS d@1"]
    assert told(peer.wait(PATIENCE)) == gone


def test_what_a_client_came_back_with_goes_when_it_may_go_although_nothing_happens() -> None:
    """O1, E1: that it is not there takes it from the client, and nothing else wakes the stream."""
    errors = frozenset({"supports-resource-error-unwrapping"})
    peer = SotwPeer(LDS="l@1", node=Node("instance-1", client_features=errors))
    assert told(peer.ask("LDS")) == ["LDS l@1"]
    assert peer.ask("EDS", "c", has="c@1") == []
    assert told(peer.ask("SDS", "s")) == ["SDS ~s"]
    assert peer.ack("SDS") == []
    assert peer.ack("LDS") == []
    assert peer.stream.next_due(peer.now) == peer.now + PATIENCE
    assert told(peer.wait(PATIENCE)) == ["EDS ~c"]


def test_what_a_client_may_have_goes_when_it_may_go_although_nothing_happens() -> None:
    """R3, O1: it refused what came in place of what it may have, and accepted nothing yet."""
    peer = SotwPeer(CDS="c@2")
    assert told(peer.ask("CDS", has="c@1")) == ["CDS c@2"]
    assert peer.nack("CDS") == []
    assert peer.ask("LDS") == ["2 LDS"]
    assert peer.ack("LDS") == []
    assert told(peer.put(CDS="", LDS="l@1")) == ["LDS l@1"]
    peer.ask("SDS", "s")
    assert peer.ack("LDS") == []
    accepted_at = peer.now
    assert peer.wait(FIRST_PAUSE) == []
    assert peer.stream.next_due(peer.now) == accepted_at + PATIENCE
    assert told(peer.wait(PATIENCE - FIRST_PAUSE)) == ["CDS"]


@VARIANTS
def test_client_without_a_listener_has_no_use_for_a_secret(
    variant: type[DeltaPeer | SotwPeer],
) -> None:
    """O1: what went with the last listener is not kept, although a secret of it never came."""
    peer = warming(variant)
    peer.ask("SDS", "s")
    peer.ack("LDS")
    gone = "-{}" if variant is DeltaPeer else ""
    assert told(peer.put(CDS="", LDS="")) == [f"LDS {gone.format('l')}".rstrip()]
    last = "-c -d" if variant is DeltaPeer else ""
    assert told(peer.ack("LDS")) == [f"CDS {last}".rstrip()]


@VARIANTS
def test_secret_that_changes_holds_up_nothing(variant: type[DeltaPeer | SotwPeer]) -> None:
    """O1: who has one of an earlier content does not wait for the next."""
    peer = warming(variant, SDS="s@1")
    assert told(peer.ask("SDS", "s")) == ["SDS s@1"]
    assert told(peer.ack("SDS")) == []
    assert told(peer.put(SDS="s@2")) == ["SDS s@2"]
    gone = ["CDS -c"] if variant is DeltaPeer else ["CDS d@1"]
    assert told(peer.ack("LDS")) == gone


@VARIANTS
def test_collection_of_secrets_holds_up_nothing(variant: type[DeltaPeer | SotwPeer]) -> None:
    """O1, E4: nothing has the name of a collection, so that is not waited for."""
    peer = warming(variant, SDS="xdstp://a/T/one@1")
    assert told(peer.ask("SDS", "xdstp://a/T/*")) == ["SDS xdstp://a/T/one@1"]
    assert peer.ack("SDS") == []
    gone = ["CDS -c"] if variant is DeltaPeer else ["CDS d@1"]
    assert told(peer.ack("LDS")) == gone


@pytest.mark.parametrize("variant", [DeltaPeer, SotwPeer])
def test_client_that_has_no_clusters_is_waited_for_in_vain(
    variant: type[DeltaPeer | SotwPeer],
) -> None:
    """R6: there is nothing to take from it once its patience is over, so nothing wakes for that."""
    peer = variant(LDS="l@1")
    for short, *names in (("SDS", "s"), ("LDS",), ("CDS",)):
        if peer.ask(short, *names):
            peer.ack(short)
    assert peer.stream.next_due(peer.now) is None


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


def test_cluster_stays_for_whatever_keeps_it_longest() -> None:
    """O1: routes that are gone, or a secret that never comes."""
    peer = caller()
    assert peer.put(RDS="", CDS="") == []
    assert peer.wait(1) == []
    assert peer.ask("SDS", "s") == []
    assert peer.wait(PATIENCE - 1) == []
    assert peer.stream.next_due(peer.now) == peer.now + 1
    assert peer.wait(1) == ["5 CDS"]


def test_routes_that_never_come_keep_nothing_of_who_gave_up_none_for_them() -> None:
    """O1: what it gave up others for before, it has."""
    peer = caller()
    assert peer.put(LDS="l@s", RDS="s@c") == ["5 LDS l@s"]
    assert peer.ack("LDS") == []
    assert peer.ask("RDS", "s") == ["6 RDS s@c"]
    assert peer.ack("RDS") == []
    assert peer.ask("RDS", "s", "x") == []
    assert peer.put(CDS="") == ["7 CDS"]


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
        peer.take(short, *names)
    assert peer.put(RDS="s@c", CDS="") == []
    assert peer.wait(1) == []
    assert peer.put(RDS="") == []
    assert peer.wait(PATIENCE - 1) == []
    assert peer.wait(1) == ["4 CDS"]


def test_listener_and_its_routes_go_together() -> None:
    """O1: what would have the client give up the routes is the listener itself."""
    peer = caller()
    assert peer.put(LDS="", RDS="") == ["5 LDS"]


@VARIANTS
def test_listener_goes_although_routes_are_refused(variant: type[DeltaPeer | SotwPeer]) -> None:
    """O1: no routes refer to a listener, so it does not wait for them, but their cluster does."""
    peer = variant(LDS="l@r m@s", RDS="r@c s@c", CDS="c@1")
    for short, *wanted in (("CDS",), ("LDS",), ("RDS", "r", "s")):
        peer.take(short, *wanted)
    peer.put(LDS="l@r m@s", RDS="r@d s@c")
    peer.nack("RDS")

    gone = {DeltaPeer: "LDS -m", SotwPeer: "LDS l@r"}[variant]
    assert [line[2:] for line in peer.put(LDS="l@r", CDS="")] == [gone]
    assert peer.ack("LDS") == []


@VARIANTS
def test_listener_makes_room_for_the_one_that_takes_its_address(
    variant: type[DeltaPeer | SotwPeer],
) -> None:
    """O1: one response takes the one and brings the other, or Envoy would refuse the other."""
    peer = variant(LDS="l@r", RDS="r@c", CDS="c@1")
    for short, *wanted in (("CDS",), ("LDS",), ("RDS", "r")):
        peer.take(short, *wanted)

    both = {DeltaPeer: "LDS m@s -l", SotwPeer: "LDS m@s"}[variant]
    assert [line[2:] for line in peer.put(LDS="m@s", RDS="s@c")][:1] == [both]


@pytest.mark.parametrize("names", [("l",), ("l", "r")], ids=["no routes", "routes"])
def test_cluster_goes_after_the_listener_if_nothing_else_is_asked_for(
    names: tuple[str, ...],
) -> None:
    """O1: routes that the client does not ask for, or that are there, keep nothing."""
    peer = calling(SotwPeer(LDS="l@1", RDS="r@c", CDS="c@1"), *names)
    peer.take("CDS", "c")
    assert [line[2:] for line in peer.put(LDS="l@2", CDS="")] == ["LDS l@2"]
    assert [line[2:] for line in peer.ack("LDS")] == ["CDS"]


def test_routes_of_a_listener_that_is_no_business_of_the_stream_keep_nothing() -> None:
    """O1: nothing that is sent can have the client give them up, so it is not waited for."""
    peer = SotwPeer(RDS="r@c", CDS="c@1")
    for short, name in (("RDS", "r"), ("CDS", "c")):
        peer.take(short, name)
    assert peer.put(RDS="", CDS="") == ["3 CDS"]


def scoped() -> SotwPeer:
    """Return a client that had scoped routes, and has a listener now that does not use them.

    As Envoy does, it says nothing of that, and does not answer that the last of them are gone.
    """
    peer = SotwPeer(CDS="c@1", LDS="l@s", SRDS="s@1")
    for short in ("CDS", "LDS", "SRDS"):
        peer.take(short)
    assert peer.put(LDS="l@1") == ["4 LDS l@1"]
    peer.ack("LDS")
    assert peer.put(SRDS="") == ["5 SRDS"]
    return peer


def test_response_with_nothing_in_it_that_is_not_answered_keeps_nothing_for_long() -> None:
    """O1: Envoy answers none of a type that nothing in it is interested in any more."""
    peer = scoped()
    assert peer.put(LDS="", CDS="") == ["6 LDS"]
    assert peer.stream.next_due(peer.now) == peer.now + PATIENCE
    assert peer.ack("LDS") == []
    assert peer.stream.next_due(peer.now) == peer.now + PATIENCE
    assert peer.wait(PATIENCE) == ["7 CDS"]
    assert peer.ack("CDS") == []
    assert peer.stream.next_due(peer.now) is None
    assert peer.put(LDS="m@1", CDS="d@1") == ["8 CDS d@1"]
    assert peer.ack("CDS") == ["9 LDS m@1"]


def test_response_with_nothing_in_it_is_answered_by_the_next_request() -> None:
    """O1, W8: a client that is interested again knows its nonce, and is sent what is there now."""
    peer = scoped()
    peer.wait(PATIENCE)
    assert peer.put(LDS="l@s", SRDS="s@1") == ["6 LDS l@s"]
    assert peer.ack("LDS") == []
    assert peer.ask("SRDS", nonce="5") == ["7 SRDS s@1"]
    assert peer.ack("SRDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_what_goes_along_with_the_last_scoped_routes_is_not_forgotten() -> None:
    """O1: it was held back before the response left that is not answered."""
    peer = scoped()
    peer.put(SRDS="s@1")
    peer.ack("SRDS")
    peer.ack("SRDS")
    assert peer.stream.in_step(peer.snapshot)
    peer.put(LDS="l@1")
    peer.ack("LDS")
    peer.ack("SRDS")
    assert [line[2:] for line in peer.put(CDS="", SRDS="")] == ["SRDS"]
    assert peer.stream.next_due(peer.now) == peer.now + PATIENCE
    assert [line[2:] for line in peer.wait(PATIENCE)] == ["CDS"]


def test_response_with_nothing_in_it_is_waited_for_at_first() -> None:
    """O1: a client that goes on using its listener may refuse to lose it."""
    peer = SotwPeer(CDS="c@1", LDS="l@1")
    for short in ("CDS", "LDS"):
        peer.take(short)
    assert peer.put(LDS="", CDS="") == ["3 LDS"]
    assert peer.wait(PATIENCE - 0.5) == []
    assert peer.nack("LDS") == []
    assert peer.wait(0.5) == []
