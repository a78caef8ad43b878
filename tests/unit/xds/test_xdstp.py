"""Structured names, and what a stream owes to who asks for a whole collection of them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control_plane.errors import PeerProtocolError
from control_plane.xds.events import Subscribed
from control_plane.xds.messages import DeltaRequest, Node
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import CLUSTER
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.xdstp import canonical, collection_of, is_glob
from tests.fuzz.budget import PARSER
from tests.unit.xds.notation import version
from tests.unit.xds.peers import DeltaPeer, SotwPeer

WEB = "xdstp://a/T/web/"
ALL = f"{WEB}*"
ONE, TWO = f"{WEB}one", f"{WEB}two"
OTHERS = "xdstp://a/T/api/one@1 xdstp://a/T/web/deep/one@1 xdstp://b/T/web/one@1 plain@1"
BOTH = f"{ONE}@1 {TWO}@1"


@pytest.mark.parametrize(
    ("given_as", "form"),
    [
        ("plain/name?b=2&a=1", "plain/name?b=2&a=1"),
        ("xdstp://a/T/id", "xdstp://a/T/id"),
        ("xdstp:///T/id/of/it", "xdstp:///T/id/of/it"),
        ("xdstp://a/T/id?b=2&a=1", "xdstp://a/T/id?a=1&b=2"),
        ("xdstp://a/T/id?b=2&a=1&b=2", "xdstp://a/T/id?a=1&b=2"),
        ("xdstp://a/T/id?b&a=", "xdstp://a/T/id?a=&b="),
        ("xdstp://a/T/id?", "xdstp://a/T/id"),
        ("xdstp://%61/T/%78%3ay%3f?%61=1%262", "xdstp://a/T/x:y%3F?a=1%262"),
        ("xdstp://a:1/T/*?a=x=y", "xdstp://a%3A1/T/*?a=x%3Dy"),
    ],
)
def test_a_name_has_one_form(given_as: str, form: str) -> None:
    """E4: what differs in the order of context parameters, or in escapes, is the same name."""
    assert canonical(given_as) == form
    assert canonical(form) == form


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("xdstp:a", "not of the form"),
        ("xdstp://a", "not of the form"),
        ("xdstp://a/T", "not of the form"),
        ("xdstp://a/T/", "not of the form"),
        ("xdstp://a//id", "not of the form"),
        ("xdstp://a/T/id#entry=x", "not of the form"),
        ("xdstp://a/T/id%2", "not of the form"),
        ("xdstp://a/T/%ff", "no UTF-8"),
        ("xdstp://a/T/id?=1", "without a key"),
        ("xdstp://a/T/id?a=1&&b=2", "without a key"),
        ("xdstp://a/T/id?a=1&a=2", "two values of the context parameter 'a'"),
    ],
)
@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_a_malformed_name_is_refused(
    client: type[DeltaPeer | SotwPeer], name: str, what: str
) -> None:
    """E4: with the name in the reason, to the client and to who sets resources."""
    with pytest.raises(PeerProtocolError, match=what) as refused:
        client().ask("CDS", name)
    assert repr(name) in str(refused.value)
    with pytest.raises(ValueError, match=what):
        Resource.of(CLUSTER, name, b"")


@PARSER
@given(st.text().map("xdstp://a/T/{}".format) | st.text())
@example("xdstp://a/T/id?%3d=&%3D=")
def test_no_text_breaks_a_name(text: str) -> None:
    """E4: it has one form, which is its own and in one collection, or it is refused."""
    try:
        form = canonical(text)
    except ValueError:
        return
    assert canonical(form) == form
    collection = collection_of(form)
    assert collection is None or (is_glob(collection) and collection_of(collection) == collection)


@pytest.mark.parametrize(
    ("name", "why"),
    [(f"{ONE}?b=2&a=1", rf"is written '{WEB}one\?a=1&b=2'"), (ALL, "stands for several")],
)
def test_a_resource_has_a_name_of_one_form(name: str, why: str) -> None:
    """E4: its message has the name too, and by any other Envoy does not remove it."""
    with pytest.raises(ValueError, match=why):
        Resource.of(CLUSTER, name, b"")


def test_what_is_denied_may_be_named_in_any_form() -> None:
    """E1, E4: nobody but the client has that name."""
    node = Node("instance-1", client_features=frozenset({"supports-resource-error-unwrapping"}))
    peer = DeltaPeer(CDS=f"-{ONE}?b=2&a=1(no)", node=node)
    assert peer.ask("CDS", f"{ONE}?a=1&b=2") == [f"1 CDS -{ONE}?a=1&b=2 ~{ONE}?a=1&b=2(no)"]


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_a_name_may_be_asked_for_in_any_form(client: type[DeltaPeer | SotwPeer]) -> None:
    """E4: the order of context parameters does not matter; their values do."""
    name = f"{ONE}?a=1&b=2"
    peer = client(EDS=f"{name}@1 {ONE}@1 {ONE}?a=1&b=3@1")
    assert peer.ask("EDS", f"{ONE}?b=2&a=1") == [f"1 EDS {name}@1"]
    assert Subscribed(peer.stream.machines.popitem()[0], frozenset({name})) in peer.told()


def test_what_a_client_has_may_be_stated_in_any_form() -> None:
    """C1, E4: of a collection it is told what it lacks, and of what it has and is gone."""
    one, two, gone = (f"{WEB}{name}?a=1&b=2" for name in ("one", "two", "gone"))
    peer = DeltaPeer(CDS=f"{one}@1 {two}@1")
    stated = {f"{WEB}one?b=2&a=1": version(f"{one}@1"), f"{WEB}gone?b=2&a=1": "x"}
    request = DeltaRequest(CLUSTER, (f"{ALL}?b=2&a=1",), (), stated, node=peer.take_node())
    assert peer.send(request) == [f"1 CDS {two}@1"]
    assert peer.ack("CDS") == [f"2 CDS -{gone}"]


def test_what_everybody_has_may_be_stated_in_any_form() -> None:
    """C1, E4: under a wildcard it is not sent again."""
    peer = DeltaPeer(CDS=f"{ONE}@1")
    stated = {f"{WEB}%6fne": version(f"{ONE}@1")}
    request = DeltaRequest(CLUSTER, initial_resource_versions=stated, node=Node("n"))
    assert peer.send(request) == ["1 CDS"]


def test_a_name_may_be_given_up_in_any_form() -> None:
    """W10, E4: it is that which was asked for in another form."""
    peer = DeltaPeer(CDS=BOTH)
    peer.ask("CDS", ONE, TWO)
    peer.ack("CDS")
    assert peer.ask("CDS", drop=[f"{WEB}%6fne"]) == []
    assert peer.put(CDS=f"{ONE}@2 {TWO}@2") == [f"2 CDS {TWO}@2"]


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_a_glob_brings_its_members(client: type[DeltaPeer | SotwPeer]) -> None:
    """E4: those whose last component alone differs, and nothing else, as they are and change."""
    peer = client(CDS=f"{BOTH} {OTHERS} {ONE}?a=1@1")
    assert peer.ask("CDS", ALL) == [f"1 CDS {ONE}@1 {TWO}@1"]
    assert peer.ack("CDS") == []
    assert peer.stream.in_step(peer.snapshot)
    (told,) = peer.put(CDS=f"{ONE}@1 {TWO}@2 {WEB}three@1 {OTHERS}")
    assert f"{TWO}@2" in told
    assert f"{WEB}three@1" in told
    assert ("/api/" in told, "deep" in told, "plain" in told) == (False, False, False)
    assert peer.ack("CDS") == []


def test_members_come_one_by_one_in_delta() -> None:
    """E4, R5: what did not change is not sent, and what is gone is removed by its own name."""
    peer = DeltaPeer(CDS=BOTH)
    peer.ask("CDS", ALL)
    peer.ack("CDS")
    assert peer.put(CDS=f"{ONE}@2 {TWO}@1") == [f"2 CDS {ONE}@2"]
    peer.ack("CDS")
    assert peer.put(CDS=f"{TWO}@1") == [f"3 CDS -{ONE}"]
    peer.ack("CDS")
    assert peer.put(CDS="") == [f"4 CDS -{TWO}"]
    assert peer.ack("CDS") == []
    assert peer.put(CDS=BOTH) == [f"5 CDS {ONE}@1 {TWO}@1"]


def test_an_empty_glob_is_told_by_its_name() -> None:
    """E4, W7, W8: once, and what comes into the collection later is sent."""
    peer = DeltaPeer(CDS=OTHERS)
    assert peer.ask("CDS", ALL) == [f"1 CDS -{ALL}"]
    assert peer.ack("CDS") == []
    assert peer.put(CDS=f"{ONE}@1") == [f"2 CDS {ONE}@1"]
    peer.ack("CDS")
    assert peer.ask("CDS", ALL) == [f"3 CDS {ONE}@1"]


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_an_empty_glob_has_an_error(client: type[DeltaPeer | SotwPeer]) -> None:
    """E1, E4: for who takes errors, by the name of the collection; one with members has none."""
    node = Node("instance-1", client_features=frozenset({"supports-resource-error-unwrapping"}))
    peer = client(EDS=f"{ONE}@1", node=node)
    other = "xdstp://a/T/api/*"
    (told,) = peer.ask("EDS", ALL, other)
    assert told.startswith(f"1 EDS {ONE}@1 ")
    assert told.endswith(f"~{other}")
    assert peer.ack("EDS") == []
    assert peer.stream.in_step(peer.snapshot)


def test_a_glob_asked_for_again_is_answered_again() -> None:
    """W9, E4: with all that is in it, also with what the client has."""
    peer = DeltaPeer(CDS=BOTH)
    peer.ask("CDS", ALL)
    peer.ack("CDS")
    assert peer.ask("CDS", ALL) == [f"2 CDS {ONE}@1 {TWO}@1"]
    assert peer.ack("CDS") == []


def test_a_glob_of_which_the_client_has_everything_is_answered_too() -> None:
    """C1, W15, E4: as the wildcard is; a client that comes back waits for that."""
    peer = DeltaPeer(CDS=BOTH)
    assert peer.ask("CDS", ALL, has=BOTH) == ["1 CDS"]
    assert peer.ack("CDS") == []
    assert peer.stream.in_step(peer.snapshot)


@pytest.mark.parametrize("made", [f"?{ONE}", f"={ONE}@1"])
def test_a_glob_whose_members_are_being_made_is_not_empty(made: str) -> None:
    """E4, W16: to say that there is nothing would be wrong in a moment."""
    peer = DeltaPeer(SDS=made)
    assert peer.ask("SDS", ALL) == ["1 SDS"]
    peer.ack("SDS")
    assert not peer.stream.in_step(peer.snapshot)
    assert peer.put(SDS=f"{ONE}@1") == [f"2 SDS {ONE}@1"]


def test_a_glob_given_up_is_over() -> None:
    """W10, W11, E4: nothing is said, and no change follows but of what is asked for besides."""
    peer = DeltaPeer(CDS=BOTH)
    peer.ask("CDS", ALL, ONE)
    peer.ack("CDS")
    assert peer.ask("CDS", drop=[f"{ALL}?a=1"]) == []
    assert peer.ask("CDS", drop=[ALL]) == [f"2 CDS {ONE}@1"]
    peer.ack("CDS")
    assert peer.put(CDS=f"{ONE}@2 {TWO}@2") == [f"3 CDS {ONE}@2"]


def test_what_came_by_a_glob_is_given_up_with_it() -> None:
    """W10, R5, E4: so a client that asks for it later is not told of what is gone by then."""
    peer = DeltaPeer(CDS=BOTH)
    peer.ask("CDS", ALL)
    peer.ack("CDS")
    assert peer.ask("CDS", drop=[ALL]) == []
    assert peer.put(CDS=f"{ONE}@1") == []
    assert peer.ask("CDS", ALL) == [f"2 CDS {ONE}@1"]
    assert peer.ack("CDS") == []


def test_a_name_asked_for_besides_a_glob_brings_none_of_its_members_again() -> None:
    """W9, R6, E4: of these nothing was asked for."""
    peer = DeltaPeer(CDS=f"{BOTH} plain@1")
    peer.ask("CDS", ALL)
    peer.ack("CDS")
    assert peer.ask("CDS", "plain") == ["2 CDS plain@1"]


def test_a_missing_name_asked_for_besides_a_glob_is_sent_once_it_exists() -> None:
    """W8, E4: although it is in no collection that the client asks for."""
    peer = DeltaPeer(CDS=f"{ONE}@1")
    assert peer.ask("CDS", ALL, "plain") == [f"1 CDS {ONE}@1 -plain"]
    peer.ack("CDS")
    assert peer.put(CDS=f"{ONE}@1 plain@1") == ["2 CDS plain@1"]


def test_what_is_in_no_collection_asked_for_is_not_sent_when_it_comes() -> None:
    """W1, E4: neither a member of another collection nor what is in none."""
    peer = DeltaPeer(CDS=f"{ONE}@1")
    peer.ask("CDS", ALL)
    peer.ack("CDS")
    assert peer.put(CDS=f"{ONE}@1 {OTHERS}") == []


def test_a_member_given_up_that_the_glob_still_wants_is_answered() -> None:
    """W12, E4: a glob wants it as a wildcard does."""
    peer = DeltaPeer(CDS=BOTH)
    peer.ask("CDS", ALL, ONE, f"{WEB}three")
    peer.ack("CDS")
    assert peer.ask("CDS", drop=[ONE, f"{WEB}three"]) == [f"2 CDS {ONE}@1 -{WEB}three"]
    assert peer.ack("CDS") == []


def test_a_glob_given_up_under_the_wildcard_is_answered_with_its_members() -> None:
    """W12, E4: that which the wildcard still wants the client may have let go of."""
    peer = DeltaPeer(CDS=f"{BOTH} plain@1")
    assert peer.ask("CDS", "*", ALL) == [f"1 CDS plain@1 {ONE}@1 {TWO}@1"]
    peer.ack("CDS")
    assert peer.ask("CDS", drop=[ALL]) == [f"2 CDS {ONE}@1 {TWO}@1"]
    assert peer.ack("CDS") == []
    assert peer.stream.rests(peer.snapshot)


def test_a_sotw_glob_asked_for_anew_brings_what_the_client_has() -> None:
    """W2, E4: its members are newly requested, also one that was had by name."""
    peer = SotwPeer(EDS=BOTH)
    assert peer.ask("EDS", ONE) == [f"1 EDS {ONE}@1"]
    peer.ack("EDS")
    assert peer.ask("EDS", ONE, ALL) == [f"2 EDS {TWO}@1 {ONE}@1"]
    assert peer.ack("EDS") == []
    assert peer.stream.in_step(peer.snapshot)
    assert peer.stream.rests(peer.snapshot)


def test_a_glob_withdraws_nothing_with_its_first_answer() -> None:
    """O1, E4: a client that comes back asks for what refers to it only then."""
    peer = DeltaPeer(CDS=f"{ONE}@1", LDS="l@1")
    assert peer.ask("CDS", ALL, has=BOTH) == ["1 CDS"]
    assert peer.ask("LDS", has="l@0") == []
    assert peer.ack("CDS") == ["2 LDS l@1"]
    assert peer.ack("LDS") == [f"3 CDS -{TWO}"]


def test_what_refers_to_a_glob_waits_for_its_answer() -> None:
    """O1, E4: also while that waits itself."""
    peer = DeltaPeer(ECDS="e@1", LDS=f"{ONE}@1", RDS="r@1")
    assert peer.ask("ECDS", "e") == ["1 ECDS e@1"]
    assert peer.ask("LDS", ALL, has=f"{ONE}@1") == []
    assert peer.ask("RDS", "r") == []
    assert peer.ack("ECDS") == ["2 LDS"]
    assert peer.ack("LDS") == ["3 RDS r@1"]


def test_what_is_on_demand_is_not_brought_by_a_glob() -> None:
    """W3, E4: as no wildcard brings virtual hosts."""
    peer = DeltaPeer(RDS="r@1", VHDS=f"{ONE}@1")
    assert peer.ask("VHDS", ALL) == [f"1 VHDS !{ALL}"]


def test_collections_are_known_beforehand() -> None:
    """E4: what is in one is looked up, not searched for."""
    resources = [Resource.of(CLUSTER, name, b"") for name in (ONE, TWO, "plain", f"{ONE}?a=1")]
    assert TypeSnapshot.of(resources).collections == {ALL: {ONE, TWO}, f"{ALL}?a=1": {f"{ONE}?a=1"}}
