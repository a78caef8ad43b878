"""What operators changed, told entity by entity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from control_plane.model.apps import create_app, delete_app, update_app
from control_plane.model.change import Change, Decision, decide
from control_plane.model.entities import InstanceStatus, JoinToken
from control_plane.model.instances import (
    move_instance,
    register_instance,
    remove_instance,
    set_status,
)
from control_plane.model.policies import PolicySpec, add_policies, remove_policies
from control_plane.model.routes import unmap_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.progress import Stage
from control_plane.server.observability.change_log import ChangeLog
from control_plane.server.observability.feed import Fact, Feed, Kind, Watcher
from tests.unit.model.world import A, B, allow, mapping, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock

B0 = InstanceGuid("b0")
Deciding = Callable[[State], Decision[Any]]


def full() -> State:
    """Return a State with one of everything."""
    state = allow(register(world("a", "b"), "b0", B, "10.0.1.1"), A, B)
    return mapping(state, B, "b").state


def told(decision: Decision[Any], before: State) -> tuple[list[Fact], list[dict[str, object]]]:
    """Return the facts and the log lines of one change."""
    feed = Feed(ManualClock())
    log = ChangeLog(before, lambda: 7, feed)
    with feed.watch() as watcher, capture_logs() as lines:
        log.committed(decision.state, decision.change)
        return heard(watcher), [dict(line) for line in lines]


def heard(watcher: Watcher) -> list[Fact]:
    """Return all that a watcher has heard by now."""
    return [fact for fact, _ in watcher._queue]


@pytest.mark.parametrize(
    ("deciding", "kind", "sentence", "event"),
    [
        (
            lambda s: update_app(s, B, AppSpec("b", ssh=True)),
            Kind.UPDATED,
            "app b was updated",
            "app.updated",
        ),
        (lambda s: mapping(s, B, "x"), Kind.MAPPED, "x.apps.internal leads to b", "route.mapped"),
        (
            lambda s: unmap_route(s, B, "b", "apps.internal"),
            Kind.UNMAPPED,
            "b.apps.internal leads to b no more",
            "route.unmapped",
        ),
        (
            lambda s: add_policies(s, [PolicySpec(B, A, "udp", 1000, 2000)]),
            Kind.ALLOWED,
            "udp 1000-2000 from b to a is allowed",
            "policy.added",
        ),
        (
            lambda s: remove_policies(s, [PolicySpec(A, B, "tcp", 61443, 61443)]),
            Kind.FORBIDDEN,
            "tcp 61443 from a to b is not allowed any more",
            "policy.removed",
        ),
        (
            lambda s: register_instance(s, "b1", B, "10.0.1.2"),
            Kind.REGISTERED,
            "b/1 was registered at 10.0.1.2",
            "instance.registered",
        ),
        (
            lambda s: move_instance(s, B0, "10.0.1.9"),
            Kind.MOVED,
            "b/0 moved from 10.0.1.1 to 10.0.1.9",
            "instance.moved",
        ),
        (
            lambda s: remove_instance(s, B0),
            Kind.REMOVED,
            "b/0 was removed",
            "instance.removed",
        ),
    ],
    ids=["update", "map", "unmap", "allow", "forbid", "register", "move", "remove"],
)
def test_each_change_is_a_fact_and_a_line(
    deciding: Deciding, kind: Kind, sentence: str, event: str
) -> None:
    """With the revision that its call was answered with, under one name in the log."""
    (fact,), (line,) = told(deciding(full()), full())

    assert (fact.kind, fact.sentence, fact.revision) == (kind, sentence, 7)
    assert (line["event"], line["revision"], line["log_level"]) == (event, 7, "info")


@pytest.mark.parametrize(
    ("status", "kind", "sentence"),
    [
        (InstanceStatus.READY, Kind.READY, "b/0 is ready"),
        (InstanceStatus.NOT_READY, Kind.NOT_READY, "b/0 is not ready"),
        (InstanceStatus.GONE, Kind.GONE, "b/0 is gone"),
    ],
)
def test_who_comes_and_goes_is_logged_elsewhere(
    status: InstanceStatus, kind: Kind, sentence: str
) -> None:
    """The feed hears of it; the log has it from whoever noticed."""
    (fact,), lines = told(set_status(full(), B0, status), full())

    assert (fact.kind, fact.sentence, fact.instance) == (kind, sentence, B0)
    assert lines == []


def test_what_an_instance_has_beside_its_envoy_is_told_to_nobody() -> None:
    """It is where it was."""
    before = full()
    there = set_status(before, B0, InstanceStatus.REGISTERED, has_sidecar=True, has_resolver=True)

    assert told(there, before) == ([], [])


def test_an_app_is_deleted_with_all_that_it_had() -> None:
    """Each of them is told, by the names that they had."""
    facts, lines = told(delete_app(full(), B), full())

    assert {fact.kind for fact in facts} == {
        Kind.DELETED,
        Kind.REMOVED,
        Kind.UNMAPPED,
        Kind.FORBIDDEN,
    }
    assert len(lines) == len(facts) == 4
    assert "app b was deleted" in [fact.sentence for fact in facts]


def test_a_policy_is_of_both_its_ends() -> None:
    """Each is known as people name it, also when it is gone, and where the source is elsewhere."""
    state = create_app(full(), "c", AppSpec("b", space="dev")).state
    allowed = add_policies(state, [PolicySpec("c", B, "tcp", 61443, 61443)])
    (added,), _ = told(allowed, state)
    gone, _ = told(delete_app(allowed.state, AppGuid("c")), allowed.state)
    removed = next(each for each in gone if each.kind is Kind.FORBIDDEN)

    for fact in (added, removed):
        assert (fact.source, fact.app) == ("c", B)
        assert [fact.keys[each].space for each in (AppGuid("c"), B)] == ["dev", "default"]
    assert added.sentence == "tcp 61443 from b in org default / space dev to b is allowed"


def test_a_new_app_is_created() -> None:
    """It is told apart from one that was updated."""
    before = world("a")
    change = Change(puts=tuple(world("b").all_apps()))
    (fact,), (line,) = told(Decision(world("a", "b"), None, change), before)

    assert (fact.kind, line["event"], line["name"]) == (Kind.CREATED, "app.created", "b")


def test_tokens_are_for_the_audit_log() -> None:
    """Neither the feed nor this log hears of one."""
    token = JoinToken("digest", B, NOON, 1)

    assert told(decide(full(), None, puts=[token]), full()) == ([], [])
    assert told(decide(full().put(token), None, drops=[token]), full()) == ([], [])


def test_a_change_that_is_everywhere_is_told_once() -> None:
    """When it is served, or when the time is up; what is ACKed only has still to be served."""
    feed = Feed(ManualClock())
    log = ChangeLog(State(), lambda: 7, feed)
    with feed.watch() as watcher:
        log.reached(Stage.ACKED, 7, 0.0042, 0)
        log.reached(Stage.SERVED, 7, 0.0123, 0)
        log.reached(Stage.ACKED, 8, 60.0, 2)
        log.reached(Stage.SERVED, 9, 60.0, 1)
        facts = heard(watcher)

    assert [(fact.kind, fact.revision, fact.sentence) for fact in facts] == [
        (Kind.SETTLED, 7, "every instance follows revision 7, after 12 ms"),
        (Kind.SETTLED, 8, "2 instances have not acked revision 8 in time"),
        (Kind.SETTLED, 9, "1 instance has not served revision 9 in time"),
    ]
