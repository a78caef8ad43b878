"""The names that a client may have to be told about, so that a response looks at these alone.

The rule of this module: for every other name, the client is known to have what it should have. What
the client is owed of a name follows from the snapshot, from what the client asks for, and from what
it has. The code that changes one of these reports the names concerned. So the cost of a response
follows what changed, not how much there is.
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
    """The names of one type for which one client lacks what it should have, or is owed it.

    Whether the content may be sent now is another question: it may be refused, or not made yet.
    """

    __slots__ = ("_compared", "_ordered", "_touched")

    def __init__(self) -> None:
        """Start before the first look, which is at everything."""
        self._compared: TypeSnapshot | None = None
        self._ordered: list[str] = []
        self._touched: set[str] = set()

    def touch(self, names: Iterable[str]) -> None:
        """Have these names looked at next time, because what the client has or asks for changed."""
        if self._compared is not None:
            self._touched.update(names)

    def touch_asked(self, names: Iterable[str]) -> None:
        """Have these names looked at next time, as the client asks for them or gave them up."""
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
        """Return the unsettled names, sorted.

        Args:
            snapshot: what the node should have of the type.
            whole: returns all names that may be unsettled.
            among: returns those of the given names that may be unsettled.
            is_unsettled: tells whether a name is unsettled.
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
            # A client that asks for an alias, or gives it up, may have the resource under its name.
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
    """Return sorted names as a circle that starts after the last name.

    So a name whose content changes all the time cannot starve the others.
    """
    start = bisect_right(ordered, last)
    return map(ordered.__getitem__, chain(range(start, len(ordered)), range(start)))


def turn_of(
    due: Iterable[tuple[str, Version | None]],
    limit: int,
    was_refused: Callable[[str, Version | None], bool],
) -> dict[str, Version | None]:
    """Return what the next response of limited size tells, out of all that is due.

    Content that was refused before gets a response of its own, so that another NACK affects nothing
    else.
    """
    turn: dict[str, Version | None] = {}
    for name, version in islice(due, limit):
        if was_refused(name, version):
            return turn or {name: version}
        turn[name] = version
    return turn
