"""Whatever commands come in whatever order, State is sound and a Change tells the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import InvalidRequest
from control_plane.model.apps import create_app, delete_app
from control_plane.model.change import Change, Decision, merged
from control_plane.model.entities import AppProtocol, Entity, Instance, InstanceStatus, key_of
from control_plane.model.instances import (
    move_instance,
    register_instance,
    remove_instance,
    set_status,
)
from control_plane.model.policies import PolicySpec, add_policies, remove_policies
from control_plane.model.routes import map_route, unmap_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import Address, AppGuid, InstanceGuid
from tests.fuzz.budget import SEQUENCE
from tests.unit.model.world import DOMAINS, entities_of

Command = Callable[[State], Decision[Any]]

GUIDS = [AppGuid(name) for name in "abc"]
APPS = st.sampled_from(GUIDS)
INSTANCES = st.sampled_from([InstanceGuid(f"i{number}") for number in range(4)])
ADDRESSES = st.sampled_from([f"10.0.0.{number}" for number in range(1, 5)])
HOSTS = st.sampled_from(["x", "y"])
PROTOCOLS = st.sampled_from(list(AppProtocol))


def vacate(state: State, place: str, guid: InstanceGuid) -> Decision[Instance | None]:
    """Remove whoever else has an address, as an enrolment does before it registers."""
    holder = state.instance_at(Address(place))
    if holder is None or holder.guid == guid:
        return Decision(state, None)
    return remove_instance(state, holder.guid)


COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        lambda app, protocol: lambda s: create_app(s, app, AppSpec(app, protocol=protocol)),
        APPS,
        PROTOCOLS,
    ),
    st.builds(lambda app: lambda s: delete_app(s, app), APPS),
    st.builds(
        lambda guid, app, place, gone: (
            lambda s: (vacate(s, place, guid) if gone else Decision(s, None)).then(
                lambda left, _: register_instance(left, guid, app, place)
            )
        ),
        INSTANCES,
        APPS,
        ADDRESSES,
        st.booleans(),
    ),
    st.builds(
        lambda guid, place, gone: lambda s: move_instance(s, guid, place, holder_gone=gone),
        INSTANCES,
        ADDRESSES,
        st.booleans(),
    ),
    st.builds(lambda guid: lambda s: remove_instance(s, guid), INSTANCES),
    st.builds(
        lambda guid, status, has: lambda s: set_status(s, guid, status, **has),
        INSTANCES,
        st.sampled_from(list(InstanceStatus)),
        st.fixed_dictionaries({"has_sidecar": st.booleans(), "has_resolver": st.booleans()}),
    ),
    st.builds(
        lambda app, host: lambda s: map_route(s, app, host, "apps.internal", DOMAINS), APPS, HOSTS
    ),
    st.builds(lambda app, host: lambda s: unmap_route(s, app, host, "apps.internal"), APPS, HOSTS),
    st.builds(lambda a, b: lambda s: add_policies(s, [PolicySpec(a, b, "tcp", 1, 2)]), APPS, APPS),
    st.builds(
        lambda a, b: lambda s: remove_policies(s, [PolicySpec(a, b, "tcp", 1, 2)]), APPS, APPS
    ),
)


def view(state: State, app: AppGuid) -> object:
    """Return all that the resources of an app's instances are made from.

    That is the app and its instances, its routes (certificates), who may connect from where
    (listeners), and the routes and addresses of whom it may connect to (name table).
    """
    admitted = [
        (policy.source, policy.start_port, instances(state, policy.source))
        for policy in state.policies_to(app)
    ]
    listed = {app, *(policy.destination for policy in state.policies_from(app))}
    names = {other: (state.hostnames_of(other), instances(state, other)) for other in listed}
    return state.app(app), instances(state, app), state.hostnames_of(app), admitted, names


def instances(state: State, app: AppGuid) -> list[Instance]:
    """Return an app's instances; what they have beside their Envoys shows in no resource."""
    return [
        replace(each, has_sidecar=False, has_resolver=False) for each in state.instances_of(app)
    ]


def rows(state: State) -> dict[object, Entity]:
    """Return what a database would hold."""
    return {key_of(entity): entity for entity in entities_of(state)}


def applied(change: Change, to: dict[object, Entity]) -> dict[object, Entity]:
    """Return the rows after a Change is written."""
    rows = dict(to)
    for entity in change.drops:
        rows.pop(key_of(entity), None)
    for entity in change.puts:
        rows[key_of(entity)] = entity
    return rows


@SEQUENCE
@given(st.lists(COMMANDS, min_size=20, max_size=60))
def test_random_commands_keep_state_and_change_true(commands: list[Command]) -> None:
    """Indexes agree, addresses and indexes are unique, and a Change names every row and app.

    Each command is run a second time: it changes nothing, or is refused.
    """
    first = state = State.of(AppSpec(guid).parse(guid) for guid in GUIDS)
    changes = []
    for command in commands:
        try:
            decision = command(state)
        except InvalidRequest:
            continue
        new, change = decision.state, decision.change

        assert new == State.of(entities_of(new))
        assert (new is state) is not bool(change)
        assert rows(new) == applied(change, rows(state))
        touched = {app for app in GUIDS if view(state, app) != view(new, app)}
        assert touched <= change.apps
        check_uniqueness(new)
        check_references(new)
        assert_repeated(command, new)
        state = new
        changes.append(change)

    assert rows(state) == applied(merged(changes), rows(first))


def assert_repeated(command: Command, state: State) -> None:
    """Run a command once more, which changes nothing."""
    try:
        again = command(state)
    except InvalidRequest:
        return

    assert again.state is state


def check_uniqueness(state: State) -> None:
    """Assert that an address has one instance, and an index one instance of its app."""
    instances = state.all_instances()

    assert len({instance.address for instance in instances}) == len(instances)
    assert len({(instance.app_guid, instance.index) for instance in instances}) == len(instances)


def check_references(state: State) -> None:
    """Assert that nothing refers to an app that is not there."""
    apps = {app.guid for app in state.all_apps()}

    assert {instance.app_guid for instance in state.instances.values()} <= apps
    assert set(state.hostnames_by_app) <= apps
    for policy in state.all_policies():
        assert {policy.source, policy.destination} <= apps
