"""WatchEvents: which watcher is told of which events.

The rule of this module: an event that concerns an app is reported to the watchers of that app, or
of its space; a policy concerns the apps at both of its ends. That a change has arrived everywhere
concerns no app by itself: it is reported to the watchers that were told of the change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from control_plane.api.v1 import inspection_pb2
from control_plane.errors import InvalidArgument
from control_plane.model.apps import find_app
from control_plane.model.spec import DEFAULT_ORG, DEFAULT_SPACE
from control_plane.model.state import State
from control_plane.names import shown
from control_plane.server.api.inspection_values import hexadecimal, timestamp
from control_plane.server.observability.feed import Fact, Kind, Told

_NOT_FOLLOWED = frozenset({Kind.READY, Kind.NOT_READY, Kind.GONE})
"""Kinds that come and go; they are no changes that are followed until they have arrived
everywhere."""


class Wanted:
    """Picks the events that one watcher asked for."""

    def __init__(self, state: State, request: inspection_pb2.WatchEventsRequest) -> None:
        """Read what the watcher asks for.

        Raises:
            InvalidArgument: there is no such kind.
            NotFound: there is no such app.
        """
        self._kinds = _kinds(request.kinds)
        self._concerns = _concerned(state, request)
        self._followed: set[int] = set()

    def has(self, fact: Fact) -> bool:
        """Tell whether the watcher is told of a fact; must be called for each fact, in order."""
        return self._is_ours(fact) and fact.kind in self._kinds

    def _is_ours(self, fact: Fact) -> bool:
        if self._concerns is None:
            return True
        if fact.kind is Kind.SETTLED:
            is_known = fact.revision in self._followed
            self._followed.discard(fact.revision)
            return is_known
        is_ours = self._concerns(fact)
        if is_ours and fact.revision and fact.kind not in _NOT_FOLLOWED:
            self._followed.add(fact.revision)
        return is_ours


def event(told: Told, lost: int) -> inspection_pb2.Event:
    """Return a fact as a message of the API.

    Args:
        told: the fact, and when it happened.
        lost: how many facts were lost before it.
    """
    fact = told.fact
    key = fact.keys.get(fact.app) if fact.app is not None else None
    return inspection_pb2.Event(
        at=timestamp(told.at),
        kind=fact.kind.value,
        sentence=fact.sentence,
        app=key.name if key is not None else "",
        app_guid=fact.app or "",
        space=key.space if key is not None else "",
        org=key.org if key is not None else "",
        instance_guid=fact.instance or "",
        revision=fact.revision,
        type_url=fact.type_url,
        nonce=fact.nonce,
        resources=fact.resources,
        serial=hexadecimal(fact.serial),
        lost=lost,
    )


def _concerned(
    state: State, request: inspection_pb2.WatchEventsRequest
) -> Callable[[Fact], bool] | None:
    """Return a function that tells whether a fact is watched; None if all facts are."""
    if request.app:
        guid = find_app(state, request.app, request.org, request.space).guid
        return lambda fact: guid in (fact.app, fact.source)
    if request.in_space:
        place = (request.org or DEFAULT_ORG, request.space or DEFAULT_SPACE)
        return lambda fact: any(key.place == place for key in fact.keys.values())
    return None


def _kinds(asked: Iterable[str]) -> Collection[Kind]:
    known = {kind.value: kind for kind in Kind}
    for each in asked:
        if each not in known:
            raise InvalidArgument(
                f"unknown kind of event {shown(each)}, known are: {', '.join(known)}",
                field="kinds",
            )
    return frozenset(known[each] for each in asked) or frozenset(Kind)
