"""Variants of resources on a stream: who has which, and what each client is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.errors import PeerLimitExceeded, PeerProtocolError
from control_plane.xds.delivery import ConfigStatus, deliveries
from control_plane.xds.events import Subscribed, Unsubscribed
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import Node, Reply
from control_plane.xds.resource import Nonce, Resource, Version
from control_plane.xds.resource_type import CLUSTER, RUNTIME, SECRET
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.type_status import type_statuses
from tests.unit.xds.notation import constraints, resource
from tests.unit.xds.peers import NODE, DeltaPeer, SotwPeer

BOTH = "a@1{e=p} a@2{e=t}"
"""Two variants: for who says that its ``e`` is ``p``, and for who says ``t``."""

TAKES_ERRORS = Node("n", client_features=frozenset({"supports-resource-error-unwrapping"}))


def statuses(peer: DeltaPeer | SotwPeer) -> list[str]:
    """Return how far each resource is on its way to a client."""
    found = deliveries(peer.stream, peer.snapshot)
    return [f"{each.name} {each.status.value}" for each in found]


# --- which variant ---------------------------------------------------------------------------


@pytest.mark.parametrize("short", ["SDS", "CDS"])
def test_client_has_the_variant_that_matches(short: str) -> None:
    """E3: "the server will send a resource whose dynamic parameter constraints match"."""
    for parameters, told in (("e=p", "a@1{e=p}"), ("e=t,v=1", "a@2{e=t}")):
        delta, sotw = DeltaPeer(), SotwPeer()
        for peer in (delta, sotw):
            peer.put(**{short: BOTH})
        assert delta.ask(short, f"a{{{parameters}}}") == [f"1 {short} {told}"]
        assert sotw.ask(short, f"a{{{parameters}}}") == [f"1 {short} {told}"]
        assert delta.ack(short) == sotw.ack(short) == []
        assert delta.stream.in_step(delta.snapshot)
        assert sotw.stream.in_step(sotw.snapshot)
        assert statuses(delta) == statuses(sotw) == ["a SYNCED"]


def test_constraints_are_told_to_who_asks_by_locators_alone() -> None:
    """E3: who asks by plain names may not know the field, and says no parameters."""
    peer = DeltaPeer(SDS="a@1{e} a@2{!e} b@1")
    assert peer.ask("SDS", "a", "b{e=p}") == ["1 SDS a@2"]
    assert peer.ack("SDS") == ["2 SDS b@1"]
    assert peer.ack("SDS", "c{}") == ["3 SDS -c"]
    everything = SotwPeer(CDS="a@1{e} a@2{!e} b@1{!e}")
    assert everything.ask("CDS") == ["1 CDS a@2 b@1"]


def test_locator_without_parameters_is_one() -> None:
    """E3: it says that the client knows variants."""
    assert DeltaPeer(SDS="a@1{e} a@2{!e}").ask("SDS", "a{}") == ["1 SDS a@2{!e}"]
    assert SotwPeer(SDS="a@1{e} a@2{!e}").ask("SDS", "a{}", "a") == ["1 SDS a@2{!e}"]


def test_variant_for_nobody_like_the_client_does_not_exist() -> None:
    """E3: "the server acting as if the requested resource does not exist"."""
    assert DeltaPeer(SDS=BOTH).ask("SDS", "a{e=q}") == ["1 SDS -a"]
    assert SotwPeer(SDS=BOTH).ask("SDS", "a{e=q}") == []
    assert SotwPeer(CDS=BOTH).ask("CDS", "a{e=q}") == ["1 CDS"]
    told = SotwPeer(SDS=BOTH, node=TAKES_ERRORS).ask("SDS", "a{e=q}")
    assert told == ["1 SDS ~a"]


def test_wildcard_and_collections_have_parameters() -> None:
    """E3, E4: what comes by them is what matches theirs, but for what was asked for by itself."""
    one, two = "xdstp://a/T/x/1", "xdstp://a/T/x/2"
    content = f"{one}@1{{e=p}} {one}@2{{e=t}} {two}@1{{e=p}} {two}@2{{e=t}} c@1{{e=p}} c@2{{e=t}}"
    peer = DeltaPeer(CDS=content)
    assert peer.ask("CDS", "*{e=p}", "xdstp://a/T/x/*{e=t}", f"{two}{{e=p}}") == [
        f"1 CDS c@1{{e=p}} {one}@2{{e=t}} {two}@1{{e=p}}"
    ]
    sotw = SotwPeer(CDS=content)
    assert sotw.ask("CDS", "*", "xdstp://a/T/x/*{e=t}", f"{two}{{e=p}}") == [
        f"1 CDS {one}@2{{e=t}} {two}@1{{e=p}}"
    ]


def test_a_collection_without_a_variant_for_the_client_is_empty() -> None:
    """E3, E4: it is told by its own name."""
    peer = DeltaPeer(CDS="xdstp://a/T/x/1@1{e=p}")
    assert peer.ask("CDS", "xdstp://a/T/x/*{e=t}") == ["1 CDS -xdstp://a/T/x/*"]


def test_names_in_locators_have_one_form() -> None:
    """E3, E4: however a client writes them."""
    peer = DeltaPeer(SDS="xdstp://a/T/x?k=1@1{e=p}")
    assert peer.ask("SDS", "xdstp://a/T/x?k=%31{e=p}") == ["1 SDS xdstp://a/T/x?k=1@1{e=p}"]
    assert peer.ack("SDS", drop=["xdstp://a/T/%78?k=1{e=p}"]) == []
    assert peer.told()[-1] == Unsubscribed(SECRET, frozenset({"xdstp://a/T/x?k=1"}))
    with pytest.raises(PeerProtocolError, match="a context parameter without a key"):
        SotwPeer().ask("SDS", "xdstp://a/T/x?=1{}")


def test_where_nothing_has_variants_parameters_do_not_matter() -> None:
    """E3: "allows clients to add new parameters before a server begins using them"."""
    peer = SotwPeer(CDS="a@1 b@1")
    assert peer.ask("CDS", "a{e=p}") == ["1 CDS a@1"]
    assert peer.told()[-1] == Subscribed(CLUSTER, frozenset({"a"}))
    assert peer.ack("CDS") == []


def test_virtual_hosts_of_routes_with_variants_are_on_demand() -> None:
    """E3, W13: whichever variant an Envoy has, it waits for word of its virtual hosts."""
    peer = DeltaPeer(RDS="r@1{e=p} r@2{!e=p} q@1", VHDS="r/h@1|r/host")
    assert peer.ask("VHDS") == ["1 VHDS -q/ -r/"]
    assert peer.ack("VHDS", "r/host{e=p}") == ["2 VHDS r/h@1"]


# --- changes ---------------------------------------------------------------------------------


def test_new_content_of_a_variant_replaces_it() -> None:
    """E3: and what changes of another is no news."""
    peer = DeltaPeer(SDS=BOTH)
    peer.take("SDS", "a{e=p}")
    assert peer.put(SDS="a@1{e=p} a@9{e=t}") == []
    assert peer.put(SDS="a@3{e=p} a@9{e=t}") == ["2 SDS a@3{e=p}"]
    peer.ack("SDS")
    assert peer.stream.in_step(peer.snapshot)


def test_deletion_and_replacement_are_in_one_response() -> None:
    """E3: "in order to avoid causing matching ambiguity", as in TP2's transition scenario."""
    peer = DeltaPeer(SDS=BOTH)
    peer.take("SDS", "a{e=p,v=1}")
    divided = "a@1{e=p,v=1} a@1{e=p,v=2} a@2{e=t,v}"
    assert peer.put(SDS=divided) == ["2 SDS a@1{e=p,v=1} -a{e=p}"]
    peer.ack("SDS")
    assert peer.put(SDS=f"{divided} b@1") == []


def test_what_had_no_variants_is_let_go_of_too() -> None:
    """E3: and so is a variant once there are none; each time nothing is left beside the new one."""
    peer = DeltaPeer(SDS="a@1")
    assert peer.ask("SDS", "a{e=p}") == ["1 SDS a@1"]
    peer.ack("SDS")
    assert peer.put(SDS=BOTH) == ["2 SDS a@1{e=p} -a{}"]
    peer.ack("SDS")
    assert peer.put(SDS="a@1") == ["3 SDS a@1 -a{e=p}"]
    peer.ack("SDS")
    assert peer.put(SDS="") == ["4 SDS -a"]


def test_what_goes_goes_with_its_constraints() -> None:
    """E3: "must be used for any resource for which dynamic parameter constraints were sent"."""
    peer = DeltaPeer(SDS=BOTH)
    peer.take("SDS", "a{e=p}")
    assert peer.put(SDS="a@2{e=t}") == ["2 SDS -a{e=p}"]
    peer.ack("SDS")
    assert peer.stream.in_step(peer.snapshot)
    assert peer.put(SDS=BOTH) == ["3 SDS a@1{e=p}"]
    peer.ack("SDS")
    assert peer.put(SDS="") == ["4 SDS -a{e=p}"]
    peer.ack("SDS")
    assert peer.ack("SDS", "a{e=p}") == ["5 SDS -a"]


def test_what_goes_is_known_to_those_who_watch() -> None:
    """E3: a name that goes, with constraints or without; not one that gets another variant."""
    reply = Reply(
        SECRET,
        Nonce("1"),
        Version(""),
        (resource("SDS", "a@1{e=p}"),),
        ("b",),
        removed_variants=(("a", None), ("b", constraints("e=p")), ("c", constraints("e=p"))),
    )
    assert reply.gone() == ("b", "c")
    assert replace(reply, removed_variants=()).gone() == ("b",)


def test_error_goes_with_a_variant_that_goes() -> None:
    """E3, E1: it is of the name, as everybody else's is."""
    peer = DeltaPeer(SDS=BOTH, node=TAKES_ERRORS)
    peer.take("SDS", "a{e=p}")
    assert peer.put(SDS="") == ["2 SDS -a{e=p} ~a"]


def test_what_a_client_may_have_after_a_refusal_goes_too() -> None:
    """E3, A7: it refused the response that would have taken it."""
    peer = DeltaPeer(CDS="a@1{e=p}")
    peer.take("CDS", "a{e=p,v=1}")
    assert peer.put(CDS="a@2{e=p,v=1}") == ["2 CDS a@2{e=p,v=1} -a{e=p}"]
    assert peer.nack("CDS") == []
    assert peer.put(CDS="a@3{v=1}") == ["3 CDS a@3{v=1} -a{e=p} -a{e=p,v=1}"]
    peer.ack("CDS")
    assert peer.put(CDS="a@4") == ["4 CDS a@4 -a{v=1}"]


def test_whatever_a_client_refused_of_a_name_may_be_there() -> None:
    """E3, A8: also after it refused something else of that name."""
    peer = DeltaPeer(CDS="a@1{e=p} b@1")
    peer.ask("CDS", "a{e=p,v=1}", "b{}")
    peer.nack("CDS")
    (told,) = peer.put(CDS="a@2{e} b@2")
    assert told.endswith(" -a{e=p}")
    peer.nack("CDS")
    assert peer.put(CDS="a@3{v=1} b@2") == ["3 CDS a@3{v=1} -a{e} -a{e=p}"]


def test_stale_answer_tells_nothing_of_variants() -> None:
    """E3, A11: it is of an earlier response; what is in flight still is."""
    peer = DeltaPeer(SDS=BOTH)
    peer.ask("SDS", "a{e=p,v=1}")
    assert peer.ask("SDS", nonce="none") == []
    peer.ack("SDS")
    assert peer.put(SDS="a@1{v=1}") == ["2 SDS a@1{v=1} -a{e=p}"]


def test_what_was_refused_among_others_may_be_there() -> None:
    """E3, A8: a client may apply the good ones of several that it refuses."""
    peer = DeltaPeer(CDS="a@1{e=p} b@1{e=p}")
    peer.ask("CDS", "*{e=p}")
    peer.nack("CDS")
    assert peer.put(CDS="a@2 b@1{e=p}") == ["2 CDS a@2 -a{e=p}"]
    peer.ack("CDS")
    assert peer.put(CDS="") == ["3 CDS -a -b{e=p}"]


def test_old_variant_is_in_the_response_of_the_new_one() -> None:
    """E3: also where a response has few resources."""
    peer = DeltaPeer(SDS="a@1{e=p} b@1{e=p}")
    peer.take("SDS", "*{e=p,v=1}")
    peer.ack("SDS")
    assert peer.put(SDS="a@1{v=1} b@1{v=1}") == ["3 SDS a@1{v=1} -a{e=p}"]
    assert peer.ack("SDS") == ["4 SDS b@1{v=1} -b{e=p}"]


# --- other parameters ------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["a", "a{e=p}"], ids=["name", "locator"])
def test_two_sets_at_a_time_end_the_stream(first: str) -> None:
    """E3: two are for a caching proxy, which opens a stream for each."""
    sentence = "two sets of dynamic parameters for 'a' on one stream: open one for each set"
    for peer in (DeltaPeer(), SotwPeer()):
        with pytest.raises(PeerProtocolError, match=sentence):
            peer.ask("SDS", first, "a{e=t}")
    peer = DeltaPeer(SDS=BOTH)
    peer.ask("SDS", first)
    with pytest.raises(PeerProtocolError, match=sentence):
        peer.ask("SDS", "a{e=t}", drop=["a{e=q}"])


def test_another_set_replaces_the_one_that_is_given_up() -> None:
    """E3: in one request, and the variant of before goes as soon as the other comes."""
    peer = DeltaPeer(SDS=BOTH)
    peer.ask("SDS", "a{e=p}")
    assert peer.ack("SDS", "a{e=t}", drop=["a{e=p}"]) == ["2 SDS a@2{e=t} -a{e=p}"]
    assert peer.told()[-1] == Subscribed(SECRET, frozenset({"a"}))
    peer.ack("SDS")
    assert peer.put(SDS="a@1{e=p}") == ["3 SDS -a{e=t}"]


def test_another_set_of_which_there_is_nothing_is_answered_by_the_name() -> None:
    """E3, W7: the variant that goes was for others, so it does not say that there is no other."""
    peer = DeltaPeer(SDS=BOTH)
    peer.ask("SDS", "a{e=p}")
    assert peer.ack("SDS", "a{e=q}", drop=["a{e=p}"]) == ["2 SDS -a -a{e=p}"]
    peer.ack("SDS")
    assert peer.put(SDS="a@1{e=q}") == ["3 SDS a@1{e=q}"]


def test_another_set_of_the_same_variant_is_asked_for_anew() -> None:
    """E3, W2: in state of the world too, where it is the same name in another list."""
    delta = DeltaPeer(SDS=BOTH)
    delta.ask("SDS", "a{e=p}")
    assert delta.ack("SDS", "a{e=p,v=1}", drop=["a{e=p}"]) == ["2 SDS a@1{e=p}"]
    for short in ("SDS", "CDS"):
        sotw = SotwPeer()
        sotw.put(**{short: BOTH})
        sotw.ask(short, "a{e=p}")
        assert sotw.ask(short, "a{e=p,v=1}") == [f"2 {short} a@1{{e=p}}"]
        assert sotw.ask(short, "a{e=t}") == [f"3 {short} a@2{{e=t}}"]
        assert sotw.ack(short) == []
    named = SotwPeer(SDS="a@1{!e}")
    named.ask("SDS", "a")
    assert named.ask("SDS", "a{}") == ["2 SDS a@1{!e}"]
    assert named.ask("SDS", "a") == ["3 SDS a@1"]


def test_other_parameters_of_the_wildcard_and_of_collections() -> None:
    """E3, E4: all that came by them is asked for anew."""
    member = "xdstp://a/T/x/1"
    content = f"a@1{{e=p}} a@2{{e=t}} {member}@1{{e=p}} {member}@2{{e=t}} c@1"
    delta, sotw = DeltaPeer(CDS=content), SotwPeer(CDS=content)
    first = f"1 CDS a@1{{e=p}} c@1 {member}@1{{e=p}}"
    second = f"2 CDS a@2{{e=t}} c@1 {member}@2{{e=t}}"
    assert delta.ask("CDS", "*{e=p}") == sotw.ask("CDS", "*{e=p}") == [first]
    assert delta.ack("CDS", "*{e=t}", drop=["*{e=p}"]) == [f"{second} -a{{e=p}} -{member}{{e=p}}"]
    assert sotw.ask("CDS", "*{e=t}") == [second]
    glob = SotwPeer(CDS=content)
    assert glob.ask("CDS", "xdstp://a/T/x/*{e=p}") == [f"1 CDS {member}@1{{e=p}}"]
    assert glob.ask("CDS", "xdstp://a/T/x/*{e=p,v=1}") == [f"2 CDS {member}@1{{e=p}}"]


def test_other_parameters_of_a_partial_type_bring_what_is_asked_for_with_them() -> None:
    """E3, W2: by the wildcard everything, by a name that alone."""
    content = "a@1 b@1{e=p} b@2{e=t}"
    everything, named = SotwPeer(EDS=content), SotwPeer(EDS=content)
    assert everything.ask("EDS", "*{e=p}") == ["1 EDS a@1 b@1{e=p}"]
    everything.ack("EDS")
    assert everything.ask("EDS", "*{e=t}") == ["2 EDS a@1 b@2{e=t}"]
    assert named.ask("EDS", "a", "b{e=p}") == ["1 EDS a@1 b@1{e=p}"]
    named.ack("EDS")
    assert named.ask("EDS", "a", "b{e=t}") == ["2 EDS b@2{e=t}"]
    glob, member = "xdstp://a/T/x/*", "xdstp://a/T/x/1"
    collected = SotwPeer(EDS=f"{content} {member}@1")
    assert collected.ask("EDS", f"{glob}{{e=p}}") == [f"1 EDS {member}@1"]
    collected.ack("EDS")
    assert collected.ask("EDS", f"{glob}{{e=t}}") == [f"2 EDS {member}@1"]


@pytest.mark.parametrize("phantom", ["a", "a{}", "a{e=t}", "a{e=p,v=1}"])
def test_giving_up_what_was_not_asked_for_is_ignored(phantom: str) -> None:
    """E3, W10: "it can simply ignore these phantom unsubscriptions"."""
    peer = DeltaPeer(SDS=BOTH)
    peer.ask("SDS", "a{e=p}")
    assert peer.ack("SDS", drop=[phantom, "b{e=p}"]) == []
    assert peer.put(SDS="a@3{e=p}") == ["2 SDS a@3{e=p}"]
    assert peer.ack("SDS", "a{e=p}", drop=[phantom]) == ["3 SDS a@3{e=p}"]
    assert peer.ack("SDS", drop=["a{e=p}", phantom]) == []
    assert peer.told()[-1] == Unsubscribed(SECRET, frozenset({"a"}))
    assert peer.put(SDS="a@4{e=p}") == []


def test_giving_up_a_plain_name_does_not_give_up_its_locator() -> None:
    """E3, W10: nor if the request says nothing else."""
    peer = DeltaPeer(SDS=BOTH)
    peer.take("SDS", "a{e=p}")
    assert peer.ask("SDS", drop=["a"]) == []
    assert peer.put(SDS="a@3{e=p}") == ["2 SDS a@3{e=p}"]


def test_what_is_asked_for_and_given_up_at_once_is_not_asked_for() -> None:
    """E3, W10: the additions come first, as with names."""
    peer = DeltaPeer(SDS=BOTH)
    assert peer.ask("SDS", "a{e=p}", drop=["a{e=p}"]) == []
    assert peer.ask("SDS", "a{e=p}", drop=["a{e=t}"]) == ["1 SDS a@1{e=p}"]
    assert peer.ack("SDS", "a{e=t}", drop=["a{e=p}", "a{e=t}"]) == []
    assert peer.stream.machines[SECRET].asked() == set()


def test_first_request_that_gives_something_up_is_no_wildcard() -> None:
    """E3, W4: nor is one of state of the world that has locators alone."""
    assert DeltaPeer(CDS="a@1 b@1").ask("CDS", drop=["a{e=p}"]) == []
    assert SotwPeer(CDS="a@1 b@1").ask("CDS", "a{e=p}") == ["1 CDS a@1"]


def test_what_is_given_up_under_a_wildcard_comes_with_its_parameters() -> None:
    """E3, W9: the name is answered, and from then on it is one of all."""
    peer = DeltaPeer(SDS=BOTH)
    assert peer.ask("SDS", "*{e=t}", "a{e=p}") == ["1 SDS a@1{e=p}"]
    assert peer.ack("SDS", drop=["a{e=p}"]) == ["2 SDS a@2{e=t}"]
    peer.ack("SDS")
    assert peer.stream.in_step(peer.snapshot)


def test_who_turns_to_locators_is_told_constraints() -> None:
    """E3: and who turns away from them a name; the other is let go of each time."""
    peer = DeltaPeer(SDS="a@1{e} a@2{!e}")
    assert peer.ask("SDS", "a") == ["1 SDS a@2"]
    assert peer.ack("SDS", "a{}") == ["2 SDS a@2{!e} -a{}"]
    assert peer.ack("SDS", "a") == ["3 SDS a@2 -a{!e}"]
    assert peer.ack("SDS") == []


# --- coming back -----------------------------------------------------------------------------


def test_who_comes_back_is_told_what_changed() -> None:
    """E3, C1: the version says which variant it has; one that is none of them is replaced."""
    has = BOTH.split(maxsplit=1)[0]
    peer = DeltaPeer(CDS=f"{BOTH} b@2{{e=p}}")
    told = peer.ask("CDS", "*{e=p}", has=f"{has} b@1{{e=p}} c@1{{e=p}}")
    assert told == ["1 CDS b@2{e=p}"]
    assert peer.ack("CDS") == ["2 CDS -c"]
    peer.ack("CDS")
    assert peer.put(CDS="") == ["3 CDS -a{e=p} -b{e=p}"]


def test_who_comes_back_with_other_parameters_lets_go_of_its_variant() -> None:
    """E3, C1: as the version tells which that is."""
    peer = DeltaPeer(SDS=BOTH)
    assert peer.ask("SDS", "a{e=t}", has="a@1{e=p}") == ["1 SDS a@2{e=t} -a{e=p}"]


def test_who_comes_back_with_names_is_told_names() -> None:
    """E3, C1: whatever locators it has for others."""
    peer = DeltaPeer(SDS="a@1{!e} a@2{e}")
    assert peer.ask("SDS", "a", "b{e=p}", has="a@1{!e}") == ["1 SDS a@1"]
    assert peer.ack("SDS") == ["2 SDS -b"]
    assert peer.ack("SDS", drop=["a"]) == []


def test_complete_state_that_the_client_states_is_not_sent_again() -> None:
    """E3, C2: the version of what it sees is that of its variants."""
    peer = SotwPeer(CDS=BOTH)
    assert peer.ask("CDS", "*{e=p}", has="a@1{e=p}") == []
    other = SotwPeer(CDS=BOTH)
    assert other.ask("CDS", "*{e=t}", has="a@1{e=p}") == ["1 CDS a@2{e=t}"]


# --- who has what, TTLs, order, limits -------------------------------------------------------


def test_deliveries_are_of_the_variant_of_the_client() -> None:
    """E3, D3: and so is the status of the type."""
    peer = DeltaPeer(SDS=BOTH)
    peer.ask("SDS", "a{e=t}")
    (delivery,) = deliveries(peer.stream, peer.snapshot)
    assert delivery.version == resource("SDS", "a@2{e=t}").version
    assert delivery.status is ConfigStatus.STALE
    peer.ack("SDS")
    (status,) = type_statuses(peer.stream, peer.snapshot)
    assert status.status is ConfigStatus.SYNCED
    assert status.wanted == status.accepted


def test_heartbeats_name_the_variant() -> None:
    """E3, T2: what the client keeps is what it has, which may be from before."""
    features = frozenset({"xds.config.supports-resource-ttl", "xds.config.resource-in-sotw"})
    lasting = {
        whose: Resource.of(RUNTIME, "a", b"a@1", ttl=3.0, constraints=constraints(whose))
        for whose in ("e=p", "v=1")
    }
    node = Node("n", client_features=features)
    delta, sotw = DeltaPeer(node=node), SotwPeer(node=node)
    for peer, beat in ((delta, "a+{e=p}"), (sotw, "a@1{e=p}")):
        peer.snapshot = Snapshot({RUNTIME: TypeSnapshot.of([lasting["e=p"]])})
        peer.ask(RUNTIME, "a{e=p,v=1}")
        peer.ack(RUNTIME)
        assert peer.wait(1.0) == [f"2 {RUNTIME} {beat}"]
    back = DeltaPeer(node=node)
    back.snapshot = Snapshot({RUNTIME: TypeSnapshot.of([lasting["e=p"], resource(RUNTIME, "b@1")])})
    version = lasting["e=p"].version
    assert back.ask(RUNTIME, "*{e=p,v=1}", has="a@1{e=p}") == [
        f"1 {RUNTIME} b@1",
        f"2 {RUNTIME} a+{{e=p}}",
    ]
    assert back.stream.machines[RUNTIME].exchange.has("a") == version
    back.ask(RUNTIME, nonce="1")
    back.snapshot = Snapshot({RUNTIME: TypeSnapshot.of([lasting["v=1"]])})
    assert back.hear() == [f"3 {RUNTIME} a@1{{v=1}} -b -a{{e=p}}"]
    assert back.wait(1.0) == [f"4 {RUNTIME} a+{{v=1}}"]


def test_heartbeat_beside_another_variant_changes_nothing_of_that() -> None:
    """E3, T2: the client has that once it accepted it, and lets go of it by its constraints."""
    features = frozenset({"xds.config.supports-resource-ttl"})
    peer = DeltaPeer(node=Node("n", client_features=features))
    for whose, told in (("e=p", []), ("v=1", [f"2 {RUNTIME} a@1{{v=1}} -a{{e=p}}"])):
        lasting = Resource.of(RUNTIME, "a", b"a@1", ttl=3.0, constraints=constraints(whose))
        peer.snapshot = Snapshot({RUNTIME: TypeSnapshot.of([lasting])})
        assert peer.hear() == told
        if not told:
            peer.ask(RUNTIME, "a{e=p,v=1}")
            peer.ack(RUNTIME)
    assert peer.wait(1.0) == [f"3 {RUNTIME} a+{{v=1}}"]
    assert peer.ask(RUNTIME, nonce="2") == []
    assert peer.put(**{RUNTIME: ""}) == [f"4 {RUNTIME} -a{{v=1}}"]


def test_replacement_does_not_wait_for_what_may_refer_to_it() -> None:
    """E3, O2: the name stays; one that goes waits until nothing refers to it."""
    peer = DeltaPeer(CDS=BOTH, LDS="l@1")
    peer.ask("CDS", "a{e=p,v=1}")
    peer.ask("LDS")
    peer.ack("CDS")
    peer.ack("LDS")
    assert peer.put(CDS="a@1{v=1}", LDS="l@2") == ["3 CDS a@1{v=1} -a{e=p}"]
    assert peer.ack("CDS") == ["4 LDS l@2"]
    peer.ack("LDS")
    assert peer.put(CDS="", LDS="l@3") == ["5 LDS l@3"]
    assert peer.ack("LDS") == ["6 CDS -a{v=1}"]


def test_limits_hold_for_locators() -> None:
    """E3, K1: names in them count, and parameters are bounded in number and length."""
    limits = StreamLimits(names=2, parameters=2, parameter_octets=3, parameter_sets=2)
    for kind in (DeltaPeer, SotwPeer):
        kind(limits=limits).ask("SDS", "a{e=p}", "b{e=p,v=123}")
        with pytest.raises(PeerLimitExceeded, match="more than 2 resource names"):
            kind(limits=limits).ask("SDS", "a", "b{}", "c{}")
        with pytest.raises(PeerLimitExceeded, match="more than 2 dynamic parameters of a resource"):
            kind(limits=limits).ask("SDS", "a{e=p,v=1,w=1}")
        for long in ("keys=1", "k=1234"):
            with pytest.raises(PeerLimitExceeded, match="dynamic parameter longer than 3 octets"):
                kind(limits=limits).ask("SDS", f"a{{{long}}}")
    with pytest.raises(PeerLimitExceeded, match="dynamic parameter longer than 3 octets"):
        DeltaPeer(limits=limits).ask("SDS", drop=["a{k=1234}"])
    many = DeltaPeer(limits=StreamLimits(parameter_sets=2))
    many.ask("SDS", "a{e=p}", "b{e=t}")
    many.ask("SDS", "c{e=t}", "b{e=p}", drop=["b{e=t}"])
    many.ask("SDS", "c{e=q}", drop=["c{e=t}"])
    with pytest.raises(PeerLimitExceeded, match="more than 2 sets of dynamic parameters"):
        many.ask("SDS", "d{e=x}")


def test_sets_of_names_that_were_given_up_do_not_count() -> None:
    """E3: only what a client asks for now is bounded."""
    peer = DeltaPeer(limits=StreamLimits(parameter_sets=2))
    for number in range(3):
        assert peer.ask("SDS", f"a{number}{{e={number}}}") != []
        peer.ack("SDS", drop=[f"a{number}{{e={number}}}"])


def test_streams_of_a_node_may_have_different_parameters() -> None:
    """E3: so a caching proxy that has a stream for each set has all variants."""
    one = DeltaPeer(SDS=BOTH, node=NODE)
    two = DeltaPeer(SDS=BOTH, node=NODE, refusals=one.refusals)
    assert one.ask("SDS", "a{e=p}") == ["1 SDS a@1{e=p}"]
    assert two.ask("SDS", "a{e=t}") == ["1 SDS a@2{e=t}"]
