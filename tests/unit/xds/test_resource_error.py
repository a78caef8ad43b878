"""What a stream tells of names that were asked for and are not there, to whom wants to know why."""

from __future__ import annotations

import pytest

from control_plane.xds.messages import Node
from control_plane.xds.refusal import FIRST_PAUSE
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import CLUSTER
from control_plane.xds.snapshot import TypeSnapshot
from tests.unit.xds.peers import DeltaPeer, SotwPeer

NODE = Node("instance-1", client_features=frozenset({"supports-resource-error-unwrapping"}))


def test_delta_name_that_does_not_exist_has_an_error() -> None:
    """E1: beside removed_resources, once, and again when it is asked for again."""
    peer = DeltaPeer(SDS="a@1", node=NODE)
    assert peer.ask("SDS", "a", "x") == ["1 SDS a@1"]
    assert peer.ack("SDS") == ["2 SDS -x ~x"]
    assert peer.ack("SDS") == []
    assert peer.put(SDS="a@2") == ["3 SDS a@2"]
    assert peer.ack("SDS") == []
    assert peer.ask("SDS", "x") == ["4 SDS -x ~x"]


def test_sotw_name_that_does_not_exist_has_an_error() -> None:
    """E1, R4: in a response without any resource, where absence tells nothing; once."""
    peer = SotwPeer(EDS="a@1", node=NODE)
    assert peer.ask("EDS", "a", "x") == ["1 EDS a@1 ~x"]
    assert peer.ack("EDS") == []
    assert peer.put(EDS="a@2") == ["2 EDS a@2"]
    assert peer.ack("EDS") == []
    assert peer.ask("EDS", "a", "x", "y") == ["3 EDS ~y"]
    assert peer.ack("EDS") == []
    assert peer.stream.in_step(peer.snapshot)


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_name_with_an_error_is_sent_once_it_exists(client: type[DeltaPeer | SotwPeer]) -> None:
    """E1, W8: and what is gone after that has an error again, though its content was had before."""
    peer = client(node=NODE)
    peer.take("EDS", "x")
    assert peer.put(EDS="x@1") == ["2 EDS x@1"]
    peer.ack("EDS")
    (gone,) = peer.put(EDS="")
    assert gone.endswith("~x")
    peer.ack("EDS")
    assert peer.put(EDS="x@1") == ["4 EDS x@1"]


def test_complete_state_is_sent_with_an_error() -> None:
    """E1, R3: what is not told to be in error is there, as for a client that hears no errors."""
    peer = SotwPeer(CDS="c@1 d@1", node=NODE)
    assert peer.ask("CDS", "*", "x") == ["1 CDS c@1 d@1 ~x"]
    assert peer.ack("CDS") == []
    assert peer.put(CDS="c@1 d@2") == ["2 CDS c@1 d@2"]


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_name_that_may_not_be_had_has_an_error_that_says_why(
    client: type[DeltaPeer | SotwPeer],
) -> None:
    """E1, E2: PERMISSION_DENIED with the reason; the rest of the stream goes on."""
    peer = client(CDS="-c(secret) d@1", node=NODE)
    (told,) = peer.ask("CDS", "c", "d")
    assert told.startswith("1 CDS d@1")
    assert told.endswith("~c(secret)")
    assert peer.ack("CDS") == []


def test_what_is_there_is_not_denied() -> None:
    """E1: resources and errors are disjoint, so nobody can say both."""
    with pytest.raises(ValueError, match="is there and denied in a snapshot: 'c'"):
        TypeSnapshot.of([Resource.of(CLUSTER, "c", b"")], denied={"c": "secret"})


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_wildcard_has_no_errors(client: type[DeltaPeer | SotwPeer]) -> None:
    """E1: who did not ask for a name is told nothing of it, also when it is gone."""
    peer = client(CDS="c@1 d@1 -e(secret)", node=NODE)
    assert peer.ask("CDS") == ["1 CDS c@1 d@1"]
    peer.ack("CDS")
    (gone,) = peer.put(CDS="c@1 -d(secret)")
    assert "~" not in gone


def test_state_of_the_world_says_nothing_to_who_asked_for_all_of_what_is_gone() -> None:
    """E1, R4: a response without a resource and without an error is none."""
    peer = SotwPeer(EDS="c@1 d@1", node=NODE)
    assert peer.ask("EDS", "*") == ["1 EDS c@1 d@1"]
    peer.ack("EDS")
    assert peer.put(EDS="c@1") == []
    assert peer.stream.in_step(peer.snapshot)


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
@pytest.mark.parametrize("made", ["?s", "=s@1"])
def test_what_is_being_made_has_no_error(client: type[DeltaPeer | SotwPeer], made: str) -> None:
    """E1, W16: it will be there in a moment."""
    peer = client(SDS=made, node=NODE)
    assert peer.ask("SDS", "s") == []
    assert peer.put(SDS="s@2") == ["1 SDS s@2"]


def test_virtual_host_that_is_not_there_is_told_as_such() -> None:
    """E1: it is among the resources, without content, so it has no error."""
    peer = DeltaPeer(RDS="r@1", VHDS="", node=NODE)
    assert peer.ask("VHDS", "r/one") == ["1 VHDS !r/one"]


@pytest.mark.parametrize("client", [DeltaPeer, SotwPeer])
def test_client_that_does_not_say_so_is_told_none(client: type[DeltaPeer | SotwPeer]) -> None:
    """E1, N4: a feature of the node asks for them; Envoy has none by default."""
    peer = client(EDS="-b(secret)")
    assert not any("~" in told for told in peer.ask("EDS", "a", "b"))


def test_feature_may_have_the_prefix_of_the_others() -> None:
    """N4: TP3 gives it without one."""
    feature = "xds.config.supports-resource-error-unwrapping"
    node = Node("instance-1", client_features=frozenset({feature}))
    assert DeltaPeer(node=node).ask("SDS", "x") == ["1 SDS -x ~x"]


def test_error_waits_until_nothing_refers_to_what_is_gone() -> None:
    """E1, O1: the client may drop what it is told is gone, so listeners let go of it first."""
    peer = SotwPeer(CDS="c@1", EDS="c@1", LDS="l@1", node=NODE)
    peer.take("CDS")
    peer.take("EDS", "c")
    peer.take("LDS")
    assert peer.put(EDS="", LDS="l@2") == ["4 LDS l@2"]
    assert peer.ack("LDS") == ["5 EDS ~c"]


def test_error_waits_also_for_a_client_that_comes_back() -> None:
    """E1, O1: what it states to have of a type may be what it asks for."""
    peer = SotwPeer(CDS="c@1", LDS="l@1", node=NODE)
    peer.ask("LDS")
    assert peer.ask("EDS", "c", has="c@1") == []
    assert peer.ack("LDS") == ["2 EDS ~c"]


def test_error_that_was_refused_is_not_told_again_at_once() -> None:
    """E1, A7: like a removal that a delta client refuses."""
    peer = SotwPeer(LDS="l@1", CDS="", node=NODE)
    assert peer.ask("CDS", "x") == ["1 CDS ~x"]
    assert peer.nack("CDS") == []
    assert peer.wait(FIRST_PAUSE) == ["2 CDS ~x"]


def test_what_the_client_must_not_lose_yet_has_no_error() -> None:
    """E1, R3: complete state has it as it was, so it cannot be in error too."""
    peer = SotwPeer(CDS="c@1", LDS="l@1", node=NODE)
    peer.take("CDS", "*")
    peer.take("LDS")
    assert peer.put(CDS="", LDS="l@2") == ["3 LDS l@2"]
    assert peer.ask("CDS", "*", "c") == []
    assert peer.put(CDS="d@1", LDS="l@2") == ["4 CDS c@1 d@1"]
    peer.ack("CDS")
    assert peer.ack("LDS") == ["5 CDS d@1 ~c"]
