"""What a delta stream owes its client for one type."""

from __future__ import annotations

import pytest

from control_plane.xds.delivery import has_version
from control_plane.xds.delta import DeltaMachine
from control_plane.xds.events import Acked, Nacked, Stale, Subscribed, Unsubscribed
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LISTENER, SECRET
from tests.unit.xds.notation import version
from tests.unit.xds.peers import REFUSED, DeltaPeer


def test_wildcard_is_answered_with_all() -> None:
    """W3: the name ``*`` subscribes to whatever the server holds ready for the node."""
    assert DeltaPeer(CDS="c@1 d@1").ask("CDS", "*") == ["1 CDS c@1 d@1"]


def test_first_empty_request_is_the_wildcard() -> None:
    """W4: a first request with no name at all is the legacy wildcard."""
    peer = DeltaPeer(CDS="c@1")
    assert peer.ask("CDS") == ["1 CDS c@1"]
    assert peer.told()[-1] == Subscribed(CLUSTER, frozenset({"*"}))


def test_first_request_that_only_unsubscribes_is_not_the_wildcard() -> None:
    """W4: the legacy wildcard needs both lists of names to be empty."""
    assert DeltaPeer(CDS="c@1").ask("CDS", drop=["d"]) == []


def test_four_steps_of_the_legacy_wildcard() -> None:
    """W6: ``[]`` is ``*``, then ``+A`` is ``*`` and A, then ``-*`` is A, then ``-A`` is nothing."""
    peer = DeltaPeer(CDS="a@1 b@1")
    assert peer.ask("CDS") == ["1 CDS a@1 b@1"]
    assert peer.ack("CDS", "a") == ["2 CDS a@1"]
    peer.ack("CDS")
    assert peer.put(CDS="a@1 b@2") == ["3 CDS b@2"]
    peer.ack("CDS")
    assert peer.ask("CDS", drop=["*"]) == []
    assert peer.put(CDS="a@2 b@3") == ["4 CDS a@2"]
    peer.ack("CDS")
    assert peer.ask("CDS", drop=["a"]) == []
    assert peer.put(CDS="a@3 b@4 c@1") == []


def test_only_what_was_asked_for_is_sent() -> None:
    """W1: a client that asks for one secret is sent that one and no other."""
    peer = DeltaPeer(SDS="a@1 b@1")
    assert peer.ask("SDS", "a") == ["1 SDS a@1"]
    peer.ack("SDS")
    assert peer.put(SDS="a@1 b@2") == []


def test_name_that_does_not_exist_is_reported() -> None:
    """W7: a subscribed name that does not exist is answered in removed_resources, once."""
    peer = DeltaPeer(SDS="a@1")
    assert peer.ask("SDS", "x") == ["1 SDS -x"]
    assert peer.ack("SDS") == []


def test_name_that_was_reported_missing_is_sent_once_it_exists() -> None:
    """W8: a subscription to a missing name is kept, also after the client was told so."""
    peer = DeltaPeer()
    peer.take("SDS", "x")
    assert peer.put(SDS="x@1") == ["2 SDS x@1"]


def test_name_subscribed_again_is_sent_again() -> None:
    """W9: a name subscribed again is sent again although the client has it."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    assert peer.ask("SDS", "s") == ["2 SDS s@1"]
    assert peer.ack("SDS") == []


def test_name_subscribed_again_in_an_ack_is_sent_again() -> None:
    """A12: an ACK may carry subscriptions, and they count like those of a request of their own."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.ack("SDS", "s") == ["2 SDS s@1"]


def test_name_subscribed_again_while_its_response_is_in_flight_is_sent_again() -> None:
    """W9: the client may have forgotten what is under way to it."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.ask("SDS", "s") == []
    assert peer.ack("SDS") == ["2 SDS s@1"]
    assert peer.ack("SDS") == []


def test_missing_name_subscribed_again_is_reported_again() -> None:
    """W9, W7: a name that does not exist is owed an answer for each time it is asked for."""
    peer = DeltaPeer()
    peer.take("SDS", "x")
    assert peer.ask("SDS", "x") == ["2 SDS -x"]


def test_wildcard_subscribed_again_is_sent_again() -> None:
    """W9: a client that asks for everything again may have forgotten everything."""
    peer = DeltaPeer(CDS="c@1 d@1")
    peer.take("CDS", "*")
    assert peer.ask("CDS", "*") == ["2 CDS c@1 d@1"]
    assert peer.ack("CDS") == []


def test_wildcard_subscribed_again_while_its_response_is_in_flight_is_sent_again() -> None:
    """W9: as with a name, the client may have forgotten what is under way to it."""
    peer = DeltaPeer(CDS="c@1 d@1")
    peer.take("CDS", "*")
    peer.put(CDS="c@2 e@1")
    assert peer.ask("CDS", "*") == []
    assert peer.ack("CDS") == ["3 CDS e@1 c@2"]
    assert peer.ack("CDS") == []


def test_what_came_by_a_wildcard_is_given_up_with_it() -> None:
    """W10, R5: so a client that asks for everything later is not told of what is gone by then."""
    peer = DeltaPeer(CDS="c@1 d@1")
    peer.take("CDS", "*")
    assert peer.ask("CDS", drop=["*"]) == []
    assert peer.put(CDS="c@1") == []
    assert peer.ask("CDS", "*") == ["2 CDS c@1"]
    assert peer.ack("CDS") == []


def test_unsubscription_of_what_nobody_asked_for_is_ignored() -> None:
    """W10: giving up a name that was never asked for is no error and changes nothing."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    assert peer.ask("SDS", drop=["x"]) == []
    assert peer.told() == ()
    assert peer.put(SDS="s@2") == ["2 SDS s@2"]


def test_unsubscription_needs_no_answer() -> None:
    """W11: a request that only gives names up is not answered."""
    peer = DeltaPeer(SDS="s@1 t@1")
    peer.take("SDS", "s", "t")
    assert peer.ask("SDS", drop=["s"]) == []
    assert peer.told() == (Unsubscribed(SECRET, frozenset({"s"})),)
    assert peer.put(SDS="s@2 t@1") == []


def test_name_given_up_under_a_wildcard_is_sent_if_it_exists() -> None:
    """W12: a client with ``*`` that gives up a name is told what the wildcard has for it."""
    peer = DeltaPeer(CDS="c@1")
    peer.take("CDS", "*", "c")
    assert peer.ask("CDS", drop=["c"]) == ["2 CDS c@1"]
    assert peer.ack("CDS") == []


def test_name_given_up_under_a_wildcard_is_removed_if_it_does_not_exist() -> None:
    """W12: or it is told that the wildcard has nothing for it."""
    peer = DeltaPeer(CDS="c@1")
    peer.take("CDS", "*", "x")
    assert peer.ask("CDS", drop=["x"]) == ["2 CDS -x"]
    assert peer.ack("CDS") == []


def test_missing_name_given_up_when_the_wildcard_is_asked_for_is_removed() -> None:
    """W12: also if the same request asks for the wildcard."""
    peer = DeltaPeer(CDS="c@1")
    assert peer.ask("CDS", "x") == ["1 CDS -x"]
    peer.ack("CDS")
    assert peer.ask("CDS", "*", drop=["x"]) == ["2 CDS c@1 -x"]


def test_name_given_up_together_with_the_wildcard_needs_no_answer() -> None:
    """W12, W11: without a wildcard there is nothing that the name could still mean."""
    peer = DeltaPeer(CDS="c@1")
    peer.take("CDS", "*", "c")
    assert peer.ask("CDS", drop=["c", "*"]) == []
    assert peer.put(CDS="c@2") == []


def test_name_asked_for_and_given_up_at_once_is_given_up() -> None:
    """W10: the last word of a request that does both is that the client does not want the name."""
    peer = DeltaPeer(SDS="s@1")
    assert peer.ask("SDS", "s", drop=["s"]) == []
    assert peer.told()[1:] == (Unsubscribed(SECRET, frozenset({"s"})),)
    assert peer.put(SDS="s@2") == []
    assert peer.ask("SDS", "*", drop=["*"]) == []
    assert peer.put(SDS="s@3") == []


def test_alias_stands_for_its_resource() -> None:
    """W13: an alias subscribes to, and gives up, the resource that it stands for."""
    peer = DeltaPeer(EDS="e@1|x")
    assert peer.ask("EDS", "x") == ["1 EDS e@1"]
    peer.ack("EDS")
    assert peer.put(EDS="e@2|x") == ["2 EDS e@2"]
    peer.ack("EDS")
    assert peer.put(EDS="") == ["3 EDS -e -x"]
    peer.ack("EDS", drop=["x"])
    assert peer.put(EDS="e@3|x") == []


def test_alias_and_name_of_one_resource_are_one_resource() -> None:
    """R1: a resource that is asked for by name and by alias is once in the response."""
    peer = DeltaPeer(EDS="e@1|x|y")
    assert peer.ask("EDS", "e", "x", "y") == ["1 EDS e@1"]
    assert peer.ack("EDS") == []
    assert peer.put(EDS="e@2|x|y") == ["2 EDS e@2"]
    assert peer.ack("EDS") == []


def test_alias_and_name_of_one_resource_are_sent_once_in_parts_too() -> None:
    """R1, R6, W13: also where a response has room for one name only."""
    peer = DeltaPeer(SDS="s@1|x")
    assert peer.ask("SDS", "x", "s") == ["1 SDS s@1"]
    assert peer.ack("SDS") == []


def test_alias_given_up_under_a_wildcard_is_forgotten() -> None:
    """W12, W13: it is answered with the resource, whose end is later told by its name only."""
    peer = DeltaPeer(EDS="e@1|x")
    peer.take("EDS", "*", "x")
    assert peer.ask("EDS", drop=["x"]) == ["2 EDS e@1"]
    peer.ack("EDS")
    assert peer.stream.in_step(peer.snapshot)
    assert peer.put(EDS="") == ["3 EDS -e"]


def test_alias_given_up_is_answered_with_the_end_of_what_it_meant() -> None:
    """W13: the client knows it by its name, which it never gave and so cannot give up."""
    peer = DeltaPeer(EDS="e@1|x|y")
    peer.take("EDS", "x", "y")
    assert peer.ask("EDS", drop=["x"]) == []
    assert peer.ask("EDS", drop=["y"]) == ["2 EDS -e"]
    assert peer.ack("EDS") == []
    assert peer.put(EDS="e@2|x|y") == []


def test_what_came_by_an_alias_is_remembered_as_long_as_the_client_has_it() -> None:
    """W13: a client that asks by ever new aliases leaves nothing behind."""
    peer = DeltaPeer(EDS="e@1|x")
    peer.take("EDS", "x")
    assert peer.put(EDS="") == ["2 EDS -e -x"]
    machine = peer.stream.machines[ENDPOINT]
    assert isinstance(machine, DeltaMachine)
    assert machine._meaning._not_given == {"e"}
    peer.ack("EDS")
    assert machine._meaning._not_given == set()


def test_name_given_up_whose_alias_is_not_stays() -> None:
    """W13, W9: the client may have let go of it by its name, and has to have it by its alias."""
    peer = DeltaPeer(EDS="e@1|x")
    peer.take("EDS", "e", "x")
    assert peer.ask("EDS", drop=["e"]) == ["2 EDS e@1"]
    peer.ack("EDS")
    assert peer.put(EDS="") == ["3 EDS -x -e"]


def test_alias_that_means_another_resource_has_the_first_withdrawn() -> None:
    """W13: unless the client means the first by another of its names."""
    peer = DeltaPeer(EDS="e@1|x|y f@1")
    peer.take("EDS", "x", "y")
    assert peer.put(EDS="e@1|y f@1|x") == ["2 EDS f@1"]
    peer.ack("EDS")
    assert peer.put(EDS="e@1 f@1|x|y") == ["3 EDS f@1 -e"]
    peer.ack("EDS")
    assert peer.stream.in_step(peer.snapshot)


def test_name_that_becomes_an_alias_is_withdrawn_from_a_wildcard() -> None:
    """W3, R6: what everything has is there by its name, and the rest is said once."""
    peer = DeltaPeer(CDS="c@1")
    peer.take("CDS", "*")
    assert peer.put(CDS="d@1|c") == ["2 CDS d@1 -c"]
    assert peer.ack("CDS") == []


def test_what_was_refused_by_one_alias_is_sent_by_another_to_one_who_asks() -> None:
    """A7, W9, W13: it is the same content, whatever the client calls it, but it asked for that."""
    peer = DeltaPeer(SDS="s@1|x|y")
    peer.ask("SDS", "x")
    peer.nack("SDS")
    assert peer.ask("SDS", "y") == ["2 SDS s@1"]
    assert peer.nack("SDS") == []
    assert peer.put(SDS="s@2|x|y") == ["3 SDS s@2"]


def test_what_was_refused_by_one_alias_is_not_sent_by_another_that_was_asked_for_first() -> None:
    """A7, W13: in the first request of a stream, an alias asks for what was refused in vain."""
    before = DeltaPeer(SDS="s@1|x|y")
    before.ask("SDS", "x")
    before.nack("SDS")
    after = DeltaPeer(SDS="s@1|x|y", refusals=before.refusals)
    assert after.ask("SDS", "y") == []
    assert after.put(SDS="s@2|x|y") == ["1 SDS s@2"]


def test_what_was_refused_by_an_alias_may_have_been_applied() -> None:
    """W13, A7: so its end is told by its name, also where the client does not mean it any more."""
    peer = DeltaPeer(EDS="e@1|x f@1|y")
    peer.ask("EDS", "x", "y")
    peer.nack("EDS")
    assert peer.ask("EDS", drop=["x"]) == ["2 EDS -e"]
    assert peer.ack("EDS") == []
    assert peer.wait(1.0) == ["3 EDS f@1"]


def test_resource_with_aliases_is_refused_alone() -> None:
    """A7, W13: two names of one resource are no reason to send a refused Secret again."""
    peer = DeltaPeer(SDS="s@1|x|y")
    peer.ask("SDS", "x", "y")
    assert peer.nack("SDS") == []
    assert peer.wait(1e6) == []
    assert peer.put(SDS="s@2|x|y") == ["2 SDS s@2"]
    assert peer.ack("SDS") == []


def test_resource_with_aliases_that_is_refused_beside_a_removal_is_not_refused_alone() -> None:
    """A7, W13: either may be what the client refused."""
    peer = DeltaPeer(ECDS="s@1|x")
    peer.ask("ECDS", "x", "z")
    assert peer.nack("ECDS") == []
    assert peer.wait(1) == ["2 ECDS s@1"]
    assert peer.ack("ECDS") == ["3 ECDS -z"]


def test_resource_that_was_refused_as_it_got_an_alias_is_withdrawn() -> None:
    """W13, A14: the client refused the very content that it had, and has it still, maybe."""
    peer = DeltaPeer(EDS="c@1")
    assert peer.ask("EDS", "c", "y") == ["1 EDS c@1 -y"]
    peer.ack("EDS")
    assert peer.put(EDS="c@1|y") == ["2 EDS c@1"]
    assert peer.nack("EDS") == []
    assert peer.put(EDS="") == ["3 EDS -c"]
    assert peer.ack("EDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_name_asked_for_besides_an_alias_is_refused_alone() -> None:
    """A7, W13: the alias that the client had before is not told again, and so not refused."""
    peer = DeltaPeer(SDS="c@1|x")
    peer.take("SDS", "x")
    assert peer.ask("SDS", "c") == ["2 SDS c@1"]
    assert peer.nack("SDS") == []
    assert peer.wait(1e6) == []


def test_first_answer_to_a_wildcard_is_sent_even_when_it_is_empty() -> None:
    """W15: Envoy would wait 15 s for it in vain."""
    peer = DeltaPeer()
    assert peer.ask("LDS") == ["1 LDS"]
    assert peer.ack("LDS") == []


def test_pending_name_is_neither_sent_nor_called_missing() -> None:
    """W16: Envoy would open the listener without its certificate and reset connections."""
    peer = DeltaPeer(SDS="?s")
    assert peer.ask("SDS", "s") == []
    assert peer.put(SDS="s@1") == ["1 SDS s@1"]


def test_name_whose_content_never_came_is_called_missing_in_the_end() -> None:
    """W16, W7: once nobody is at work on it any more, the client is told."""
    peer = DeltaPeer(SDS="?s")
    peer.ask("SDS", "s")
    assert peer.put(SDS="") == ["1 SDS -s"]


def test_name_that_is_made_anew_stays_with_the_client() -> None:
    """W16: while the next content of a name is pending, the client keeps the last."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    assert peer.put(SDS="?s") == []
    assert peer.put(SDS="s@2") == ["2 SDS s@2"]


def test_removed_resource_is_told_by_name() -> None:
    """R5: a response has only what changed, deletions in removed_resources."""
    peer = DeltaPeer(CDS="c@1 d@1 e@1")
    peer.take("CDS", "*")
    assert peer.put(CDS="c@2 d@1") == ["2 CDS c@2 -e"]
    assert peer.ack("CDS") == []


def test_same_content_is_not_sent_again() -> None:
    """R6, A6: an ACK is not answered, and neither is a snapshot that changes nothing."""
    peer = DeltaPeer(CDS="c@1")
    peer.ask("CDS", "*")
    assert peer.ack("CDS") == []
    assert peer.told() == (Acked(CLUSTER, "1", {"c": version("c@1")}),)
    assert peer.put(CDS="c@1") == []


def test_changes_merge_while_a_response_is_in_flight() -> None:
    """A6: a client that is slow to answer is sent the last state only, and nothing in between."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.put(SDS="s@2") == []
    assert peer.put(SDS="s@3") == []
    assert peer.ack("SDS") == ["2 SDS s@3"]


def test_change_that_is_undone_while_a_response_is_in_flight_is_not_sent() -> None:
    """R6: what the client has by the time it answers is all that counts."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    peer.put(SDS="s@2")
    peer.put(SDS="s@1")
    assert peer.ack("SDS") == []


def test_client_is_not_in_step_while_a_response_is_in_flight() -> None:
    """A14: what it has may be right, and yet it may refuse what it asked for again."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    peer.ask("SDS", "s")
    assert not peer.stream.in_step(peer.snapshot)
    peer.ack("SDS")
    assert peer.stream.in_step(peer.snapshot)


def test_content_that_is_there_counts() -> None:
    """W16: a name that is pending or recorded as well is sent what there is."""
    assert DeltaPeer(SDS="s@1 ?s").ask("SDS", "s") == ["1 SDS s@1"]
    assert DeltaPeer(SDS="s@1 =s@2").ask("SDS", "s") == ["1 SDS s@1"]


def test_stale_nonce_does_not_reject_the_subscription() -> None:
    """A11: a request with an old nonce answers nothing, and what it asks for is honoured."""
    peer = DeltaPeer(SDS="s@1 t@1")
    peer.take("SDS", "s")
    peer.put(SDS="s@2 t@1")
    assert peer.ask("SDS", "t", nonce="1") == []
    assert Stale(SECRET, "1") in peer.told()
    assert peer.ack("SDS") == ["3 SDS t@1"]


def test_stale_unsubscription_is_honoured() -> None:
    """A11: neither is a subscription kept that an old nonce gives up."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    peer.put(SDS="s@2")
    peer.ask("SDS", drop=["s"], nonce="1")
    peer.ack("SDS")
    assert peer.put(SDS="s@3") == []


def test_request_with_the_last_nonce_is_not_stale() -> None:
    """A11: a nonce that no newer response has overtaken is not old, even if it was used before."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    assert peer.ask("SDS", "s", nonce="1") == ["2 SDS s@1"]
    assert peer.told() == (Subscribed(SECRET, frozenset({"s"})),)


def test_nonce_of_an_earlier_stream_does_not_reject_the_first_request() -> None:
    """A9: Envoy may start with a nonce of the stream before."""
    assert DeltaPeer(SDS="s@1").ask("SDS", "s", nonce="7") == ["1 SDS s@1"]


def test_refused_content_is_not_sent_again() -> None:
    """A7: a NACK is never answered with what was refused."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    assert peer.nack("SDS") == []
    assert peer.told() == (Nacked(SECRET, "1", {"s": version("s@1")}, REFUSED),)
    assert peer.wait(1e6) == []
    assert peer.put(SDS="s@2") == ["2 SDS s@2"]


@pytest.mark.parametrize("short", ["SDS", "CDS"])
def test_refused_content_is_sent_once_to_one_who_asks_anew(short: str) -> None:
    """W9, A7: the client may have forgotten it, and with it why it refused it."""
    peer = DeltaPeer(SDS="s@1", CDS="s@1")
    peer.ask(short, "s")
    peer.nack(short)
    assert peer.ask(short, "s") == [f"2 {short} s@1"]
    assert peer.nack(short) == []
    assert peer.ask(short, drop=["s"]) == []
    assert peer.ask(short, "s") == [f"3 {short} s@1"]
    assert peer.ack(short) == []


@pytest.mark.parametrize("everything", ["*", "xdstp://a/Secret/*"])
def test_refused_content_is_sent_once_to_one_who_asks_for_everything(everything: str) -> None:
    """W9, W3, E4: whatever stands for several names asks for each of them anew."""
    name = "xdstp://a/Secret/s"
    peer = DeltaPeer(SDS=f"{name}@1")
    peer.ask("SDS", name)
    peer.nack("SDS")
    assert peer.ask("SDS", everything) == [f"2 SDS {name}@1"]
    assert peer.nack("SDS") == []
    assert peer.wait(1e6) == []


def test_collection_that_is_asked_for_anew_brings_no_other_refused_content() -> None:
    """A7, E4: what is in another collection, or in none, was not asked for."""
    here, there = "xdstp://a/Secret/x/s", "xdstp://a/Secret/y/s"
    peer = DeltaPeer(SDS=f"{here}@1 {there}@1")
    peer.ask("SDS", here, there)
    peer.nack("SDS")
    peer.nack("SDS")
    assert peer.ask("SDS", "xdstp://a/Secret/y/*") == [f"3 SDS {there}@1"]
    assert peer.nack("SDS") == []


def test_content_that_is_refused_after_it_was_asked_for_anew_is_not_sent_again() -> None:
    """A7: the response that the client has yet to read is the answer to what it asks meanwhile."""
    peer = DeltaPeer(SDS="s@1 t@1")
    peer.ask("SDS", "t")
    peer.nack("SDS", "s")
    peer.ask("SDS", "s")
    assert peer.nack("SDS") == []
    assert peer.wait(1e6) == []


def test_name_that_was_given_up_since_it_was_asked_for_anew_is_as_refused_as_before() -> None:
    """A7: a request that was withdrawn before it was answered is owed nothing."""
    peer = DeltaPeer(SDS="s@1")
    peer.ask("SDS", "s")
    peer.nack("SDS")
    peer.put(SDS="?s")
    peer.ask("SDS", "s")
    peer.ask("SDS", drop=["s"])
    assert peer.put(SDS="s@1") == []
    assert peer.stream.machines[SECRET].exchange.may_send("s", version("s@1"), peer.now) is False


def test_refused_removal_is_not_sent_again() -> None:
    """A7: a client that will not let go of a resource is not asked over and over."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    assert peer.put(SDS="") == ["2 SDS -s"]
    assert peer.nack("SDS") == []
    assert peer.wait(1e6) == []
    assert peer.put(SDS="s@2") == ["3 SDS s@2"]
    peer.ack("SDS")
    assert peer.put(SDS="") == ["4 SDS -s"]


def test_refused_removal_is_sent_again_to_one_who_asks_again() -> None:
    """W7, W9: a client that would not let go of a resource, and then asks for it, has lost it."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    peer.put(SDS="")
    peer.nack("SDS")
    assert peer.ask("SDS", "s") == ["3 SDS -s"]
    assert peer.ack("SDS") == []


def test_refused_removal_is_sent_again_to_one_who_asks_for_everything() -> None:
    """W3, W9: it is told everything, without a pause; what is gone comes second, as ever."""
    peer = DeltaPeer(CDS="a@1")
    peer.take("CDS", "a")
    peer.put(CDS="")
    assert peer.nack("CDS") == []
    assert peer.ask("CDS", "*") == ["3 CDS"]
    assert peer.ack("CDS") == ["4 CDS -a"]
    assert peer.ack("CDS") == []
    assert peer.wait(1e6) == []


def test_nack_of_current_content_is_a_nack() -> None:
    """A4, A5: error_detail makes a NACK; that the client had this very version says nothing."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    peer.ask("SDS", "s")
    assert peer.nack("SDS") == []
    assert isinstance(peer.told()[0], Nacked)
    assert not has_version(peer.stream, SECRET, "s", version("s@1"))


def test_nack_may_subscribe() -> None:
    """A12, A5: the names of a NACK count like any others."""
    peer = DeltaPeer(SDS="s@1 t@1")
    peer.ask("SDS", "s")
    assert peer.nack("SDS", "t") == ["2 SDS t@1"]


def test_content_that_may_be_applied_later_is_sent_after_a_pause() -> None:
    """A7: a listener whose port was taken is tried again, with pauses that double."""
    peer = DeltaPeer(LDS="l@1")
    peer.ask("LDS")
    assert peer.nack("LDS") == []
    assert peer.stream.next_due(peer.now) == peer.now + 1
    assert peer.wait(0.9) == []
    assert peer.wait(0.1) == ["2 LDS l@1"]
    assert peer.nack("LDS") == []
    assert peer.wait(1.9) == []
    assert peer.wait(0.1) == ["3 LDS l@1"]
    assert peer.stream.refusal(LISTENER, "l") is not None
    assert peer.ack("LDS") == []
    assert peer.stream.next_due(peer.now) is None
    assert peer.stream.refusal(LISTENER, "l") is None


def test_resources_that_were_refused_together_are_tried_alone() -> None:
    """A7: one bad route among three must not quarantine the good ones."""
    peer = DeltaPeer(RDS="a@1 b@1 c@1")
    assert peer.ask("RDS", "a", "b", "c") == ["1 RDS a@1 b@1 c@1"]
    assert peer.nack("RDS") == []
    assert peer.wait(1) == ["2 RDS a@1"]
    assert peer.ack("RDS") == ["3 RDS b@1"]
    assert peer.nack("RDS") == ["4 RDS c@1"]
    assert peer.ack("RDS") == []
    assert peer.wait(1.9) == []
    assert peer.wait(0.1) == ["5 RDS b@1"]


def test_resource_that_is_tried_again_takes_no_other_along() -> None:
    """A7: whatever changed meanwhile leaves in a response of its own, before it or after it."""
    peer = DeltaPeer(LDS="b@1 c@1")
    peer.take("LDS")
    peer.put(LDS="b@2 c@1")
    peer.nack("LDS")
    peer.now += 1
    assert peer.put(LDS="a@1 b@2 c@2") == ["3 LDS c@2 a@1"]
    assert peer.ack("LDS") == ["4 LDS b@2"]
    assert peer.ack("LDS") == []


def test_other_content_of_what_was_refused_leaves_with_the_others() -> None:
    """A7: it was not tried before, so nothing is known against it."""
    peer = DeltaPeer(CDS="c@1 d@1")
    peer.take("CDS")
    assert peer.put(CDS="c@2 d@1") == ["2 CDS c@2"]
    peer.nack("CDS")
    assert peer.put(CDS="c@3 d@2") == ["3 CDS d@2 c@3"]


def test_what_was_refused_among_others_is_withdrawn() -> None:
    """A14, R5: Envoy applies the good listeners of a refused response, so they must go too."""
    peer = DeltaPeer(LDS="a@1 b@1")
    peer.ask("LDS")
    peer.nack("LDS")
    assert peer.put(LDS="") == ["2 LDS -a -b"]
    assert peer.ack("LDS") == []


def test_what_was_refused_among_others_is_put_back() -> None:
    """A14: nor does a client have the old content for sure after it refused new content of two."""
    peer = DeltaPeer(LDS="a@1 b@1")
    peer.take("LDS")
    peer.put(LDS="a@2 b@2")
    peer.nack("LDS")
    assert peer.put(LDS="a@1 b@1") == ["3 LDS a@1 b@1"]
    assert peer.ack("LDS") == []


def test_what_was_refused_alone_need_not_be_put_back() -> None:
    """A6: of a response with one resource the client has nothing if it refuses it."""
    peer = DeltaPeer(LDS="a@1")
    peer.take("LDS")
    peer.put(LDS="a@2")
    peer.nack("LDS")
    assert peer.put(LDS="a@1") == []


def test_what_was_forgotten_is_put_back_when_its_successor_was_refused() -> None:
    """W9: a client that asks again may have lost what it had, so it is sent it once it is due."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    peer.put(SDS="s@2")
    peer.ask("SDS", "s")
    peer.nack("SDS")
    assert peer.put(SDS="s@3") == ["3 SDS s@3"]
    peer.nack("SDS")
    assert peer.put(SDS="s@1") == ["4 SDS s@1"]
    assert peer.ack("SDS") == []


def test_resource_that_was_refused_after_all_is_withdrawn() -> None:
    """R5: a client that asks for what it has, and then refuses it, may have it or not."""
    peer = DeltaPeer(CDS="c@1")
    peer.take("CDS", "*")
    peer.ask("CDS", "c")
    peer.nack("CDS")
    assert peer.put(CDS="") == ["3 CDS -c"]


def test_secrets_leave_one_by_one() -> None:
    """A7: a NACK refuses the whole response, so each secret has its own."""
    peer = DeltaPeer(SDS="a@1 b@1")
    assert peer.ask("SDS", "a", "b", "x") == ["1 SDS a@1"]
    assert peer.ack("SDS") == ["2 SDS b@1"]
    assert peer.nack("SDS") == ["3 SDS -x"]
    assert peer.ack("SDS") == []


def test_secret_that_changes_all_the_time_does_not_starve_the_others() -> None:
    """A10: names take turns."""
    peer = DeltaPeer(SDS="a@1 b@1")
    peer.ask("SDS", "a", "b")
    peer.put(SDS="a@2 b@1")
    assert peer.ack("SDS") == ["2 SDS b@1"]


def test_initial_versions_that_are_current_are_not_sent_again() -> None:
    """C1: a client that reconnects is sent the difference, nothing more."""
    peer = DeltaPeer(LDS="a@1 b@2 d@1")
    assert peer.ask("LDS", has="a@1 b@1 c@1") == ["1 LDS b@2 d@1 -c"]
    assert peer.ack("LDS") == []


def test_clusters_are_withdrawn_after_the_first_answer() -> None:
    """C1, O1: a client that reconnects asks for listeners, which may use them, only after it."""
    peer = DeltaPeer(CDS="a@1 b@2 d@1")
    assert peer.ask("CDS", has="a@1 b@1 c@1") == ["1 CDS b@2 d@1"]
    assert peer.ack("CDS") == ["2 CDS -c"]
    assert peer.ack("CDS") == []


def test_what_nothing_refers_to_is_withdrawn_at_once() -> None:
    """C1: no type waits for secrets, so a client that reconnects is told of lost ones at once."""
    peer = DeltaPeer(SDS="a@1")
    assert peer.ask("SDS", has="a@1 b@1") == ["1 SDS -b"]


def test_initial_versions_count_in_the_first_request_only() -> None:
    """C1: later ones are no statement about what the client has."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "t")
    assert peer.ask("SDS", "s", has="s@1") == ["2 SDS s@1"]


def test_names_of_a_new_stream_are_sent_although_the_client_states_their_version() -> None:
    """C2, W9: Envoy states the version of a secret and asks for it; it may have forgotten it."""
    peer = DeltaPeer(SDS="s@1")
    assert peer.ask("SDS", "s", has="s@1") == ["1 SDS s@1"]
    assert peer.ack("SDS") == []


def test_nothing_is_kept_from_an_earlier_stream() -> None:
    """C2: what a client does not ask for on this stream is not sent on this stream."""
    before = DeltaPeer(SDS="s@1 t@1")
    before.ask("SDS", "s")
    after = DeltaPeer(SDS="s@2 t@1", refusals=before.refusals)
    assert after.ask("SDS", "t") == ["1 SDS t@1"]
    assert after.ack("SDS") == []


def test_initial_version_of_a_name_that_nobody_wants_is_ignored() -> None:
    """C1: a version stated for a name that the client does not ask for means nothing."""
    assert DeltaPeer(SDS="s@1 t@2").ask("SDS", "s", has="s@0 t@1") == ["1 SDS s@1"]


def test_refused_content_is_held_back_on_a_new_stream() -> None:
    """A7: Envoy ACKs a secret that it refused before and goes on serving the old one."""
    before = DeltaPeer(SDS="s@2")
    before.ask("SDS", "s")
    before.nack("SDS")
    after = DeltaPeer(SDS="s@2", refusals=before.refusals)
    assert after.ask("SDS", "s", has="s@1") == []
    assert after.put(SDS="s@3") == ["1 SDS s@3"]


def test_recorded_content_is_left_alone_with_a_client_that_states_its_version() -> None:
    """C2: the one exception to W9: the private key is gone, and Envoy has the content."""
    peer = DeltaPeer(SDS="=s@1 t@1")
    assert peer.ask("SDS", "s", "t", has="s@1") == ["1 SDS t@1"]
    assert peer.ack("SDS") == []
    assert peer.stream.missing(peer.snapshot) == set()
    assert peer.stream.in_step(peer.snapshot)
    assert peer.put(SDS="s@2 t@1") == ["2 SDS s@2"]


def test_recorded_content_is_left_alone_with_a_client_that_accepted_it() -> None:
    """C2: it makes no difference whether the client stated the version or was sent it."""
    peer = DeltaPeer(SDS="s@1")
    peer.take("SDS", "s")
    assert peer.put(SDS="=s@1") == []
    assert peer.stream.missing(peer.snapshot) == set()


def test_recorded_content_is_made_anew_for_a_client_that_does_not_have_it() -> None:
    """W16: it is neither sent nor called missing, but the server is told to make it."""
    peer = DeltaPeer(SDS="=s@1 =t@1")
    assert peer.ask("SDS", "s", has="s@0") == []
    assert peer.stream.missing(peer.snapshot) == {(SECRET, "s")}
    assert peer.put(SDS="?s =t@1") == []
    assert peer.put(SDS="s@2 =t@1") == ["1 SDS s@2"]
    peer.ack("SDS")
    assert peer.stream.missing(peer.snapshot) == set()


def test_recorded_content_is_made_anew_for_a_client_that_asks_again() -> None:
    """W9: only a first request says what the client has; later it may have forgotten."""
    peer = DeltaPeer(SDS="=s@1")
    peer.ask("SDS", "s", has="s@1")
    assert peer.ask("SDS", "s") == []
    assert peer.stream.missing(peer.snapshot) == {(SECRET, "s")}
    assert not peer.stream.in_step(peer.snapshot)
    assert peer.put(SDS="s@2") == ["1 SDS s@2"]


def test_recorded_content_is_made_anew_for_a_client_that_asks_for_everything_again() -> None:
    """W9: ``*`` in a later request asks for all that the client has, too."""
    peer = DeltaPeer(SDS="=s@1")
    peer.ask("SDS", has="s@1")
    peer.ack("SDS")
    assert peer.ask("SDS", "*") == ["2 SDS"]
    assert peer.stream.missing(peer.snapshot) == {(SECRET, "s")}


def test_recorded_content_is_left_alone_under_a_wildcard() -> None:
    """C1: so it is where the client states the version and asks for everything."""
    peer = DeltaPeer(SDS="=s@1 =t@1")
    assert peer.ask("SDS", has="s@1") == ["1 SDS"]
    peer.ack("SDS")
    assert peer.stream.missing(peer.snapshot) == {(SECRET, "t")}
    assert not peer.stream.in_step(peer.snapshot)


def test_system_version_is_never_compared() -> None:
    """A13: system_version_info is for people; what a client has is known from its ACKs."""
    peer = DeltaPeer(CDS="c@1")
    peer.take("CDS", "c")
    assert peer.put(CDS="c@1 d@1") == []


def test_secret_is_served_while_an_old_listener_drains() -> None:
    """O4: a secret that no listener names any more is sent as long as the client asks for it."""
    peer = DeltaPeer(LDS="l@1", SDS="s@1")
    peer.take("LDS")
    peer.take("SDS", "s")
    assert peer.put(LDS="") == ["3 LDS -l"]
    peer.ack("LDS")
    assert peer.put(SDS="s@2") == ["4 SDS s@2"]
