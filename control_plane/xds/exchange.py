"""One response at a time, and the answer to it: what SotW and delta have in common.

The rule of this module: one reply is in flight for each stream and type. The next is made only
after the client ACKed or NACKed the last, from the snapshot as it is by then; changes that come
meanwhile merge. A slow client coalesces by itself, a fast one waits for nothing, and no timer is
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from control_plane.xds.events import Acked, Nacked
from control_plane.xds.messages import ErrorDetail
from control_plane.xds.refusal import Refusals
from control_plane.xds.resource import NO_NAMES, WILDCARD, Nonce, Version
from control_plane.xds.resource_type import ResourceType
from control_plane.xds.unsettled import Unsettled
from control_plane.xds.xdstp import collection_of

NonceFactory = Callable[[], Nonce]
"""Gives a nonce that was never given before on the stream."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the client has of one name, and since when, by the server's monotonic clock."""

    version: Version
    at: float


class Exchange:
    """What the client of one stream has of one type, and the response that awaits its answer.

    Attributes:
        accepted: what the client has, by name.
        owed: the names that are sent (or called missing) next, whatever the client has of them;
            changed by ``owe`` and ``pay`` alone.
        unsettled: the names to look at, among which are all whose turn may come.
        in_flight: what the response that awaits its answer told anew, None for a removal; None if
            no response does.
        last_name: the name whose turn was the last.
        last_nonce: the nonce of the last response, answered or not; empty before the first.
        sent_at: when that left, in seconds of the server's monotonic clock.
    """

    __slots__ = (
        "_maybe_applied",
        "_refusals",
        "_refused_removals",
        "_type",
        "_was_owed",
        "accepted",
        "in_flight",
        "last_name",
        "last_nonce",
        "owed",
        "sent_at",
        "unsettled",
    )

    def __init__(self, resource_type: ResourceType, refusals: Refusals) -> None:
        """Start with a client that has nothing.

        Args:
            resource_type: of what type.
            refusals: what content the node refused. Which removals it refused is known to this
                stream alone, since clients make up the names of what does not exist.
        """
        self._type = resource_type
        self._refusals = refusals
        self._refused_removals = Refusals(resource_type)
        self.accepted: dict[str, Accepted] = {}
        self.owed: set[str] = set()
        self.in_flight: Mapping[str, Version | None] | None = None
        self.last_nonce = Nonce("")
        self.sent_at = 0.0
        self.last_name = ""
        self.unsettled = Unsettled()
        self._was_owed: AbstractSet[str] = NO_NAMES
        self._maybe_applied: frozenset[str] = NO_NAMES

    def send(
        self,
        nonce: Nonce,
        versions: Mapping[str, Version | None],
        now: float,
        *,
        turn: Sequence[str] = (),
    ) -> None:
        """Remember a response as in flight.

        Args:
            nonce: what it is known by.
            versions: what it tells anew, None for a removal.
            now: seconds of the server's monotonic clock.
            turn: the names whose turn it was.
        """
        self._was_owed = self.owed & versions.keys() if self.owed else NO_NAMES
        self.pay(versions)
        self.last_name = turn[-1] if turn else self.last_name
        self.in_flight = versions
        self.last_nonce = nonce
        self.sent_at = now

    def answered(self, nonce: str) -> bool:
        """Tell whether a request with this nonce answers the response in flight.

        "The response_nonce field tells the server which of its responses the ACK or NACK is
        associated with."
        """
        return self.in_flight is not None and nonce == self.last_nonce

    def settle(self, error: ErrorDetail | None, now: float) -> Acked | Nacked:
        """Take the client's answer to the response in flight.

        "NACK signifies unsuccessful configuration and is indicated by the presence of the
        error_detail field": versions say nothing, since a NACK may carry the current one.
        """
        versions = self.in_flight or {}
        was_owed, self._was_owed = self._was_owed, NO_NAMES
        self.in_flight = None
        self.unsettled.touch(versions)
        if error is not None:
            self._refuse(versions, was_owed, error, now)
            return Nacked(self._type.url, self.last_nonce, versions, error)
        self._refused_removals.clear(WILDCARD)
        if self._maybe_applied:
            self._maybe_applied = self._maybe_applied.difference(versions)
        for name, version in versions.items():
            self._refusals.clear(name)
            self._refused_removals.clear(name)
            if version is None:
                self.accepted.pop(name, None)
            else:
                self.accepted[name] = Accepted(version, now)
        return Acked(self._type.url, self.last_nonce, versions)

    def _refuse(
        self,
        versions: Mapping[str, Version | None],
        was_owed: AbstractSet[str],
        error: ErrorDetail,
        now: float,
    ) -> None:
        """Note a refusal; where it leaves open what the client has, it is owed the next content.

        Envoy applies the good clusters and listeners of a response that it refuses, what was asked
        for again may have been forgotten, and what it had it may have still.
        """
        together = len(versions) > 1
        self.had(
            name
            for name, version in versions.items()
            if version is not None and (together or version == self.has(name))
        )
        self.owe(versions if together else was_owed)
        for name, version in versions.items():
            applied = name in self._maybe_applied
            self._against(version).note(
                name, version, error, now, together=together, applied=applied
            )
            if version is not None and version == self.has(name):
                del self.accepted[name]

    def owe(self, names: Iterable[str]) -> None:
        """Owe the client these, whatever it has of them."""
        self.owed.update(names)
        self.unsettled.touch(names)

    def pay(self, names: Iterable[str]) -> None:
        """Owe the client these no more, other than by what it has."""
        self.owed.difference_update(names)
        self.unsettled.touch(names)

    def ask(self, names: AbstractSet[str]) -> None:
        """Owe the client what it asks for, and tell it anew of an absence that it refused."""
        self.owe(names)
        self.lift(names)

    def lift(self, names: AbstractSet[str]) -> None:
        """Forget which removals the client refused of what it asks for now; all of them for ``*``.

        A removal that it refuses from now on is refused again.
        """
        for name in names:
            self._refused_removals.clear(name)
        if WILDCARD in names:
            self._refused_removals.retain(lambda _name: False)

    def ask_for_all_later(self, error: ErrorDetail, now: float) -> None:
        """Owe the client everything, after a pause: it refused a response that told it nothing.

        What it has from an earlier stream, and will not let go of, is not known here.
        """
        self._refused_removals.note(WILDCARD, None, error, now, together=True)
        self.owe({WILDCARD})

    def retain(self, wanted: Callable[[str], bool], among: Iterable[str] | None = None) -> None:
        """Forget what concerns names that the client does not want any more.

        Args:
            wanted: tells whether it wants a name.
            among: the names that it may not want any more; None if that is not known.
        """
        if among is None:
            among = {*self.accepted, *self.owed, *self._maybe_applied}
            self._refused_removals.retain(wanted)
        if not (gone := {name for name in among if not wanted(name)}):
            return
        self.lose(gone)
        self.pay(gone)
        self._maybe_applied = self._maybe_applied.difference(gone)
        for name in gone:
            self._refused_removals.clear(name)

    def lose(self, names: Iterable[str]) -> None:
        """Take note that the client does not have these any more."""
        for name in names:
            self.accepted.pop(name, None)
        self.unsettled.touch(names)

    def has(self, name: str) -> Version | None:
        """Return the version that the client has of a name."""
        accepted = self.accepted.get(name)
        return accepted.version if accepted else None

    def had(self, names: Iterable[str]) -> None:
        """Take note that the client may have content of these from an earlier stream."""
        self._maybe_applied = self._maybe_applied.union(names)

    def may_have(self, name: str) -> bool:
        """Tell whether the client has content of a name, or may have.

        It may have what it refused if that was several at once, or the very content that it had.
        """
        return name in self.accepted or name in self._maybe_applied

    def refresh(self, names: AbstractSet[str], there: Container[str]) -> bool:
        """Owe the client what it has, or soon has, of these names; tell whether it is clear which.

        One that is there it asks for by itself. If another is unknown, any may be meant.
        """
        known = {name for name in names if self._knows(name)}
        is_clear = all(name in there for name in names - known)
        self.owe(known if is_clear else self.known())
        return is_clear

    def _knows(self, name: str) -> bool:
        in_flight = self.in_flight or {}
        return in_flight[name] is not None if name in in_flight else name in self.accepted

    def known(self) -> set[str]:
        """Return the names of which the client has content, or is about to have."""
        versions = {**dict.fromkeys(self.accepted, True), **(self.in_flight or {})}
        return {name for name, version in versions.items() if version is not None}

    def known_in(self, globs: AbstractSet[str]) -> set[str]:
        """Return those of the known names that are in some glob collections."""
        return {name for name in self.known() if collection_of(name) in globs} if globs else set()

    def may_send(self, name: str, version: Version | None, now: float) -> bool:
        """Tell whether the client never refused this content, or did so long enough ago."""
        return not self._against(version).holds_back(name, version, now)

    def was_refused(self, names: Container[str]) -> bool:
        """Tell whether the node refused any of these, or may have what it refused, of any name."""
        return self._refusals.leave_open(names)

    def forget_gone(self, there: Callable[[str], bool]) -> None:
        """Forget what was refused of names that are gone, of which the client has nothing."""
        if not self._refusals.is_empty():
            kept = self.owed | (self.in_flight or {}).keys()
            self._refusals.retain(lambda n: there(n) or n in kept or self.may_have(n))

    def is_left_open(self, names: Iterable[str]) -> bool:
        """Tell whether the client may have what it refused, or refused some of what it should have.

        Args:
            names: what it should have.
        """
        return bool(self._maybe_applied) or self._refusals.concerns_any(names)

    def next_retry(self, now: float) -> float | None:
        """Return the moment at which something that was refused may be sent again."""
        moments = (self._refusals.next_retry(now), self._refused_removals.next_retry(now))
        return min((moment for moment in moments if moment is not None), default=None)

    def was_refused_so(self, name: str, version: Version | None) -> bool:
        """Tell whether this very content was the last that was refused of its name."""
        return self._against(version).concerns(name, version)

    def _against(self, version: Version | None) -> Refusals:
        return self._refused_removals if version is None else self._refusals
