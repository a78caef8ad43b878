"""The same facts give the same bytes, and what instances share is built once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from control_plane.model.apps import update_app
from control_plane.model.entities import AppProtocol, InstanceStatus
from control_plane.model.instances import move_instance, remove_instance, set_status
from control_plane.model.ports import PortMapping, forwarded
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid, Port
from control_plane.planner import NAME_TABLE_TYPE, Gone, Planner, PlanOptions, names
from control_plane.planner.ports import NOTHING_GONE
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER
from control_plane.xds.snapshot import Snapshot
from tests.unit.model.world import entities_of
from tests.unit.planner import worlds

EVERYTHING = PlanOptions(
    router_ca_pem=b"PEM", router_sans=("router",), unproxied=True, probers=("10.9.9.9",)
)


@pytest.fixture
def busy() -> State:
    """Return a world in which every kind of resource has something in it."""
    state = worlds.story(ports=(8080, 9090), ssh=True)
    state = worlds.instance(state, "a1", "10.0.0.2")
    state = worlds.route(worlds.route(state, "b", "api"), "a", "web")
    state = worlds.policy(worlds.policy(state, "a", "b", "1-65535"), "b", "b")
    return worlds.policy(state, "a", "b", "8080", protocol="udp")


def versions(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """Return every version by type and name."""
    return {
        url: {name: each.version for name, each in content.resources.items()}
        for url, content in snapshot.types.items()
    }


@pytest.mark.parametrize("options", [PlanOptions(), EVERYTHING], ids=["defaults", "everything"])
def test_the_same_facts_give_the_same_versions(busy: State, options: PlanOptions) -> None:
    """Another planner, as after a restart, and a State read back in another order: no difference.

    R3: versions belong to content, so that nothing is sent again that a client has.
    """
    again = State.of(reversed(entities_of(busy)))

    first, second = worlds.plan(busy, options=options), worlds.plan(again, options=options)

    assert versions(first) == versions(second)
    assert first == second


def test_a_change_of_one_fact_changes_only_what_shows_it(busy: State) -> None:
    """A second route changes the name table; listeners, filters and clusters stay as they are."""
    before, after = worlds.plan(busy), worlds.plan(worlds.route(busy, "b", "second"))

    changed = {url for url in before.types if versions(before)[url] != versions(after)[url]}
    assert [url.rpartition(".")[2] for url in changed] == ["NameTable"]


def test_instances_share_clusters_and_filters(busy: State) -> None:
    """One object each for all instances of an app; a listener has its instance's address in it."""
    planner = Planner(EVERYTHING)
    first, second = (worlds.plan(busy, name, planner=planner) for name in ("b0", "b1"))

    for url in (CLUSTER, EXTENSION_CONFIG):
        ours, theirs = first.of_type(url).resources, second.of_type(url).resources
        assert ours
        assert all(ours[name] is theirs[name] for name in ours.keys() | theirs.keys())
    ours, theirs = first.of_type(LISTENER).resources, second.of_type(LISTENER).resources
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is not theirs[name] for name in ours)


def test_what_did_not_change_is_not_built_again(busy: State) -> None:
    """Planning anew for an unrelated change returns the objects of before."""
    planner = Planner(EVERYTHING)
    before = worlds.plan(busy, planner=planner)
    after = worlds.plan(worlds.app(busy, "c"), planner=planner)

    for url, name in itertools.chain.from_iterable(
        ((url, name) for name in content.resources) for url, content in before.types.items()
    ):
        assert before.types[url].resources[name] is after.types[url].resources[name]


def test_what_ports_need_is_found_as_it_was(busy: State) -> None:
    """A new name leaves clusters, listeners and filters the very objects of before."""
    planner = Planner(EVERYTHING)
    before = worlds.plan(busy, planner=planner)
    after = worlds.plan(worlds.route(busy, "b", "second"), planner=planner)

    for url in (CLUSTER, LISTENER, EXTENSION_CONFIG):
        assert after.of_type(url) is before.of_type(url)


def test_what_ports_need_is_kept_once(busy: State) -> None:
    """Whoever keeps the plan before, and the planner, have one object of what is equal in both."""
    planner = Planner(PlanOptions())
    before = worlds.plan(busy, planner=planner)
    changed = set_status(busy, InstanceGuid("b0"), InstanceStatus.NOT_READY).state

    after = worlds.plan(changed, planner=planner)

    for url in (CLUSTER, LISTENER, EXTENSION_CONFIG):
        assert after.types[url] is before.types[url]


def test_whatever_ports_need_something_else_for_is_noticed(busy: State) -> None:
    """A planner that knows the instance plans as a new one does, after each kind of change."""
    planner, b0 = Planner(EVERYTHING), InstanceGuid("b0")
    worlds.plan(busy, planner=planner)
    changed = [
        worlds.policy(busy, "b", "a"),
        worlds.policy(worlds.app(busy, "c"), "c", "b"),
        worlds.instance(busy, "a2", "10.0.0.3"),
        remove_instance(busy, InstanceGuid("a1")).state,
        set_status(busy, b0, InstanceStatus.GONE).state,
        move_instance(busy, b0, "10.0.1.9", "127.0.0.1").state,
        update_app(busy, AppGuid("b"), AppSpec("b", ports=(8080,))).state,
    ]

    for state in (*changed, busy):
        fresh = worlds.plan(state, options=EVERYTHING)
        assert worlds.plan(state, planner=planner) == fresh


def test_ports_that_drain_are_noticed(busy: State) -> None:
    """What an app's ports were is part of a plan for as long as it drains."""
    planner, b0 = Planner(EVERYTHING), busy.instances[InstanceGuid("b0")]
    gone = {PortMapping(Port(7070), Port(61099)): AppProtocol.HTTP1}

    def clusters(ports: Mapping[PortMapping, AppProtocol]) -> set[str]:
        plan = planner.plan(busy, b0, {}, busy.hostnames_of, gone=Gone(ports, frozenset()))
        return set(plan.of_type(CLUSTER).resources)

    usual = clusters({})
    assert clusters(gone) == usual | {"service-cluster-7070"}
    assert clusters({}) == usual


@pytest.mark.parametrize("protocol", [AppProtocol.HTTP1, AppProtocol.HTTP2])
def test_what_drains_keeps_its_protocol_where_bytes_pass_now(protocol: AppProtocol) -> None:
    """The cluster of a tcp app is that of an HTTP app for as long as requests of then may come."""
    planner, b0 = Planner(PlanOptions()), InstanceGuid("b0")
    before, after = worlds.story(protocol=protocol.value), worlds.story(protocol="tcp")
    drains = Gone(forwarded(before.apps[AppGuid("b")]), frozenset())

    def cluster(state: State, gone: Gone) -> object:
        plan = planner.plan(state, state.instances[b0], {}, state.hostnames_of, gone=gone)
        return plan.of_type(CLUSTER).resources["service-cluster-8080"]

    was, becomes = cluster(before, NOTHING_GONE), cluster(after, NOTHING_GONE)
    assert cluster(after, drains) == was != becomes
    assert cluster(before, Gone(forwarded(after.apps[AppGuid("b")]), frozenset())) == was


def test_warming_up_changes_no_plan(busy: State) -> None:
    """What is built before anybody asks is the same as what is built when somebody does."""
    warm = Planner(PlanOptions())
    warm.warm_up()

    for each in busy.all_instances():
        plan = warm.plan(busy, each, {}, busy.hostnames_of)
        assert plan == Planner(PlanOptions()).plan(busy, each, {}, busy.hostnames_of)


def test_what_is_remembered_is_bounded(busy: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that may remember one app's table makes the others anew, and all are right."""
    monkeypatch.setattr(names, "_REMEMBERED", 1)
    planner, published = Planner(PlanOptions()), busy.hostnames_of

    tables = [
        planner.plan(busy, each, {}, published).of_type(NAME_TABLE_TYPE)
        for each in (*busy.all_instances(), *busy.all_instances())
    ]

    fresh = [
        Planner(PlanOptions()).plan(busy, each, {}, published).of_type(NAME_TABLE_TYPE)
        for each in busy.all_instances()
    ]
    assert tables == fresh + fresh
