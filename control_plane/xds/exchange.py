"""One response at a time, and the answer to it: what SotW and delta have in common.

The rule of this module: one response is in flight for each stream and type. The next is made only
after the client ACKed or NACKed the last, from the snapshot as it is by then; changes that come
meanwhile merge. So a slow client is sent fewer and larger responses, a fast one waits for nothing,
and no timer is needed.
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
        unsettled: the names that a response has to look at, since they may have to be told.
        in_flight: what the response that awaits its answer told anew: the version of each name,
            None for a removal. None if no response awaits one.
        last_name: the name that was told last; the next response goes on after it.
        last_nonce: the nonce of the last response, answered or not; empty before the first.
        sent_at: when that left, in seconds of the server's monotonic clock.
    """

    __slots__ = (
        "_maybe_applied",
        "_refusals",
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
            refusals: what was refused of it.
        """
        self._type = resource_type
        self._refusals = refusals
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
            nonce: its nonce.
            versions: what it tells anew, None for a removal.
            now: seconds of the server's monotonic clock.
            turn: the names that it was made for, in their order.
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
        self._refusals.lift((WILDCARD,))
        if self._maybe_applied:
            self._maybe_applied = self._maybe_applied.difference(versions)
        for name, version in versions.items():
            self._refusals.clear(name)
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
        """Note a refusal, and owe the client whatever comes next of what it may or may not have.

        That is open if several were refused together, since Envoy applies the good clusters and
        listeners of a response that it refuses; of what it had and asked for again, which it may
        have forgotten or not; and if it refused the very content that it had.
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
            self._refusals.note(name, version, error, now, together=together, applied=applied)
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
        """Owe the client what it asks for, even a removal that it refused before."""
        self.owe(names)
        self.lift(names)

    def lift(self, names: AbstractSet[str]) -> None:
        """Forget which removals of these names the client refused; with ``*``, of any name."""
        self._refusals.lift(names)
        if WILDCARD in names:
            self._refusals.retain_removals(lambda _name: False)

    def ask_for_all_later(self, error: ErrorDetail, now: float) -> None:
        """Owe the client everything, after a pause: it refused a response that told it nothing.

        It will not let go of something from an earlier stream, of which nothing is known here.
        """
        self._refusals.note(WILDCARD, None, error, now, together=True)
        self.owe({WILDCARD})

    def retain(self, wanted: Callable[[str], bool], among: Iterable[str] | None = None) -> None:
        """Forget whatever is known of names that the client does not want any more.

        Args:
            wanted: tells whether it wants a name.
            among: the names to look at; None for all.
        """
        if among is None:
            among = {*self.accepted, *self.owed, *self._maybe_applied}
            self._refusals.retain_removals(wanted)
        if not (gone := {name for name in among if not wanted(name)}):
            return
        self.lose(gone)
        self.pay(gone)
        self._maybe_applied = self._maybe_applied.difference(gone)
        self._refusals.lift(gone)

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
        """Take note that the client may have content of these that it never ACKed here."""
        self._maybe_applied = self._maybe_applied.union(names)

    def may_have(self, name: str) -> bool:
        """Tell whether the client has content of a name, or may have some (``had``)."""
        return name in self.accepted or name in self._maybe_applied

    def refresh(self, names: AbstractSet[str], there: Container[str]) -> bool:
        """Owe the client again what it has, or soon has, of these names.

        What exists and it does not have it asks for by itself. If some do not exist, it may know
        what it waits for by other names, so it is owed all that it has.

        Args:
            names: what it waits for, as far as anybody here knows.
            there: the names that exist.

        Returns:
            Whether all of the names are its own or exist.
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
        return not self._refusals.holds_back(name, version, now)

    def was_refused(self, names: Container[str]) -> bool:
        """Tell whether the node refused any of these, or may have applied what it refused."""
        return self._refusals.leave_open(names)

    def forget_gone(self, there: Callable[[str], bool]) -> None:
        """Forget what was refused of names that are gone, and of which the client has nothing."""
        if self._refusals.has_content():
            kept = self.owed | (self.in_flight or {}).keys()
            self._refusals.retain_content(lambda n: there(n) or n in kept or self.may_have(n))

    def is_left_open(self, names: Iterable[str]) -> bool:
        """Tell whether the client may have what it refused, or refused some of what it should have.

        Args:
            names: what it should have.
        """
        return bool(self._maybe_applied) or self._refusals.concerns_any(names)

    def next_retry(self, now: float) -> float | None:
        """Return the moment at which something that was refused may be sent again."""
        return self._refusals.next_retry(now)

    def was_refused_so(self, name: str, version: Version | None) -> bool:
        """Tell whether this very content was the last that was refused of its name."""
        return self._refusals.concerns(name, version)
