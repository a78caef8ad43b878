"""What a state-of-the-world stream owes its client for one type."""

from __future__ import annotations

import pytest

from control_plane.xds.events import Acked, Connected, Nacked, Stale, Subscribed, Unsubscribed
from control_plane.xds.messages import Node, SotwRequest
from control_plane.xds.resource_type import (
    CLUSTER,
    RUNTIME,
    SECRET,
    AfterNack,
    ResourceType,
    ResourceTypes,
)
from control_plane.xds.sotw import SotwMachine
from tests.unit.xds.notation import content, snapshot, url_of, version
from tests.unit.xds.peers import NODE, REFUSED, SotwPeer


def test_wildcard_is_answered_with_all() -> None:
    """W3: the name ``*`` subscribes to whatever the server holds ready for the node."""
    assert SotwPeer(CDS="c@1 d@1").ask("CDS", "*") == ["1 CDS c@1 d@1"]


def test_empty_list_is_the_wildcard_as_long_as_no_name_was_given() -> None:
    """W4: an empty list of names is the legacy wildcard, in the first request and in later ones."""
    peer = SotwPeer(CDS="c@1")
    assert peer.ask("CDS") == ["1 CDS c@1"]
    assert peer.told()[-1] == Subscribed(CLUSTER, frozenset({"*"}))
    peer.ack("CDS")
    assert peer.put(CDS="c@1 d@1") == ["2 CDS c@1 d@1"]


def test_envoy_that_comes_back_and_needs_no_secret_is_sent_none() -> None:
    """W1, W4: it asks for no name of a type that it once asked for, and does not mean all names."""
    envoy = Node("instance-1", user_agent="envoy/1.40.0")
    peer = SotwPeer(node=envoy, SDS="s@1 t@1", CDS="c@1")
    assert peer.ask("SDS", has="s@1 t@1") == []
    assert peer.told() == (Connected(envoy),)
    assert peer.ask("SDS", "t") == ["1 SDS t@1"]
    peer.ack("SDS")
    assert peer.ask("SDS") == []
    assert peer.ask("CDS") == ["2 CDS c@1"]


@pytest.mark.parametrize("short", ["EDS", "RDS", "SDS", "ECDS", RUNTIME])
@pytest.mark.parametrize("program", ["", "grpc-c++/1.80", "envoy/1.40.0"])
def test_empty_list_is_the_wildcard_for_every_type_but_to_envoy(short: str, program: str) -> None:
    """W4: other clients may mean all resources of a type, of which Envoy never asks for all."""
    peer = SotwPeer(node=Node("instance-1", user_agent=program))
    peer.put(**{short: "a@1"})
    assert bool(peer.ask(short)) is not program.startswith("envoy")


def test_four_steps_of_the_legacy_wildcard() -> None:
    """W5: ``[]`` is ``*``, ``[*, A]`` is ``*`` and A, ``[A]`` is A, and then ``[]`` is nothing."""
    peer = SotwPeer(CDS="a@1 b@1")
    assert peer.ask("CDS") == ["1 CDS a@1 b@1"]
    assert peer.ask("CDS", "*", "a") == ["2 CDS a@1 b@1"]
    peer.ack("CDS")
    assert peer.ask("CDS", "a") == []
    assert peer.told() == (Unsubscribed(CLUSTER, frozenset({"*"})),)
    assert peer.put(CDS="a@1 b@2") == []
    assert peer.put(CDS="a@2 b@2") == ["3 CDS a@2"]
    peer.ack("CDS")
    assert peer.ask("CDS") == []
    assert peer.told() == (Unsubscribed(CLUSTER, frozenset({"a"})),)
    assert peer.put(CDS="a@3 b@3 c@1") == []


def test_only_what_was_asked_for_is_sent() -> None:
    """W1: a client that asks for one secret is sent that one and no other."""
    peer = SotwPeer(SDS="a@1 b@1")
    assert peer.ask("SDS", "a") == ["1 SDS a@1"]
    peer.ack("SDS")
    assert peer.put(SDS="a@1 b@2") == []


def test_many_names_may_share_a_stream() -> None:
    """W14: the names of a request are answered whether they come in one request or in several."""
    peer = SotwPeer(EDS="a@1 b@1 c@1")
    assert peer.ask("EDS", "a", "b") == ["1 EDS a@1 b@1"]
    peer.ack("EDS")
    assert peer.ask("EDS", "a", "b", "c") == ["2 EDS c@1"]
    peer.ack("EDS")
    assert peer.put(EDS="a@2 b@1 c@2") == ["3 EDS a@2 c@2"]


def test_name_asked_for_again_is_sent_again() -> None:
    """W2: a name that was given up and is asked for again is sent although it did not change."""
    peer = SotwPeer(SDS="a@1 b@1")
    peer.take("SDS", "a", "b")
    peer.ack("SDS")
    assert peer.ask("SDS", "a") == []
    assert peer.ask("SDS", "a", "b") == ["3 SDS b@1"]


def test_new_name_in_a_complete_type_is_answered_with_all() -> None:
    """W2, R3: a cluster that is asked for by name too is sent again, in the full state."""
    peer = SotwPeer(CDS="a@1 b@1")
    peer.take("CDS", "*")
    assert peer.ask("CDS", "*", "a") == ["2 CDS a@1 b@1"]
    assert peer.ack("CDS") == []


def test_name_asked_for_again_while_in_flight_is_sent_again() -> None:
    """W2: the client may have let go of what is under way to it."""
    peer = SotwPeer(SDS="s@1")
    peer.ask("SDS", "s")
    peer.ask("SDS", nonce="")
    assert peer.ask("SDS", "s", nonce="") == []
    assert peer.ack("SDS") == ["2 SDS s@1"]
    assert peer.ack("SDS") == []


def test_name_given_up_while_in_flight_is_not_sent_again() -> None:
    """A10: the last request counts."""
    peer = SotwPeer(SDS="s@1 t@1")
    peer.ask("SDS", "s")
    assert peer.ask("SDS", "t", nonce="") == []
    assert peer.ack("SDS") == ["2 SDS t@1"]
    peer.ack("SDS")
    assert peer.put(SDS="s@2 t@1") == []


def test_missing_name_is_sent_once_it_exists() -> None:
    """W8: a subscription to a name that does not exist is kept."""
    peer = SotwPeer(SDS="")
    assert peer.ask("SDS", "x") == []
    assert peer.put(SDS="x@1") == ["1 SDS x@1"]


def test_pending_name_is_sent_once_it_exists() -> None:
    """W16: nothing is sent for a name whose content is being made."""
    peer = SotwPeer(SDS="?s")
    assert peer.ask("SDS", "s") == []
    assert peer.put(SDS="s@1") == ["1 SDS s@1"]


def test_first_complete_response_is_sent_even_when_it_is_empty() -> None:
    """R3: an empty response says that there is nothing, which Envoy waits to hear."""
    peer = SotwPeer()
    assert peer.ask("LDS") == ["1 LDS"]
    assert peer.ack("LDS") == []


def test_complete_response_names_all_that_stays() -> None:
    """R3: absence from a response is deletion, so each has everything."""
    peer = SotwPeer(CDS="a@1 b@1 c@1")
    peer.take("CDS")
    assert peer.put(CDS="a@2 b@1 c@1") == ["2 CDS a@2 b@1 c@1"]
    assert peer.ack("CDS") == []
    assert peer.told() == (Acked(CLUSTER, "2", {"a": version("a@2")}),)
    assert peer.put(CDS="a@2 b@1") == ["3 CDS a@2 b@1"]
    assert peer.ack("CDS") == []
    assert peer.put(CDS="") == ["4 CDS"]
    assert peer.ack("CDS") == []


def test_partial_response_has_only_what_changed_and_is_never_empty() -> None:
    """R4: of other types a response may be partial, and an empty one would say nothing."""
    peer = SotwPeer(EDS="a@1 b@1")
    peer.take("EDS", "a", "b")
    assert peer.put(EDS="a@2 b@1") == ["2 EDS a@2"]
    peer.ack("EDS")
    assert peer.put(EDS="") == []
    assert peer.put(EDS="a@2 b@1") == []
    assert peer.put(EDS="a@2 b@2") == ["3 EDS b@2"]


def test_ack_is_not_answered() -> None:
    """A6, R6: nothing is sent again that the client has."""
    peer = SotwPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.ack("SDS") == []
    assert peer.told() == (Acked(SECRET, "1", {"s": version("s@1")}),)
    assert peer.put(SDS="s@1") == []
    assert peer.ack("SDS") == []
    assert peer.told() == ()


def test_changes_merge_while_a_response_is_in_flight() -> None:
    """A10: only the last state is sent to a client that is slow to answer."""
    peer = SotwPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.put(SDS="s@2") == []
    assert peer.put(SDS="s@3") == []
    assert peer.ack("SDS") == ["2 SDS s@3"]


def test_several_requests_before_the_first_response_are_answered_once() -> None:
    """A10: a client may send hints at one version; the last is answered."""
    peer = SotwPeer(SDS="?a ?b")
    assert peer.ask("SDS", "a") == []
    assert peer.ask("SDS", "b") == []
    assert peer.put(SDS="a@1 b@1") == ["1 SDS b@1"]
    assert peer.ack("SDS") == []


def test_stale_request_is_not_answered() -> None:
    """A8: what a stale request asks for waits for a fresh one, and is not lost."""
    peer = SotwPeer(SDS="a@1 b@1")
    peer.take("SDS", "a")
    assert peer.put(SDS="a@2 b@1") == ["2 SDS a@2"]
    assert peer.ask("SDS", "a", "b", nonce="1") == []
    assert Stale(SECRET, "1") in peer.told()
    assert peer.ack("SDS") == ["3 SDS b@1"]


def test_stale_request_is_not_answered_even_if_nothing_is_in_flight() -> None:
    """A8: a nonce is stale once a newer response was sent, whether that was answered or not."""
    peer = SotwPeer(SDS="a@1 b@1", CDS="c@1 d@1")
    for short, names in {"SDS": ("a",), "CDS": ("c",)}.items():
        peer.take(short, *names)
    peer.put(SDS="a@2 b@1", CDS="c@2 d@1")
    peer.ack("SDS")
    peer.ack("CDS")
    assert peer.ask("SDS", "a", "b", nonce="2") == []
    assert peer.ask("CDS", "c", "d", nonce="1") == []
    assert peer.ask("SDS", "a", "b") == ["5 SDS b@1"]
    assert peer.ask("CDS", "c", "d") == ["6 CDS c@2 d@1"]


def test_what_a_stale_request_asks_for_leaves_with_the_next_change() -> None:
    """A8, W2: a response that is made anyway has it."""
    peer = SotwPeer(EDS="a@1 b@1")
    peer.take("EDS", "a", "b")
    peer.put(EDS="a@2 b@1")
    peer.ack("EDS")
    peer.ask("EDS", "a", nonce="1")
    assert peer.ask("EDS", "a", "b", nonce="1") == []
    assert peer.put(EDS="a@3 b@1") == ["3 EDS b@1 a@3"]
    assert peer.ack("EDS") == []


def test_all_that_a_stale_request_asks_for_leaves_in_the_end() -> None:
    """A8, W2: also what the response to the next change has no room for."""
    peer = SotwPeer(SDS="a@1 b@1 c@1")
    peer.ask("SDS", "a", "b", "c")
    for _ in range(3):
        peer.ack("SDS")
    peer.ask("SDS", "c", nonce="1")
    assert peer.ask("SDS", "a", "b", "c", nonce="1") == []
    assert peer.put(SDS="a@1 b@1 c@2") == ["4 SDS a@1"]
    assert [*peer.ack("SDS"), *peer.ack("SDS")] == ["5 SDS b@1", "6 SDS c@2"]


def test_name_that_a_stale_request_gives_besides_the_wildcard_leaves_with_the_next_change() -> None:
    """A8, W2: also if the client has it already."""
    peer = SotwPeer(ECDS="a@1 b@1")
    peer.take("ECDS", "*")
    assert peer.put(ECDS="a@1 b@2") == ["2 ECDS b@2"]
    peer.ack("ECDS")
    assert peer.ask("ECDS", "*", "a", nonce="1") == []
    assert peer.put(ECDS="a@1 b@3") == ["3 ECDS a@1 b@3"]
    assert peer.ack("ECDS") == []


def test_name_of_a_complete_type_that_a_stale_request_gives_is_sent_once() -> None:
    """A8, R6: the response to the next change has it anyway."""
    peer = SotwPeer(CDS="c@1")
    peer.take("CDS", "*")
    assert peer.put(CDS="c@2") == ["2 CDS c@2"]
    peer.ack("CDS")
    assert peer.ask("CDS", "*", "c", nonce="1") == []
    assert peer.put(CDS="c@2 d@1") == ["3 CDS c@2 d@1"]
    assert peer.ack("CDS") == []


def test_request_without_a_nonce_is_not_stale() -> None:
    """A8: no newer response has overtaken a request that answers none."""
    peer = SotwPeer(SDS="a@1 b@1")
    peer.take("SDS", "a")
    assert peer.ask("SDS", "a", "b", nonce="") == ["2 SDS b@1"]


def test_stale_request_for_everything_is_answered_with_the_next_change() -> None:
    """A8, W3: likewise a stale ``*``."""
    peer = SotwPeer(CDS="a@1 b@1")
    peer.take("CDS", "a")
    peer.put(CDS="a@2 b@1")
    peer.ack("CDS")
    assert peer.ask("CDS", "*", nonce="1") == []
    assert peer.put(CDS="a@3 b@1") == ["3 CDS a@3 b@1"]
    assert peer.ack("CDS") == []


def test_what_a_stale_request_gives_up_is_given_up() -> None:
    """A10: the names of every request are taken, so a name that is not wanted is not sent."""
    peer = SotwPeer(SDS="a@1 b@1")
    peer.ask("SDS", "a")
    peer.put(SDS="a@2 b@1")
    peer.ack("SDS")
    peer.ask("SDS", "a", "b", nonce="1")
    peer.ask("SDS", "a", nonce="1")
    assert peer.ack("SDS") == []
    assert peer.put(SDS="a@2 b@2") == []


def test_what_only_stale_requests_ask_for_is_bounded() -> None:
    """A8, A10: of a client that never sends a fresh request the last list is remembered."""
    peer = SotwPeer(SDS="a@1")
    peer.ask("SDS", "a")
    peer.put(SDS="a@2")
    peer.ack("SDS")
    for number in range(100):
        peer.ask("SDS", f"x{number}", nonce="1")
    machine = peer.stream.machines[SECRET]
    assert machine.subscription.names == {"x99"}
    assert isinstance(machine, SotwMachine)
    assert machine.exchange.owed | machine.deferred == {"x99"}


def test_first_request_may_carry_the_nonce_of_an_earlier_stream() -> None:
    """A9: Envoy sends old nonces when it reconnects; the request is initial all the same."""
    peer = SotwPeer(SDS="s@1")
    assert peer.ask("SDS", "s", nonce="17") == ["1 SDS s@1"]
    assert peer.told()[1:] == (Subscribed(SECRET, frozenset({"s"})),)


def test_second_request_may_carry_it_too_if_nothing_was_sent_yet() -> None:
    """A9: no response of this stream has overtaken it."""
    peer = SotwPeer(SDS="?s ?t")
    peer.ask("SDS", "s", nonce="17")
    peer.ask("SDS", "s", "t", nonce="17")
    assert peer.put(SDS="t@1 ?s") == ["1 SDS t@1"]


def test_refused_content_is_not_sent_again() -> None:
    """A7: a NACK is never answered with what was refused."""
    peer = SotwPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.nack("SDS") == []
    assert peer.told() == (Nacked(SECRET, "1", {"s": version("s@1")}, REFUSED),)
    assert peer.wait(1e6) == []
    assert peer.put(SDS="s@2") == ["2 SDS s@2"]


def test_nack_is_known_by_its_error() -> None:
    """A4, A5: a NACK may state the current version, and an ACK an old one."""
    peer = SotwPeer(CDS="c@1")
    peer.ask("CDS")
    peer.ask("CDS", has="c@1", error=REFUSED)
    assert isinstance(peer.told()[0], Nacked)
    peer.put(CDS="c@2")
    peer.ask("CDS", has="c@1")
    assert isinstance(peer.told()[0], Acked)


def test_refused_complete_state_is_sent_again_after_a_pause() -> None:
    """A7: a port that was taken may be free later; the pauses double."""
    peer = SotwPeer(LDS="a@1 b@1")
    peer.ask("LDS")
    assert peer.nack("LDS") == []
    assert peer.stream.next_due(peer.now) == peer.now + 1
    assert peer.wait(0.9) == []
    assert peer.wait(0.1) == ["2 LDS a@1 b@1"]
    assert peer.nack("LDS") == []
    assert peer.wait(1.9) == []
    assert peer.wait(0.1) == ["3 LDS a@1 b@1"]
    assert peer.ack("LDS") == []


def test_refused_resource_does_not_ride_along_with_others() -> None:
    """A7: it would have them refused too; what the client has of it takes its place."""
    peer = SotwPeer(LDS="a@1 b@1")
    peer.take("LDS")
    assert peer.put(LDS="a@1 b@2 c@1") == ["2 LDS a@1 b@2 c@1"]
    peer.ack("LDS")
    assert peer.put(LDS="a@1 b@3 c@1") == ["3 LDS a@1 b@3 c@1"]
    assert peer.nack("LDS") == []
    assert peer.put(LDS="a@2 b@3 c@1") == ["4 LDS a@2 b@2 c@1"]
    assert peer.ack("LDS") == []
    assert peer.wait(1) == ["5 LDS a@2 b@3 c@1"]
    assert peer.ack("LDS") == []


def test_refused_resource_that_the_client_never_had_is_left_out() -> None:
    """A7: so a listener whose port is taken does not keep the others from changing."""
    peer = SotwPeer(LDS="a@1")
    peer.take("LDS")
    peer.put(LDS="a@1 b@1")
    assert peer.nack("LDS") == []
    assert peer.put(LDS="a@2 b@1") == ["3 LDS a@2"]
    assert peer.ack("LDS") == []
    assert peer.wait(1) == ["4 LDS a@2 b@1"]


def test_refused_resource_stays_in_while_it_is_not_known_what_the_client_has() -> None:
    """R3: to leave it out could delete what a client kept from an earlier stream."""
    before = SotwPeer(LDS="a@1")
    before.ask("LDS")
    before.nack("LDS")
    after = SotwPeer(LDS="a@1 b@1", refusals=before.refusals)
    assert after.ask("LDS") == ["1 LDS a@1 b@1"]
    assert after.nack("LDS") == []
    assert after.put(LDS="a@1 b@2") == ["2 LDS a@1 b@2"]


@pytest.mark.parametrize("short", ["SDS", "CDS"])
def test_refused_content_is_sent_once_to_one_who_asks_anew(short: str) -> None:
    """W2, A7: newly requested resources are resent, even if they were sent before and refused."""
    peer = SotwPeer(SDS="c@1 d@1", CDS="c@1 d@1")
    peer.ask(short, "c")
    peer.nack(short)
    assert peer.ask(short) == []
    assert peer.ask(short, "c") == [f"2 {short} c@1"]
    assert peer.nack(short) == []
    assert peer.ask(short, "c") == []


def test_refused_content_is_not_sent_to_one_who_asks_for_something_else_besides() -> None:
    """A7: a SotW client repeats all of its names, and only the new ones are a new request."""
    peer = SotwPeer(SDS="c@1 d@1")
    peer.ask("SDS", "c")
    peer.nack("SDS")
    assert peer.ask("SDS", "c", "d") == ["2 SDS d@1"]
    assert peer.ack("SDS") == []
    assert peer.wait(1e6) == []


def test_refused_content_is_sent_to_one_whose_new_request_was_stale() -> None:
    """W2, A8: with the first request that is not stale, and which asks for nothing new itself."""
    peer = SotwPeer(SDS="c@1 d@1")
    peer.ask("SDS", "c")
    peer.nack("SDS")
    assert peer.ask("SDS", "d") == ["2 SDS d@1"]
    assert peer.ask("SDS", "c", "d", nonce="1") == []
    assert peer.ack("SDS") == ["3 SDS c@1"]


def test_what_was_refused_among_others_is_withdrawn() -> None:
    """A14, R3: Envoy applies the good listeners of a refused response, so they must go too."""
    peer = SotwPeer(LDS="a@1 b@1")
    peer.ask("LDS")
    peer.nack("LDS")
    assert peer.put(LDS="") == ["2 LDS"]
    assert peer.ack("LDS") == []


def test_what_was_refused_among_others_is_put_back() -> None:
    """A14: nor does a client have the old content for sure after it refused new content of two."""
    peer = SotwPeer(LDS="a@1 b@1")
    peer.take("LDS")
    peer.put(LDS="a@2 b@2")
    peer.nack("LDS")
    assert peer.put(LDS="a@1 b@1") == ["3 LDS a@1 b@1"]
    assert peer.ack("LDS") == []


def test_what_was_refused_alone_need_not_be_put_back() -> None:
    """A6: of a response with one resource the client has nothing if it refuses it."""
    peer = SotwPeer(RDS="a@1")
    peer.take("RDS", "a")
    peer.put(RDS="a@2")
    peer.nack("RDS")
    assert peer.put(RDS="a@1") == []


def test_what_was_forgotten_is_put_back_when_its_successor_was_refused() -> None:
    """W2: a client that asks again may have lost what it had, so it is sent it once it is due."""
    peer = SotwPeer(CDS="a@1")
    peer.take("CDS", "*")
    peer.snapshot = snapshot(CDS="a@2")
    assert peer.ask("CDS", "*", "a") == ["2 CDS a@2"]
    peer.nack("CDS")
    assert peer.put(CDS="a@1") == ["3 CDS a@1"]
    assert peer.ack("CDS") == []


def test_what_did_not_change_is_not_held_against_it() -> None:
    """A7: a listener that only rode along in a refused response is as good as before."""
    peer = SotwPeer(LDS="a@1")
    peer.take("LDS")
    peer.put(LDS="a@1 b@1")
    peer.nack("LDS")
    assert peer.stream.refusal(url_of("LDS"), "a") is None
    assert peer.put(LDS="a@1") == []


def test_refused_removal_is_asked_for_again_after_a_pause() -> None:
    """A7: a state without a listener was what was refused; until then the listener is in it."""
    peer = SotwPeer(LDS="a@1 b@1")
    peer.take("LDS")
    assert peer.put(LDS="a@1") == ["2 LDS a@1"]
    assert peer.nack("LDS") == []
    assert peer.put(LDS="a@2") == ["3 LDS a@2 b@1"]
    assert peer.ack("LDS") == []
    assert peer.wait(1) == ["4 LDS a@2"]
    assert peer.ack("LDS") == []
    assert peer.wait(1e6) == []


def test_refused_removal_is_asked_for_again_of_one_who_asks_for_everything() -> None:
    """W3, R3: it is told everything, without a pause; what is gone leaves second, as ever."""
    peer = SotwPeer(CDS="a@1 b@1")
    peer.take("CDS", "a")
    assert peer.put(CDS="b@1") == ["2 CDS"]
    assert peer.nack("CDS") == []
    assert peer.ask("CDS", "*", "a") == ["3 CDS a@1 b@1"]
    assert peer.ack("CDS") == ["4 CDS b@1"]
    assert peer.ack("CDS") == []
    assert peer.wait(1e6) == []


def test_removal_that_is_refused_after_a_stale_request_is_refused() -> None:
    """A7, A8: a client that asks for everything, and only then refuses, is given a pause."""
    peer = SotwPeer(CDS="a@1")
    peer.take("CDS", "a")
    assert peer.put(CDS="") == ["2 CDS"]
    assert peer.ask("CDS", "*", "a", nonce="1") == []
    assert peer.nack("CDS") == ["3 CDS a@1"]
    assert peer.ack("CDS") == []
    assert peer.wait(1) == ["4 CDS"]
    assert peer.ack("CDS") == []
    assert peer.wait(1e6) == []


def test_refused_empty_state_is_sent_again_after_a_pause() -> None:
    """A7, C2: a client that reconnects may have listeners that the server does not know of."""
    peer = SotwPeer()
    assert peer.ask("LDS", has="a@1") == ["1 LDS"]
    assert peer.nack("LDS") == []
    assert not peer.stream.in_step(peer.snapshot)
    assert peer.wait(1) == ["2 LDS"]
    assert peer.nack("LDS") == []
    assert peer.wait(1) == []
    assert peer.wait(1) == ["3 LDS"]
    assert peer.ack("LDS") == []
    assert peer.stream.in_step(peer.snapshot)
    assert peer.wait(1e6) == []


def test_complete_type_may_be_one_that_is_never_tried_again() -> None:
    """A7: a type of one's own may be complete and quarantine what was refused."""
    mine = ResourceType(url_of("x"), complete=True, after_nack=AfterNack.WHEN_CHANGED)
    peer = SotwPeer(types=ResourceTypes.of([mine]), x="a@1")
    assert peer.ask("x") == ["1 x a@1"]
    assert peer.nack("x") == []
    assert peer.wait(1e6) == []
    assert peer.put(x="a@2") == ["2 x a@2"]


def test_empty_state_is_tried_again_whatever_the_type() -> None:
    """A7, C2: there is no content that could change, and the client goes on with what it had."""
    mine = ResourceType(url_of("x"), complete=True, after_nack=AfterNack.WHEN_CHANGED)
    peer = SotwPeer(types=ResourceTypes.of([mine]))
    assert peer.ask("x", has="a@1") == ["1 x"]
    assert peer.nack("x") == []
    assert peer.wait(1) == ["2 x"]


def test_resources_that_were_refused_together_are_tried_alone() -> None:
    """A7: one bad route among three must not quarantine the good ones."""
    peer = SotwPeer(RDS="a@1 b@1 c@1")
    assert peer.ask("RDS", "a", "b", "c") == ["1 RDS a@1 b@1 c@1"]
    assert peer.nack("RDS") == []
    assert peer.wait(1) == ["2 RDS a@1"]
    assert peer.ack("RDS") == ["3 RDS b@1"]
    assert peer.nack("RDS") == ["4 RDS c@1"]
    assert peer.ack("RDS") == []
    assert peer.wait(1.9) == []
    assert peer.wait(0.1) == ["5 RDS b@1"]


def test_secrets_leave_one_by_one() -> None:
    """A7: a NACK refuses the whole response, so each secret has its own."""
    peer = SotwPeer(SDS="a@1 b@1")
    assert peer.ask("SDS", "a", "b") == ["1 SDS a@1"]
    assert peer.ack("SDS") == ["2 SDS b@1"]
    assert peer.nack("SDS") == []
    assert peer.put(SDS="a@2 b@2") == ["3 SDS a@2"]
    assert peer.ack("SDS") == ["4 SDS b@2"]


def test_secrets_that_are_asked_for_again_leave_one_by_one() -> None:
    """W2: what is owed beyond one response is sent with the next ones."""
    peer = SotwPeer(SDS="a@1 b@1")
    peer.take("SDS", "a", "b")
    peer.ack("SDS")
    peer.ask("SDS", "x")
    assert peer.ask("SDS", "a", "b") == ["3 SDS a@1"]
    assert peer.ack("SDS") == ["4 SDS b@1"]
    assert peer.ack("SDS") == []


def test_wildcard_of_a_partial_type_is_answered_in_parts() -> None:
    """W3, R4: everything means everything for each type; an empty answer is still none."""
    peer = SotwPeer(SDS="")
    assert peer.ask("SDS", "*") == []
    assert peer.put(SDS="a@1 b@1") == ["1 SDS a@1"]
    assert peer.ack("SDS") == ["2 SDS b@1"]
    assert peer.ack("SDS") == []


def test_client_of_a_wildcard_that_nothing_answers_rests() -> None:
    """W3, R4: it is owed nothing, so it need not be looked at before there is something."""
    peer = SotwPeer(SDS="")
    peer.ask("SDS", "*")
    assert peer.stream.rests(peer.snapshot)


def test_client_that_reconnects_with_the_current_version_is_left_alone() -> None:
    """C3: that is safe for a wildcard, in which no new name can hide."""
    peer = SotwPeer(LDS="a@1 b@1")
    assert peer.ask("LDS", has="a@1 b@1") == []
    assert peer.put(LDS="a@1") == ["1 LDS a@1"]
    assert peer.ack("LDS") == []


def test_client_that_reconnects_with_an_old_version_is_sent_everything() -> None:
    """C3: a version of the type says nothing about its parts."""
    assert SotwPeer(LDS="a@1 b@2").ask("LDS", has="a@1 b@1") == ["1 LDS a@1 b@2"]


def test_client_that_reconnects_with_names_is_sent_everything() -> None:
    """C3, C2: a name may be new, and the version does not tell."""
    assert SotwPeer(CDS="a@1").ask("CDS", "a", has="a@1") == ["1 CDS a@1"]
    assert SotwPeer(CDS="a@1").ask("CDS", "*", "a", has="a@1") == ["1 CDS a@1"]


def test_secret_is_always_sent_to_a_client_that_reconnects() -> None:
    """C3: a client that states the current version may have forgotten the secret."""
    assert SotwPeer(SDS="s@1").ask("SDS", "s", has="s@1") == ["1 SDS s@1"]
    assert SotwPeer(SDS="s@1").ask("SDS", has="s@1") == ["1 SDS s@1"]


def test_what_a_client_that_was_left_alone_has_is_known() -> None:
    """C3, A7: so that may take the place of what it refuses."""
    peer = SotwPeer(LDS="a@1 b@1")
    assert peer.ask("LDS", has="a@1 b@1") == []
    peer.put(LDS="a@1 b@2")
    peer.nack("LDS")
    assert peer.put(LDS="a@2 b@2") == ["2 LDS a@2 b@1"]


def test_client_is_not_in_step_while_a_response_is_in_flight() -> None:
    """A14: what it has may be right, and yet it may refuse what it asked for again."""
    peer = SotwPeer(CDS="c@1")
    peer.take("CDS")
    peer.ask("CDS", "*", "c")
    assert not peer.stream.in_step(peer.snapshot)
    peer.ack("CDS")
    assert peer.stream.in_step(peer.snapshot)


def test_client_that_kept_a_secret_is_in_step() -> None:
    """R4: what cannot be taken from a client does not count against it."""
    peer = SotwPeer(SDS="s@1")
    peer.take("SDS", "s")
    peer.put(SDS="")
    assert peer.stream.in_step(peer.snapshot)


def test_client_that_came_back_and_refused_everything_is_told_when_that_is_gone() -> None:
    """R3, C2, A7: it goes on with what it had, of which this stream knows nothing."""
    peer = SotwPeer(CDS="c@2")
    assert peer.ask("CDS", has="c@1") == ["1 CDS c@2"]
    assert peer.nack("CDS") == []
    assert not peer.stream.in_step(peer.snapshot)
    assert peer.put(CDS="") == ["2 CDS"]
    assert peer.ack("CDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_client_that_refused_something_is_sent_everything_when_it_reconnects() -> None:
    """C3, A14: it states the last version that it ACKed, and may have applied more since."""
    before = SotwPeer(LDS="a@1 b@1")
    before.take("LDS")
    before.put(LDS="a@2 b@2")
    before.nack("LDS")
    after = SotwPeer(LDS="a@1 b@1", refusals=before.refusals)
    assert after.ask("LDS", has="a@1 b@1") == ["1 LDS a@1 b@1"]


def test_client_that_refused_one_listener_is_sent_everything_when_it_reconnects() -> None:
    """C3: what it says that it has is what it ACKed before it refused the next."""
    before = SotwPeer(LDS="a@1")
    before.take("LDS")
    before.put(LDS="a@2")
    before.nack("LDS")
    after = SotwPeer(LDS="a@1", refusals=before.refusals)
    assert after.ask("LDS", has="a@1") == ["1 LDS a@1"]


def test_client_that_refused_what_is_gone_is_left_alone() -> None:
    """C3, A14: it cannot have what it refused alone, so the version that it states tells all."""
    before = SotwPeer(LDS="a@1")
    before.take("LDS")
    before.put(LDS="a@1 b@1")
    before.nack("LDS")
    after = SotwPeer(LDS="a@1", refusals=before.refusals)
    assert after.ask("LDS", has="a@1") == []


def test_client_that_may_have_what_is_gone_is_sent_everything() -> None:
    """C3, A14: of listeners that it refused together it may have applied one."""
    before = SotwPeer(LDS="a@1")
    before.take("LDS")
    before.put(LDS="a@1 b@1 c@1")
    before.nack("LDS")
    before.put(LDS="a@1 b@1")
    before.wait(1)
    before.nack("LDS")
    after = SotwPeer(LDS="a@1", refusals=before.refusals)
    assert after.ask("LDS", has="a@1") == ["1 LDS a@1"]


def test_client_that_reconnects_is_not_known_to_have_nothing() -> None:
    """C3, A14: what it may have applied is not forgotten before it accepted the whole state."""
    before = SotwPeer(LDS="a@1")
    before.take("LDS")
    before.put(LDS="a@1 b@1 c@1")
    before.nack("LDS")
    lost, after = (SotwPeer(LDS="a@1", refusals=before.refusals) for _ in range(2))
    assert lost.ask("LDS", has="a@1") == ["1 LDS a@1"]
    assert after.ask("LDS", has="a@1") == ["1 LDS a@1"]
    after.ack("LDS")
    assert after.put(LDS="a@1 d@1") == ["2 LDS a@1 d@1"]
    after.ack("LDS")
    last = SotwPeer(LDS="a@1 d@1", refusals=before.refusals)
    assert last.ask("LDS", has="a@1 d@1") == []


def test_recorded_content_is_made_anew_for_every_client() -> None:
    """C2: a client of this variant cannot say which version of a secret it has."""
    peer = SotwPeer(SDS="=s@1 =t@1")
    assert peer.ask("SDS", "s", has="s@1") == []
    assert peer.stream.missing(peer.snapshot) == {(SECRET, "s")}
    assert not peer.stream.in_step(peer.snapshot)
    assert peer.put(SDS="s@2") == ["1 SDS s@2"]


@pytest.mark.parametrize("b", ["?b", "=b@1"], ids=["pending", "recorded"])
def test_name_of_a_complete_type_that_is_made_anew_stays(b: str) -> None:
    """W16, R3: to leave it out would say that it does not exist."""
    peer = SotwPeer(LDS="a@1 b@1")
    peer.take("LDS")
    assert peer.put(LDS=f"a@1 {b}") == []
    assert peer.put(LDS=f"a@2 {b}") == ["2 LDS a@2 b@1"]
    assert peer.ack("LDS") == []
    assert peer.put(LDS="a@2") == ["3 LDS a@2"]


@pytest.mark.parametrize("c", ["?c", "=c@1"], ids=["pending", "recorded"])
def test_name_of_a_complete_type_that_is_being_made_is_not_called_missing(c: str) -> None:
    """W16, R3: a client that asks for it alone hears of it once it exists."""
    peer = SotwPeer(CDS=c)
    assert peer.ask("CDS", "c") == []
    assert peer.put(CDS="c@2") == ["1 CDS c@2"]


@pytest.mark.parametrize("b", ["?b", "=b@1"], ids=["pending", "recorded"])
def test_response_that_was_refused_is_not_sent_again_when_what_was_made_is_gone(b: str) -> None:
    """A7, R3: it said that ``b`` is not there, and so does the next: that comes after a pause."""
    peer = SotwPeer(CDS=f"a@1 {b}")
    assert peer.ask("CDS", "a", "b") == ["1 CDS a@1"]
    assert peer.ask("CDS", "a", nonce="") == []
    assert peer.ask("CDS", "a", "b", nonce="") == []
    assert peer.nack("CDS") == []
    assert peer.put(CDS="a@1") == []
    assert peer.wait(1) == ["2 CDS a@1"]
    assert peer.ack("CDS") == []
    assert peer.wait(1e6) == []


@pytest.mark.parametrize("b", ["?b", "=b@1"], ids=["pending", "recorded"])
def test_what_was_given_up_and_asked_for_again_in_flight_is_not_withdrawn(b: str) -> None:
    """W16, R3: who asks for it again before it reads a response has it, and must not lose it."""
    peer = SotwPeer(CDS="a@1 b@1")
    assert peer.ask("CDS", "a", "b") == ["1 CDS a@1 b@1"]
    peer.put(CDS=f"a@2 {b}")
    assert peer.ask("CDS", "a", nonce="") == []
    assert peer.ask("CDS", "a", "b", nonce="") == []
    assert peer.ack("CDS") == ["2 CDS a@2 b@1"]
    assert peer.ack("CDS") == []
    assert peer.put(CDS="a@2") == ["3 CDS a@2"]
    assert peer.ack("CDS") == []
    assert peer.wait(1e6) == []


def test_what_was_given_up_while_a_response_said_nothing_new_is_not_brought_back() -> None:
    """W16, R3: the client has no content of it that it would have to keep."""
    peer = SotwPeer(CDS="c@1 d@1")
    peer.take("CDS", "c", "d")
    assert peer.ask("CDS", "*", "c", "d") == ["2 CDS c@1 d@1"]
    assert peer.ask("CDS", nonce="1") == []
    assert peer.ack("CDS") == []
    assert peer.put(CDS="?c d@1") == []
    assert peer.ask("CDS", "c", "d") == ["3 CDS d@1"]
    assert peer.ack("CDS") == []
    assert peer.put(CDS="c@2 d@1") == ["4 CDS c@2 d@1"]


def test_secret_is_served_while_an_old_listener_drains() -> None:
    """O4: a secret that no listener names any more is sent as long as the client asks for it."""
    peer = SotwPeer(LDS="l@1", SDS="s@1")
    peer.take("LDS")
    peer.take("SDS", "s")
    assert peer.put(LDS="") == ["3 LDS"]
    peer.ack("LDS")
    assert peer.put(SDS="s@2") == ["4 SDS s@2"]


def test_version_that_a_client_stated_counts_once() -> None:
    """C3: what it had when it came says nothing of what it has after a response."""
    peer = SotwPeer(LDS="a@1")
    assert peer.ask("LDS", has="a@1") == []
    assert peer.put(LDS="a@2") == ["1 LDS a@2"]
    peer.ack("LDS")
    assert peer.put(LDS="a@1") == ["2 LDS a@1"]


def test_version_is_that_of_what_a_response_has() -> None:
    """A2, C3: a client that states it later must not be taken for one that has something else."""
    peer = SotwPeer(CDS="a@1 b@1")
    request = SotwRequest(CLUSTER, ("a",), node=NODE)
    peer.stream.identify(request)
    peer.stream.receive(request, peer.now)
    (reply,) = peer.stream.replies(peer.snapshot, peer.now)
    assert reply.version == content("CDS", "a@1").version
    assert reply.version != content("CDS", "a@1 b@1").version


def test_version_of_a_partial_response_is_that_of_all_there_is() -> None:
    """A2: parts of one change have one version, whichever names they are of."""
    peer = SotwPeer(SDS="a@1 b@1")
    request = SotwRequest(SECRET, ("a",), node=NODE)
    peer.stream.identify(request)
    peer.stream.receive(request, peer.now)
    (reply,) = peer.stream.replies(peer.snapshot, peer.now)
    assert reply.version == content("SDS", "a@1 b@1").version
