"""Secrets in a plan: what is there, what is on its way, what is known by its version only."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from control_plane.planner import NAME_TABLE_TYPE, Planner, PlanOptions
from control_plane.planner.ports import ID_SECRET, VALIDATION_SECRET
from control_plane.xds.resource import Resource, Version
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET
from control_plane.xds.snapshot import Snapshot
from tests.unit.planner import worlds

C2C_SECRET = "c2c-cert-and-key"
HELD = Resource.of(SECRET, C2C_SECRET, b"certificate and key")


def test_secrets_are_what_is_at_hand() -> None:
    """Content is delivered, a bare version stands for content that is gone, None is awaited."""
    snapshot = worlds.plan(
        worlds.story(),
        secrets={C2C_SECRET: HELD, "known": Version("1234"), ID_SECRET: None},
    ).of_type(SECRET)

    assert snapshot.resources == {C2C_SECRET: HELD}
    assert snapshot.recorded == {"known": "1234"}
    assert snapshot.pending == {ID_SECRET}


def test_routers_are_known_by_their_ca_and_names() -> None:
    """The validation context has the operator's CA and the names that a router has to show."""
    options = PlanOptions(router_ca_pem=b"PEM", router_sans=("gorouter.example", "ssh.example"))
    snapshot = worlds.plan(worlds.story(), options=options, secrets={C2C_SECRET: HELD})
    secrets = snapshot.of_type(SECRET).resources

    assert set(secrets) == {C2C_SECRET, VALIDATION_SECRET}
    context = secret_pb2.Secret.FromString(secrets[VALIDATION_SECRET].body).validation_context
    assert context.trusted_ca.inline_bytes == b"PEM"
    assert [each.matcher.exact for each in context.match_typed_subject_alt_names] == [
        "gorouter.example",
        "ssh.example",
    ]


def test_without_routers_there_is_no_validation_context() -> None:
    """Nothing refers to it then."""
    assert not worlds.plan(worlds.story()).of_type(SECRET).resources


def test_a_removed_instance_keeps_only_what_drains() -> None:
    """No port, no cluster, no name; what it has of the rest is neither sent nor withdrawn."""
    planner = Planner(PlanOptions())
    state = worlds.route(worlds.policy(worlds.story(), "a", "b"), "b", "api")
    snapshot = worlds.plan(state, planner=planner, secrets={C2C_SECRET: HELD})

    farewell = planner.farewell(snapshot)

    for type_url in (LISTENER, CLUSTER, NAME_TABLE_TYPE):
        assert snapshot.of_type(type_url).resources
        assert not farewell.of_type(type_url).resources
    for type_url in (SECRET, EXTENSION_CONFIG):
        assert not farewell.of_type(type_url).resources
        assert snapshot.of_type(type_url).resources.keys() <= farewell.of_type(type_url).pending


def test_a_removed_instance_of_which_nothing_is_known_is_given_nothing() -> None:
    """No content at all, and no word of its secrets."""
    farewell = Planner(PlanOptions()).farewell(Snapshot())

    assert not any(each.resources or each.recorded for each in farewell.types.values())
    assert farewell.of_type(SECRET).pending == {C2C_SECRET, ID_SECRET, VALIDATION_SECRET}
