"""Who is told of which fact."""

from __future__ import annotations

from control_plane.api.v1 import inspection_pb2
from control_plane.model.apps import create_app
from control_plane.model.entities import AppKey
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid, AppName
from control_plane.server.api.inspection_events import Wanted
from control_plane.server.observability.feed import Fact, Kind

A = AppGuid("guid-a")
HERE, ELSEWHERE = (AppKey("default", each, AppName("a")) for each in ("default", "dev"))


def wanted(*kinds: str, app: str = "", in_space: bool = False) -> Wanted:
    """Return what picks the facts for a watcher who says no more than this."""
    state = create_app(State(), A, AppSpec("a")).state
    request = inspection_pb2.WatchEventsRequest(app=app, in_space=in_space, kinds=kinds)
    return Wanted(state, request)


def fact(kind: Kind, revision: int, key: AppKey = HERE) -> Fact:
    """Return a fact of an app."""
    return Fact(kind=kind, sentence="", app=A, keys={A: key}, revision=revision)


def settled(revision: int) -> Fact:
    """Return that a change is everywhere."""
    return Fact(kind=Kind.SETTLED, sentence="", revision=revision)


def test_who_wants_only_to_know_that_changes_are_everywhere_is_told_of_no_other() -> None:
    """The change itself need not be of a kind that is asked for, but it has to be of the space."""
    mine = wanted("settled", in_space=True)

    assert not mine.has(fact(Kind.MAPPED, 1))
    assert not mine.has(fact(Kind.MAPPED, 2, ELSEWHERE))
    assert [mine.has(settled(each)) for each in (1, 2, 3)] == [True, False, False]


def test_a_change_that_is_everywhere_is_told_once_and_forgotten() -> None:
    """Also who comes and goes has a revision, and nobody follows that until it is everywhere."""
    for mine in (wanted(in_space=True), wanted(app="a")):
        assert mine.has(fact(Kind.MAPPED, 1))
        assert mine.has(fact(Kind.READY, 2))
        assert [mine.has(settled(each)) for each in (1, 1, 2)] == [True, False, False]
        assert not mine._followed


def test_who_wants_everything_is_told_of_what_is_of_nobody() -> None:
    """So it was before there were watchers of one space."""
    assert wanted().has(settled(7))
    assert wanted().has(Fact(kind=Kind.DISCONNECTED, sentence=""))
    assert not wanted(in_space=True).has(Fact(kind=Kind.DISCONNECTED, sentence=""))
