"""Which names an instance may resolve, and to which addresses they lead."""

from __future__ import annotations

import gc
import weakref

import pytest

from control_plane.api.v1 import name_table_pb2
from control_plane.model.entities import InstanceStatus
from control_plane.names import Domain, Hostname, InstanceGuid
from control_plane.planner import NAME_TABLE, NAME_TABLE_TYPE, Planner, PlanOptions
from control_plane.planner import names as tables
from tests.unit.planner import worlds


def test_an_app_sees_its_own_names_and_those_that_its_policies_reach() -> None:
    """Scope: a's policy to b shows b's routes to a, and never a's to b."""
    state = worlds.route(worlds.route(worlds.story(), "a", "web"), "b", "api")
    assert set(worlds.names(worlds.plan(state, "a0"))) == {
        "web.apps.internal",
        "0.web.apps.internal",
    }

    state = worlds.policy(state, "a", "b", "8080", protocol="udp")

    assert set(worlds.names(worlds.plan(state, "a0"))) == {
        "web.apps.internal",
        "0.web.apps.internal",
        "api.apps.internal",
        "0.api.apps.internal",
        "1.api.apps.internal",
    }
    assert "web.apps.internal" not in worlds.names(worlds.plan(state, "b0"))


def test_a_name_leads_to_every_instance_and_an_indexed_name_to_one() -> None:
    """All addresses of a route's instances, sorted; ``1.api`` is the instance with index 1."""
    names = worlds.names(worlds.plan(worlds.route(worlds.story(), "b", "api")))

    assert names == {
        "api.apps.internal": ["10.0.1.1", "10.0.1.2"],
        "0.api.apps.internal": ["10.0.1.1"],
        "1.api.apps.internal": ["10.0.1.2"],
    }


def test_a_name_leads_to_no_instance_that_is_not_certified_for_it() -> None:
    """Make before break: whoever calls by it would refuse the certificate; others are not left out.

    A name to which no instance can answer yet is not there at all.
    """
    state = worlds.route(worlds.route(worlds.story(), "b", "api"), "b", "old")
    new, b0, b1 = (Hostname("api.apps.internal"), *map(InstanceGuid, ("b0", "b1")))

    some = worlds.names(worlds.plan(state, uncertified=lambda _: {b0: {new}}))
    none = worlds.names(worlds.plan(state, uncertified=lambda _: {b0: {new}, b1: {new}}))

    old = {
        "old.apps.internal": ["10.0.1.1", "10.0.1.2"],
        "0.old.apps.internal": ["10.0.1.1"],
        "1.old.apps.internal": ["10.0.1.2"],
    }
    assert none == old
    assert some == {
        **old,
        "api.apps.internal": ["10.0.1.2"],
        "1.api.apps.internal": ["10.0.1.2"],
    }


def test_apps_may_share_a_route() -> None:
    """The name leads to the instances of both, for an app that may reach both."""
    state = worlds.route(worlds.route(worlds.story(), "a", "api"), "b", "api")
    state = worlds.policy(state, "a", "b")

    names = worlds.names(worlds.plan(state, "a0"))

    assert names["api.apps.internal"] == ["10.0.0.1", "10.0.1.1", "10.0.1.2"]
    assert names["0.api.apps.internal"] == ["10.0.0.1", "10.0.1.1"]


def test_names_and_addresses_are_in_order() -> None:
    """Same content, same bytes: on each replica, whichever route, instance or app came first."""
    state = worlds.policy(worlds.route(worlds.story(), "b", "alone"), "a", "b")
    state = worlds.route(worlds.route(state, "a", "shared"), "b", "shared")
    for number in range(2, 10):
        state = worlds.instance(state, f"b{number}", f"10.0.{9 - number}.9")

    names = worlds.names(worlds.plan(state, "a0"))

    assert list(names) == sorted(names)
    for host in ("alone", "shared"):
        addresses = names[f"{host}.apps.internal"]
        assert addresses == sorted(addresses)
        assert len(addresses) >= 10


@pytest.mark.parametrize("status", list(InstanceStatus), ids=str)
def test_a_name_leads_only_to_ready_instances(status: InstanceStatus) -> None:
    """Connected is not enough, the app has to listen."""
    state = worlds.route(worlds.story(), "b", "api")
    state = worlds.instance(state, "b2", "10.0.1.3", status=status)

    names = worlds.names(worlds.plan(state))

    is_listed = "10.0.1.3" in names["api.apps.internal"]
    assert is_listed == (status is InstanceStatus.READY)
    assert ("2.api.apps.internal" in names) == is_listed


def test_a_name_that_is_held_back_is_not_resolved() -> None:
    """Whether a certificate has the name is known elsewhere; until then the table lacks it."""
    state = worlds.route(worlds.route(worlds.story(), "b", "api"), "b", "old")

    names = worlds.names(worlds.plan(state, published=worlds.only(b=["old"])))

    assert set(names) == {"old.apps.internal", "0.old.apps.internal", "1.old.apps.internal"}


def test_an_indexed_name_that_is_too_long_is_left_out() -> None:
    """253 octets are the limit of a name (RFC 1035, section 2.3.4), here as in certificates."""
    domain = Domain(".".join(["d" * 63, "e" * 63, "f" * 63]))
    host = "h" * (253 - 1 - len(domain))
    shorter = host[len("0.") :]
    state = worlds.story()

    def published(_: object) -> list[Hostname]:
        return [Hostname(f"{host}.{domain}"), Hostname(f"{shorter}.{domain}")]

    snapshot = worlds.plan(
        state, options=PlanOptions(internal_domains=(domain,)), published=published
    )

    assert set(worlds.names(snapshot)) == {
        f"{host}.{domain}",
        f"{shorter}.{domain}",
        f"0.{shorter}.{domain}",
        f"1.{shorter}.{domain}",
    }


def test_the_table_names_the_domains_that_are_answered_from_it() -> None:
    """No question about a name below them may leave the sidecar."""
    options = PlanOptions(internal_domains=(Domain("apps.internal"), Domain("mesh.example")))
    resource = worlds.plan(worlds.story(), options=options).of_type(NAME_TABLE_TYPE)

    table = name_table_pb2.NameTable.FromString(resource.resources[NAME_TABLE].body)

    assert list(table.domains) == ["apps.internal", "mesh.example"]


def test_a_route_under_a_former_domain_is_not_resolved() -> None:
    """A sidecar refuses a table with a name outside its domains, and would lose all other names."""
    state = worlds.route(worlds.story(), "b", "api")

    options = PlanOptions(internal_domains=(Domain("mesh.example"),))
    routes = [Hostname("api.apps.internal"), Hostname("api.mesh.example")]
    snapshot = worlds.plan(state, options=options, published=lambda _: routes)

    assert set(worlds.names(snapshot)) == {
        "api.mesh.example",
        "0.api.mesh.example",
        "1.api.mesh.example",
    }


def test_instances_of_an_app_share_their_table() -> None:
    """It is built once, also for the next change that leaves it as it is."""
    planner, state = Planner(PlanOptions()), worlds.route(worlds.story(), "b", "api")

    tables = [
        worlds.plan(each, name, planner=planner).of_type(NAME_TABLE_TYPE).resources[NAME_TABLE]
        for each in (state, worlds.app(state, "c"))
        for name in ("b0", "b1")
    ]

    assert all(table is tables[0] for table in tables)


def test_a_table_of_the_past_is_forgotten() -> None:
    """Instances come and go all the time, and each time another table has all the names."""
    planner, state = Planner(PlanOptions()), worlds.route(worlds.story(), "b", "api")
    before = weakref.ref(worlds.plan(state, planner=planner).of_type(NAME_TABLE_TYPE))

    worlds.plan(worlds.instance(state, "b2", "10.0.1.3"), planner=planner)
    gc.collect()

    assert before() is None


def test_so_many_tables_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many apps there are; what is needed again is made again."""
    monkeypatch.setattr(tables, "_REMEMBERED", 2)
    planner, state = Planner(PlanOptions()), worlds.story()
    for name in "cde":
        state = worlds.instance(worlds.app(state, name), f"{name}0", f"10.0.2.{ord(name)}")

    remembered = []
    for name in ("a0", "b0", "c0", "d0", "e0"):
        worlds.plan(state, name, planner=planner)
        remembered.append("".join(planner._names._remembered))

    assert remembered == ["a", "ab", "c", "cd", "e"]
