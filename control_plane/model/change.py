"""What a command did: the new State, the rows to write, and the apps that it concerns.

The rule of this module: cost follows what changed. A Change names the apps whose instances may now
need other resources. No other app is examined, and the store writes only the rows named here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from control_plane.model.entities import Entity, Instance, InstanceStatus, key_of
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid

Result = TypeVar("Result")
LaterResult = TypeVar("LaterResult")


@dataclass(frozen=True, slots=True)
class Change:
    """The difference between two States.

    Attributes:
        puts: entities that are new or have new content.
        drops: entities that are gone.
        apps: every app whose instances may need other resources now.
    """

    puts: tuple[Entity, ...] = ()
    drops: tuple[Entity, ...] = ()
    apps: frozenset[AppGuid] = frozenset()

    def __bool__(self) -> bool:
        """Tell whether anything changed at all."""
        return bool(self.puts or self.drops)


@dataclass(frozen=True, slots=True)
class Decision(Generic[Result]):
    """A command's outcome: the new State, what changed on the way, and the result for the caller.

    If the command changed nothing, ``state`` is the very same object as before.
    """

    state: State
    result: Result
    change: Change = field(default_factory=Change)

    def then(
        self, command: Callable[[State, Result], Decision[LaterResult]]
    ) -> Decision[LaterResult]:
        """Go on with a second command, as one change with the first: both take effect or neither.

        Args:
            command: takes the State and the result of the first command.

        Raises:
            InvalidRequest: the second command is refused; then nothing happened at all.
        """
        later = command(self.state, self.result)
        return Decision(later.state, later.result, merged([self.change, later.change]))


def decide(
    state: State,
    result: Result,
    *,
    puts: Iterable[Entity] = (),
    drops: Iterable[Entity] = (),
    apps: Iterable[AppGuid] = (),
) -> Decision[Result]:
    """Apply drops, then puts, to a State, and return what that changed."""
    change = Change(tuple(puts), tuple(drops), frozenset(apps))
    for entity in change.drops:
        state = state.drop(entity)
    for entity in change.puts:
        state = state.put(entity)
    return Decision(state, result, change)


def removed_instances(state: State, change: Change) -> tuple[Instance, ...]:
    """Return the instances that a change removed; one that still exists was only moved.

    Args:
        state: the State after the change.
        change: the change.
    """
    return tuple(
        each
        for each in change.drops
        if isinstance(each, Instance) and state.instance(each.guid) is None
    )


def departed(state: State, change: Change) -> tuple[InstanceGuid, ...]:
    """Return the instances that a change removed, and those that it made gone.

    Args:
        state: the State after the change.
        change: the change.
    """
    gone = (
        each.guid
        for each in change.puts
        if isinstance(each, Instance) and each.status is InstanceStatus.GONE
    )
    return (*(each.guid for each in removed_instances(state, change)), *gone)


def merged(changes: Iterable[Change]) -> Change:
    """Return the sum of successive Changes: for each entity, what the last of them says of it."""
    puts: dict[Hashable, Entity] = {}
    drops: dict[Hashable, Entity] = {}
    apps: set[AppGuid] = set()
    for change in changes:
        for entity in change.drops:
            key = key_of(entity)
            puts.pop(key, None)
            drops[key] = entity
        for entity in change.puts:
            key = key_of(entity)
            drops.pop(key, None)
            puts[key] = entity
        apps |= change.apps
    return Change(tuple(puts.values()), tuple(drops.values()), frozenset(apps))
