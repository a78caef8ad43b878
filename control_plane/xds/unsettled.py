"""Which names a client may have to be told of, so that a response looks at these alone.

The rule of this module: of every name that is not among them it is known that the client has what
it should have. What a name is owed follows from the snapshot, from what the client asks for, and
from what it has. Whoever changes one of these says for which names, so the cost of a response
follows what changed, and not how much there is.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice

from control_plane.xds.resource import Version
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.subscription import stands_for_several


class Unsettled:
    """The names of one type of which one client does not have what it should have, or is owed it.

    Whether it may be sent that now is another question: it may be refused, or not made yet.
    """

    __slots__ = ("_compared", "_ordered", "_touched")

    def __init__(self) -> None:
        """Start before the first look, which is at everything."""
        self._compared: TypeSnapshot | None = None
        self._ordered: list[str] = []
        self._touched: set[str] = set()

    def touch(self, names: Iterable[str]) -> None:
        """Have these looked at next time: what the client has or asks for has changed."""
        if self._compared is not None:
            self._touched.update(names)

    def touch_asked(self, names: Iterable[str]) -> None:
        """Have these looked at next time: the client asks for them, or gave them up."""
        if any(map(stands_for_several, names)):
            self._compared = None
        self.touch(names)

    def look(
        self,
        snapshot: TypeSnapshot,
        whole: Callable[[TypeSnapshot], Iterable[str]],
        among: Callable[[AbstractSet[str]], Iterable[str]],
        is_unsettled: Callable[[str, TypeSnapshot], bool],
    ) -> Sequence[str]:
        """Return the names, sorted.

        Args:
            snapshot: what the node should have of the type.
            whole: returns all names that may be unsettled.
            among: returns which of some names may be.
            is_unsettled: tells whether a name is.
        """
        before, self._compared = self._compared, snapshot
        if before is None:
            self._ordered = sorted(name for name in whole(snapshot) if is_unsettled(name, snapshot))
        else:
            if snapshot is not before:
                self._touched.update(among(snapshot.differs_from(before)))
            if self._touched:
                self._look_again(snapshot, is_unsettled)
        self._touched.clear()
        return self._ordered

    def _look_again(
        self, snapshot: TypeSnapshot, is_unsettled: Callable[[str, TypeSnapshot], bool]
    ) -> None:
        if snapshot.aliases:
            # A client that asks for an alias, or gives one up, may have the resource by its name.
            aliases = self._touched & snapshot.aliases.keys()
            self._touched.update(snapshot.aliases[alias].name for alias in aliases)
        added = []
        for name in self._touched:
            index = bisect_left(self._ordered, name)
            is_listed = index < len(self._ordered) and self._ordered[index] == name
            if is_unsettled(name, snapshot):
                if not is_listed:
                    added.append(name)
            elif is_listed:
                del self._ordered[index]
        if added:
            self._ordered += added
            self._ordered.sort()


def round_from(ordered: Sequence[str], last: str) -> Iterator[str]:
    """Return sorted names round and round, from the one that follows the last.

    A name whose content changes all the time cannot starve the others.
    """
    start = bisect_right(ordered, last)
    return map(ordered.__getitem__, chain(range(start, len(ordered)), range(start)))


def turn_of(
    due: Iterable[tuple[str, Version | None]],
    limit: int,
    was_refused: Callable[[str, Version | None], bool],
) -> dict[str, Version | None]:
    """Return what the next response of limited size tells, of all that is due.

    Content that was refused before has a response of its own, so that another NACK hits nothing
    else.
    """
    turn: dict[str, Version | None] = {}
    for name, version in islice(due, limit):
        if was_refused(name, version):
            return turn or {name: version}
        turn[name] = version
    return turn
