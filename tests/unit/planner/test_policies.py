"""Who may connect to which port: the sources of a plan follow from policies and instances."""

from __future__ import annotations

from control_plane.model.entities import InstanceStatus
from control_plane.planner import PlanOptions
from control_plane.xds.resource_type import CLUSTER
from tests.unit.planner import worlds

C2C, ID = "listener-8080-61443", "listener-8080-61001"
NOBODY = {"255.255.255.255": "nobody"}
SELF = {"10.0.1.1": "probe"}
UNPROXIED = PlanOptions(unproxied=True)


def test_nobody_may_connect_by_default() -> None:
    """Without a policy only the instance itself may look at its certificate, and at nothing else.

    The listener has to have a chain: one that no address matches.
    """
    snapshot = worlds.plan(worlds.story())

    assert worlds.chains(snapshot, C2C) == SELF
    assert worlds.chains(snapshot, ID) == NOBODY
    assert worlds.requesters(snapshot) == {}


def test_a_policy_opens_the_port_that_it_names() -> None:
    """61443 and nothing else, on the listener and in its HTTP filter, in one direction."""
    state = worlds.policy(worlds.story(), "a", "b")
    snapshot = worlds.plan(state)

    assert worlds.chains(snapshot, C2C) == {"10.0.0.1": "from-a", **SELF}
    assert worlds.chains(snapshot, ID) == NOBODY
    assert worlds.requesters(snapshot) == {"allowed-sources-61443-a": {"10.0.0.1"}}
    assert worlds.chains(worlds.plan(state, "a0"), C2C) == {"10.0.0.1": "probe"}


def test_a_range_opens_every_port_in_it() -> None:
    """Both ends belong to the range, and what is outside stays closed."""
    state = worlds.story(ports=(8080, 9090, 9091), ssh=True)
    state = worlds.policy(state, "a", "b", "61001-61003")
    snapshot = worlds.plan(state)

    opened = {
        name for name in worlds.listeners(snapshot) if "10.0.0.1" in worlds.chains(snapshot, name)
    }
    assert opened == {"listener-8080-61001", "listener-9090-61002", "listener-9091-61003"}


def test_every_live_instance_of_the_source_is_admitted() -> None:
    """One that is not ready yet may call; one that is gone may not, its address may be another's.

    All are led to the chain of their app, which stays as it is when they come and go.
    """
    state = worlds.policy(worlds.story(), "a", "b")
    for number, status in enumerate(InstanceStatus, start=1):
        state = worlds.instance(state, f"a{number}", f"10.0.0.1{number}", status=status)

    admitted = ("10.0.0.1", "10.0.0.11", "10.0.0.12", "10.0.0.13")
    assert worlds.chains(worlds.plan(state), C2C) == {**dict.fromkeys(admitted, "from-a"), **SELF}


def test_the_instances_of_an_app_need_a_policy_among_each_other() -> None:
    """A policy from an app to itself admits all its instances, this one too."""
    state = worlds.story()
    assert worlds.chains(worlds.plan(state), C2C) == SELF

    state = worlds.policy(state, "b", "b")

    assert worlds.chains(worlds.plan(state), C2C) == {
        "10.0.1.1": "from-b",
        "10.0.1.2": "from-b",
    }


def test_udp_does_not_open_a_tcp_port() -> None:
    """A udp policy for 61443 leaves the TLS port closed."""
    state = worlds.policy(worlds.story(), "a", "b", protocol="udp")

    assert worlds.chains(worlds.plan(state), C2C) == SELF


def test_the_control_plane_may_look_at_the_certificate_and_at_nothing_else() -> None:
    """On 61443 its addresses are led to a chain without an app, on 61001 nowhere."""
    options = PlanOptions(probers=("10.9.9.9",))
    snapshot = worlds.plan(worlds.story(), options=options)

    assert worlds.chains(snapshot, C2C) == {**SELF, "10.9.9.9": "probe"}
    assert worlds.chains(snapshot, ID) == NOBODY
    assert worlds.requesters(snapshot) == {}


def test_udp_has_a_listener_once_a_policy_names_a_source() -> None:
    """A UDP listener cannot be open to nobody, so without a source there is none."""
    state = worlds.story(ports=(8080, 9090))
    assert "listener-udp-8080" not in worlds.listeners(worlds.plan(state, options=UNPROXIED))

    state = worlds.policy(state, "a", "b", "8080", protocol="udp")
    snapshot = worlds.plan(state, options=UNPROXIED)

    assert worlds.datagram_sources(snapshot, 8080) == {"10.0.0.1"}
    assert set(snapshot.of_type(CLUSTER).resources) == {
        "service-cluster-8080",
        "service-cluster-9090",
        "service-cluster-udp-8080",
    }
    assert "listener-udp-9090" not in worlds.listeners(snapshot)
    assert worlds.chains(snapshot, "listener-8080-8080") == NOBODY
    assert "listener-udp-8080" not in worlds.listeners(worlds.plan(state))
