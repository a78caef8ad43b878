"""Make before break: in which order the types of one stream are served."""

from __future__ import annotations

import pytest

from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LB_ENDPOINT
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from tests.unit.xds.peers import DeltaPeer, SotwPeer

VARIANTS = pytest.mark.parametrize("variant", [SotwPeer, DeltaPeer])
Variant = type[SotwPeer | DeltaPeer]


def connected(variant: Variant, *, cds: str, lds: str) -> SotwPeer | DeltaPeer:
    """Return a client that has accepted all clusters and listeners."""
    peer = variant(CDS=cds, LDS=lds)
    peer.take("CDS")
    peer.take("LDS")
    assert peer.stream.in_step(peer.snapshot)
    return peer


def warm(variant: Variant, *names: str, cds: str, eds: str) -> SotwPeer | DeltaPeer:
    """Return a client that has accepted all clusters, and endpoints of these names."""
    peer = variant(CDS=cds, EDS=eds)
    peer.take("CDS")
    peer.ask("EDS", *names)
    peer.ack("EDS")
    return peer


@VARIANTS
def test_clusters_leave_before_listeners(variant: Variant) -> None:
    """O1, O6: a listener is sent only after the client answered for the clusters of that change."""
    peer = connected(variant, cds="c@1", lds="l@1")
    assert peer.put(CDS="c@2", LDS="l@2") == ["3 CDS c@2"]
    assert peer.ack("CDS") == ["4 LDS l@2"]
    assert peer.ack("LDS") == []


@VARIANTS
def test_listeners_wait_for_clusters_in_flight(variant: Variant) -> None:
    """O6: also if they were asked for, or changed, only after the clusters left."""
    peer = variant(CDS="c@1", LDS="l@1")
    assert peer.ask("CDS") == ["1 CDS c@1"]
    assert peer.ask("LDS") == []
    assert peer.put(LDS="l@2") == []
    assert peer.ack("CDS") == ["2 LDS l@2"]


@VARIANTS
def test_request_that_answers_nothing_lets_no_listener_go(variant: Variant) -> None:
    """O6: the client may say something else before it answers for the clusters."""
    peer = connected(variant, cds="c@1", lds="l@1")
    assert peer.put(CDS="c@2", LDS="l@2") == ["3 CDS c@2"]
    assert peer.ask("CDS", nonce="") == []
    assert peer.ack("CDS") == ["4 LDS l@2"]


@VARIANTS
def test_port_is_added_cluster_first(variant: Variant) -> None:
    """O1: cluster, then listener."""
    peer = connected(variant, cds="", lds="")
    assert [line[2:] for line in peer.put(CDS="c@1", LDS="l@1")] == ["CDS c@1"]
    assert [line[2:] for line in peer.ack("CDS")] == ["LDS l@1"]


def test_port_is_removed_listener_first() -> None:
    """O1: listener, then cluster."""
    peer = connected(DeltaPeer, cds="c@1 d@1", lds="l@1 m@1")
    assert peer.put(CDS="c@1", LDS="l@1") == ["3 LDS -m"]
    assert peer.ack("LDS") == ["4 CDS -d"]
    assert peer.ack("CDS") == []


def test_port_is_removed_listener_first_also_as_complete_state() -> None:
    """O1, R3: a response that is due meanwhile still has the cluster."""
    peer = connected(SotwPeer, cds="c@1 d@1", lds="l@1 m@1")
    assert peer.put(CDS="c@1", LDS="l@1") == ["3 LDS l@1"]
    assert peer.put(CDS="c@2", LDS="l@1") == ["4 CDS c@2 d@1"]
    assert peer.ack("LDS") == []
    assert peer.ack("CDS") == ["5 CDS c@2"]
    assert peer.ack("CDS") == []


@VARIANTS
def test_alias_passes_on_before_the_cluster_goes_that_had_it(variant: Variant) -> None:
    """O1, R3: two that share an alias for a while are no reason to end the stream."""
    peer = connected(variant, cds="c@1|x", lds="l@c")
    peer.put(CDS="d@1|x", LDS="l@d")
    told = [*peer.ack("CDS"), *peer.ack("LDS"), *peer.ack("CDS")]
    last = "CDS d@1" if variant is SotwPeer else "CDS -c"
    assert [line[2:] for line in told] == ["LDS l@d", last]


@VARIANTS
def test_listener_moves_from_one_cluster_to_another(variant: Variant) -> None:
    """O1: the new cluster comes first and the old one goes last."""
    peer = connected(variant, cds="c@1", lds="l@c")
    peer.put(CDS="d@1", LDS="l@d")
    told = [*peer.ack("CDS"), *peer.ack("LDS"), *peer.ack("CDS")]
    last = "CDS d@1" if variant is SotwPeer else "CDS -c"
    assert [line[2:] for line in told] == ["LDS l@d", last]


def test_nothing_is_withdrawn_as_long_as_a_listener_is_refused() -> None:
    """O1: the listener before it, which the client goes on using, may need what would go."""
    peer = connected(DeltaPeer, cds="c@1", lds="l@c")
    assert peer.put(CDS="d@1", LDS="l@d") == ["3 CDS d@1"]
    assert peer.ack("CDS") == ["4 LDS l@d"]
    assert peer.nack("LDS") == []
    assert peer.wait(1) == ["5 LDS l@d"]
    assert peer.ack("LDS") == ["6 CDS -c"]


def test_nothing_is_withdrawn_as_long_as_a_listener_is_refused_as_complete_state() -> None:
    """O1, R3: and a response that is due meanwhile has what would go."""
    peer = connected(SotwPeer, cds="c@1", lds="l@c")
    assert peer.put(CDS="d@1", LDS="l@d") == ["3 CDS c@1 d@1"]
    peer.ack("CDS")
    assert peer.nack("LDS") == []
    assert peer.put(CDS="d@2") == ["5 CDS c@1 d@2"]
    assert peer.ack("CDS") == []
    assert peer.wait(1) == ["6 LDS l@d"]
    assert peer.ack("LDS") == ["7 CDS d@2"]
    assert peer.ack("CDS") == []


@VARIANTS
def test_refused_cluster_does_not_keep_the_listeners_waiting(variant: Variant) -> None:
    """O6: a NACK is an answer too; the cluster is retried and the rest goes on."""
    peer = connected(variant, cds="c@1", lds="l@1")
    assert [line[2:] for line in peer.put(CDS="c@2", LDS="l@2")] == ["CDS c@2"]
    assert [line[2:] for line in peer.nack("CDS")] == ["LDS l@2"]


@VARIANTS
def test_cluster_that_was_refused_and_is_gone_is_not_sent_again(variant: Variant) -> None:
    """O1: what is kept for the listeners is what the client has, and not what it never took."""
    peer = connected(variant, cds="c@1", lds="l@1")
    peer.put(CDS="b@1 c@1")
    peer.nack("CDS")
    assert [line[2:] for line in peer.put(CDS="c@1", LDS="l@2")] == ["LDS l@2"]
    assert peer.wait(10) == []
    assert peer.ack("LDS") == []
    assert peer.wait(1e6) == []


def test_what_an_earlier_stream_refused_keeps_no_answer_waiting() -> None:
    """W7, C1: a client that reconnects says what it has, so nobody can be using the rest."""
    before = DeltaPeer(EDS="c@1")
    before.ask("EDS", "c")
    before.nack("EDS")
    peer = DeltaPeer(refusals=before.refusals, RDS="r@1")
    peer.ask("RDS", "r")
    peer.nack("RDS")
    assert peer.ask("EDS", "c") == ["2 EDS -c"]
    assert peer.ack("EDS") == []


@VARIANTS
def test_clusters_that_were_refused_among_others_stay_too(variant: Variant) -> None:
    """O1, A14: the client may have applied them, and its listeners may use them."""
    peer = connected(variant, cds="a@1", lds="l@1")
    peer.put(CDS="a@1 b@1 c@1")
    peer.nack("CDS")
    assert [line[2:] for line in peer.put(CDS="a@1", LDS="l@2")] == ["LDS l@2"]
    assert peer.wait(2) == []
    last = "CDS a@1" if variant is SotwPeer else "CDS -b -c"
    assert [line[2:] for line in peer.ack("LDS")] == [last]
    assert peer.ack("CDS") == []


@VARIANTS
def test_cluster_stays_while_a_listener_may_have_been_applied(variant: Variant) -> None:
    """O1, A14: listeners that were refused together and are gone are withdrawn first."""
    peer = connected(variant, cds="c@1", lds="")
    peer.put(LDS="a@1 b@1")
    peer.nack("LDS")
    peer.put(CDS="d@1")
    assert peer.put(LDS="") == []
    (told,) = peer.ack("CDS")
    assert told[2:] == ("LDS" if variant is SotwPeer else "LDS -a -b")
    assert [line[2:] for line in peer.ack("LDS")] == [
        "CDS d@1" if variant is SotwPeer else "CDS -c"
    ]


def test_cluster_stays_while_its_listener_is_made_anew() -> None:
    """O1, W16: the client goes on using what it has."""
    peer = connected(DeltaPeer, cds="c@1", lds="l@1")
    assert peer.put(LDS="?l", CDS="") == []
    assert peer.put(LDS="l@2") == ["3 LDS l@2"]
    assert peer.ack("LDS") == ["4 CDS -c"]


@VARIANTS
def test_type_waits_for_an_answer_that_has_not_left_yet(variant: Variant) -> None:
    """O6: routes wait for listeners also while these wait for something else, and are empty."""
    peer = variant(ECDS="e@1", RDS="r@1")
    assert peer.ask("ECDS", "e") == ["1 ECDS e@1"]
    assert peer.ask("LDS") == []
    assert peer.ask("RDS", "r") == []
    assert peer.hear() == []
    assert peer.ack("ECDS") == ["2 LDS"]
    assert peer.ack("LDS") == ["3 RDS r@1"]


def test_cluster_that_the_client_gave_up_is_not_kept_for_its_listeners() -> None:
    """O1, W2: what is gone from server and client stays gone when the client asks for it again."""
    peer = SotwPeer(CDS="a@1 b@1", LDS="l@1")
    peer.take("CDS", "a", "b")
    peer.take("LDS")
    assert peer.put(CDS="b@1", LDS="l@2") == ["3 LDS l@2"]
    peer.nack("LDS")
    peer.ask("CDS", "b")
    assert peer.ask("CDS", "a", "b") == ["4 CDS b@1"]


def test_client_that_reconnects_keeps_its_clusters_until_its_listeners_let_go() -> None:
    """O1, C1: a cluster that went meanwhile is withdrawn after the listeners that used it."""
    peer = DeltaPeer(CDS="d@1", LDS="l@d")
    assert peer.ask("CDS", has="c@1") == ["1 CDS d@1"]
    assert peer.ask("LDS", has="l@c") == []
    assert peer.ack("CDS") == ["2 LDS l@d"]
    assert peer.ack("LDS") == ["3 CDS -c"]
    assert peer.ack("CDS") == []


def test_cluster_that_a_client_asks_for_and_never_had_is_called_missing_at_once() -> None:
    """W7, O1: to withhold that would protect nobody."""
    peer = connected(DeltaPeer, cds="c@1", lds="l@1")
    peer.put(LDS="l@2")
    assert peer.ask("CDS", "x") == ["4 CDS -x"]


@VARIANTS
def test_endpoints_follow_clusters_and_come_before_listeners(variant: Variant) -> None:
    """O1, O6: clusters, endpoints, listeners, routes."""
    peer = variant(CDS="c@1", EDS="c@1", LDS="l@1", RDS="r@1")
    assert peer.ask("RDS", "r") == ["1 RDS r@1"]
    peer.ask("LDS")
    peer.ask("CDS")
    peer.ask("EDS", "c")
    peer.ack("LDS")
    peer.ack("CDS")
    peer.ack("EDS")
    peer.ack("RDS")
    peer.ack("LDS")
    assert peer.stream.in_step(peer.snapshot)
    told = peer.put(CDS="c@2", EDS="c@2", LDS="l@2", RDS="r@2")
    assert [line.split(" ", 1)[1] for line in told] == ["CDS c@2", "EDS c@2"]
    assert peer.ack("CDS") == []
    for answered, expected in (("EDS", "LDS l@2"), ("LDS", "RDS r@2")):
        assert [line.split(" ", 1)[1] for line in peer.ack(answered)] == [expected]
    assert peer.ack("RDS") == []


@VARIANTS
def test_endpoints_wait_for_no_answer_to_their_cluster(variant: Variant) -> None:
    """O2, O6: Envoy ACKs a cluster once it is warm, and it is warm once its endpoints came."""
    peer = variant(CDS="a@1", EDS="a@1 b@1", LDS="l@1")
    peer.take("CDS")
    peer.take("EDS", "a")
    peer.take("LDS")
    assert [line[2:] for line in peer.put(CDS="a@2 b@1", LDS="l@2")][1:] == ["EDS a@1"]
    peer.ack("EDS")
    names = ("a", "b") if variant is SotwPeer else ("b",)
    assert [line[2:] for line in peer.ask("EDS", *names)] == ["EDS b@1"]
    assert peer.ack("EDS") == []
    assert [line[2:] for line in peer.ack("CDS")] == ["LDS l@2"]


@VARIANTS
def test_routes_wait_for_the_clusters_they_name(variant: Variant) -> None:
    """O5: routes are not warmed, so their clusters have to be in place."""
    peer = variant(CDS="c@1", RDS="r@1")
    peer.ask("CDS")
    peer.ask("RDS", "r")
    peer.ack("CDS")
    peer.ack("RDS")
    assert [line[2:] for line in peer.put(CDS="c@2", RDS="r@2")] == ["CDS c@2"]
    assert [line[2:] for line in peer.ack("CDS")] == ["RDS r@2"]


@VARIANTS
def test_endpoints_are_sent_again_after_their_cluster_changed(variant: Variant) -> None:
    """O2: a cluster that changed warms until it is sent endpoints, also unchanged ones."""
    peer = warm(variant, "c", "d", cds="c@1 d@1", eds="c@1 d@1")
    told = peer.put(CDS="c@2 d@1")
    assert [line[2:] for line in told][1:] == ["EDS c@1"]
    assert [*peer.ack("EDS"), *peer.ack("CDS")] == []


@VARIANTS
def test_endpoints_in_flight_are_sent_again_too(variant: Variant) -> None:
    """O2: what left before the cluster changed warms the cluster before it."""
    peer = variant(CDS="c@1", EDS="c@1")
    peer.take("CDS")
    peer.ask("EDS", "c")
    peer.put(CDS="c@2")
    peer.ack("CDS")
    assert [line[2:] for line in peer.ack("EDS")] == ["EDS c@1"]


@VARIANTS
def test_all_endpoints_are_sent_again_if_it_is_not_known_which(variant: Variant) -> None:
    """O2: a cluster may name its endpoints otherwise than itself."""
    peer = warm(variant, "x", "y", "z", cds="c@1", eds="x@1 y@1")
    assert [line[2:] for line in peer.put(CDS="c@2")] == ["CDS c@2", "EDS x@1 y@1"]


@VARIANTS
def test_endpoints_that_a_cluster_awaits_are_sent_again_and_no_others(variant: Variant) -> None:
    """O2: also where there are others of its name, which may be those of another cluster."""
    peer = warm(variant, "c", "d", "e", cds="c@1 d@1", eds="c@1 d@1 e@1")
    told = [
        Resource.of(CLUSTER, "c", b"c@2", awaits={ENDPOINT: ("d",)}),
        Resource.of(CLUSTER, "d", b"d@2", awaits={ENDPOINT: ()}),
    ]
    peer.snapshot = Snapshot({**peer.snapshot.types, CLUSTER: TypeSnapshot.of(told)})
    assert [line[2:] for line in peer.hear()] == ["CDS c@2 d@2", "EDS d@1"]


def test_endpoints_that_go_with_a_change_of_their_cluster_have_no_others_sent_again() -> None:
    """O2, R6: it is known for which the cluster waits, although they are gone."""
    peer = warm(DeltaPeer, "c", "d", cds="c@1", eds="c@1 d@1")
    assert [line[2:] for line in peer.put(CDS="c@2", EDS="d@1")] == ["CDS c@2", "EDS -c"]


@VARIANTS
def test_a_new_cluster_has_the_endpoints_of_no_other_sent_again(variant: Variant) -> None:
    """O2: the client asks for those of its name by itself, and waits for no others."""
    peer = warm(variant, "c", cds="c@1", eds="c@1")
    told = peer.put(CDS="c@1 d@1", EDS="c@1 d@1")
    assert [line[2:5] for line in told] == ["CDS"]
    names = ("c", "d") if variant is SotwPeer else ("d",)
    assert [line[2:] for line in peer.ask("EDS", *names)] == ["EDS d@1"]
    assert [*peer.ack("EDS"), *peer.ack("CDS")] == []


@VARIANTS
def test_endpoints_of_a_wildcard_are_sent_again(variant: Variant) -> None:
    """O2: so they are where the client asked for all of them."""
    peer = warm(variant, "*", cds="c@1 s@1", eds="c@1")
    assert [line[2:] for line in peer.put(CDS="c@2 s@2")] == ["CDS c@2 s@2", "EDS c@1"]


@VARIANTS
def test_endpoints_are_sent_again_also_where_all_was_well(variant: Variant) -> None:
    """O2: that nothing was owed of them before, and is remembered, does not keep them back."""
    peer = warm(variant, "c", cds="c@1", eds="c@1")
    assert peer.stream.in_step(peer.snapshot)
    assert [line[2:] for line in peer.put(CDS="c@2")] == ["CDS c@2", "EDS c@1"]


IN = "xdstp://a/t/"


def localities(*collections: str) -> SotwPeer | DeltaPeer:
    """Return a client that has endpoints of a cluster in these collections, and in ``b``."""
    peer = warm(DeltaPeer, "c", cds="c@1", eds="c@1")
    peer.put(LEDS=f"{IN}a/1@1 {IN}b/1@1")
    peer.ask("LEDS", *(f"{IN}{each}/*" for each in ("b", *collections)))
    peer.ack("LEDS")
    return peer


def test_endpoints_of_localities_are_sent_again_after_their_cluster() -> None:
    """O2, E4: those of its collections, or that one is empty, and of no other.

    Envoy begins anew with them for a cluster that was updated, and does not ask for them again.
    """
    peer = localities("a", "none")
    collections = tuple(f"{IN}{each}/*" for each in ("a", "none", "new"))
    awaits = {LB_ENDPOINT: collections}
    named = TypeSnapshot.of([Resource.of(ENDPOINT, "c", b"c@2", awaits=awaits)])
    peer.snapshot = Snapshot({**peer.snapshot.types, ENDPOINT: named})
    again = f"LEDS {IN}a/1@1 -{IN}none/*"
    assert [line[2:] for line in peer.hear()] == ["EDS c@2", again]
    assert [*peer.ack("EDS"), *peer.ack("LEDS")] == []

    assert [line[2:] for line in peer.put(CDS="c@2")] == ["CDS c@2", "EDS c@2", again]
    assert [*peer.ack("CDS"), *peer.ack("EDS"), *peer.ack("LEDS")] == []


def test_all_endpoints_of_localities_are_sent_again_if_it_is_not_known_which() -> None:
    """O2, E4: of what is given as bytes nobody knows which collections it names."""
    peer = localities("a", "none")
    told = [line[2:] for line in peer.put(CDS="c@2")]
    assert told == ["CDS c@2", "EDS c@1", f"LEDS {IN}a/1@1 {IN}b/1@1 -{IN}none/*"]
    assert [*peer.ack("CDS"), *peer.ack("EDS"), *peer.ack("LEDS")] == []


@VARIANTS
def test_removal_of_a_cluster_refreshes_nothing(variant: Variant) -> None:
    """O2, R6: nothing warms because another cluster went."""
    peer = warm(variant, "c", cds="c@1 d@1", eds="c@1")
    assert len(peer.put(CDS="c@1")) == 1
    assert peer.ack("CDS") == []


def test_removal_of_the_last_cluster_has_nothing_said_again() -> None:
    """O2, R6: not that there are no endpoints, for there is nothing that warms."""
    peer = warm(DeltaPeer, "*", cds="c@1", eds="")
    assert peer.put(CDS="") == ["3 CDS -c"]
    assert peer.ack("CDS") == []


def test_removal_in_flight_is_not_repeated_because_a_cluster_changed() -> None:
    """O2, R6: endpoints that are being withdrawn are none that a cluster waits for."""
    peer = warm(DeltaPeer, "c", cds="c@1", eds="c@1")
    assert peer.put(EDS="") == ["3 EDS -c"]
    assert peer.put(CDS="c@2") == ["4 CDS c@2"]
    peer.ack("CDS")
    assert peer.ack("EDS") == []


def test_endpoints_follow_after_a_reconnect() -> None:
    """C4: a cluster that changed while the client was away hangs in warming without endpoints."""
    peer = DeltaPeer(CDS="c@2", EDS="c@1")
    assert peer.ask("EDS", "c", has="c@1") == ["1 EDS c@1"]
    assert peer.ask("CDS", has="c@1") == ["2 CDS c@2"]
    assert peer.ack("EDS") == ["3 EDS c@1"]
    assert [*peer.ack("EDS"), *peer.ack("CDS")] == []


@VARIANTS
def test_secret_is_sent_whatever_else_is_in_flight(variant: Variant) -> None:
    """O3: a listener warms until its secret comes, so the secret waits for nothing."""
    peer = variant(CDS="c@1", LDS="l@1", SDS="s@1")
    peer.ask("CDS")
    peer.ask("LDS")
    peer.ack("CDS")
    assert peer.ask("SDS", "s") == ["3 SDS s@1"]
