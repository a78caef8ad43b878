"""One response at a time, and the client's answer to it: what SotW and delta have in common.

The rule of this module: for each stream and type, at most one response is in flight. The next
response is made only after the client has ACKed or NACKed the last one, and from the snapshot as it
is by then, so changes that arrive meanwhile merge. A slow client thus gets fewer and larger
responses, a fast one waits for nothing, and no timer is needed.
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
"""Returns a nonce that was never used before on the stream."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The version of a resource that the client has, and since when (server's monotonic clock)."""

    version: Version
    at: float


class Exchange:
    """What the client of one stream has of one type, and the response that awaits its answer.

    Attributes:
        accepted: the versions that the client has, by resource name.
        owed: the names that the client has yet to be told about, whatever version it has; changed
            only by ``owe`` and ``pay``.
        unsettled: the names that a response has to examine, because the client may have to be told
            about them.
        in_flight: the news in the response that awaits its answer: the version of each name, None
            for a removal. The attribute itself is None if no response awaits an answer.
        last_name: the last name that a response covered; the next response continues after it.
        last_nonce: the nonce of the last response, answered or not; empty before the first one.
        sent_at: when that response was sent, in seconds of the server's monotonic clock.
    """

    __slots__ = (
        "_maybe_applied",
        "_refusals",
        "_together",
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
            resource_type: the type.
            refusals: what was refused of this type.
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
        self._together = False
        self._maybe_applied: frozenset[str] = NO_NAMES

    def send(
        self,
        nonce: Nonce,
        versions: Mapping[str, Version | None],
        now: float,
        *,
        turn: Sequence[str] = (),
        things: int | None = None,
    ) -> None:
        """Remember a response as in flight.

        Args:
            nonce: the nonce of the response.
            versions: the news in the response: the version of each name, None for a removal.
            now: seconds of the server's monotonic clock.
            turn: the names that the response was made for, in order.
            things: how many resources and removals these names stand for; None for one each.
        """
        self._together = (len(versions) if things is None else things) > 1
        self._was_owed = self.owed & versions.keys() if self.owed else NO_NAMES
        self.pay(versions)
        self._refusals.answer(versions)
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
        error_detail field". The version in the request decides nothing, because a NACK may carry
        the current one.
        """
        versions = self.in_flight or {}
        was_owed, self._was_owed = self._was_owed, NO_NAMES
        self.in_flight = None
        # What the client asked for meanwhile, this response answered.
        self._refusals.answer(versions)
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
        """Record a NACK; owe the client the names of which it is now unknown what the client has.

        This is unknown of

        - resources that were refused together, because Envoy applies the good clusters and
          listeners of a response that it refuses;
        - a resource that the client had and asked for again, because it may have forgotten it;
        - a resource of which the client refused the very content that it had.
        """
        together = self._together
        had = {
            name
            for name, version in versions.items()
            if version is not None and (together or version == self.has(name))
        }
        self.had(had)
        self.owe(versions if together else was_owed | had)
        for name, version in versions.items():
            applied = name in self._maybe_applied
            self._refusals.note(name, version, error, now, together=together, applied=applied)
            if version is not None and version == self.has(name):
                del self.accepted[name]

    def owe(self, names: Iterable[str]) -> None:
        """Owe the client these names, whatever versions it has."""
        self.owed.update(names)
        self.unsettled.touch(names)

    def pay(self, names: Iterable[str]) -> None:
        """Stop owing the client these names, except where it still lacks what it should have."""
        self.owed.difference_update(names)
        self.unsettled.touch(names)

    def ask(self, names: AbstractSet[str], *, anew: bool) -> None:
        """Owe the client the names that it asks for, as far as ``Refusals.ask`` allows."""
        self.owe(names)
        self._refusals.ask(names, anew=anew)

    def ask_for_all_later(self, error: ErrorDetail, now: float) -> None:
        """Owe the client everything, after a pause, because it refused a response without news.

        Such a client refuses to remove something that it has from an earlier stream; nothing here
        says what that is.
        """
        self._refusals.note(WILDCARD, None, error, now, together=True)
        self.owe({WILDCARD})

    def retain(self, wanted: Callable[[str], bool], among: Iterable[str] | None = None) -> None:
        """Forget everything about names that the client no longer wants.

        Args:
            wanted: tells whether the client wants a name.
            among: the names to examine; None for all.
        """
        if among is None:
            among = {*self.accepted, *self.owed, *self._maybe_applied}
            self._refusals.retain_removals(wanted)
        if not (gone := {name for name in among if not wanted(name)}):
            return
        self.lose(gone)
        self.pay(gone)
        self._maybe_applied = self._maybe_applied.difference(gone)
        self._refusals.answer(gone)
        self._refusals.lift(gone)

    def lose(self, names: Iterable[str]) -> None:
        """Take note that the client no longer has these names."""
        for name in names:
            self.accepted.pop(name, None)
        self.unsettled.touch(names)

    def has(self, name: str) -> Version | None:
        """Return the version that the client has of a name."""
        accepted = self.accepted.get(name)
        return accepted.version if accepted else None

    def had(self, names: Iterable[str]) -> None:
        """Take note that the client may have content of these names that it never ACKed here."""
        self._maybe_applied = self._maybe_applied.union(names)

    def may_have(self, name: str) -> bool:
        """Tell whether the client has content of a name, or may have some (``had``)."""
        return name in self.accepted or name in self._maybe_applied

    def refresh(self, names: AbstractSet[str], there: Container[str]) -> bool:
        """Owe the client these names again, as far as it has them or is about to have them.

        The client itself asks for a resource that exists and that it lacks. If a name neither
        exists nor is known to the client, the client may know the resource by another name, so it
        is owed everything that it has.

        Args:
            names: what the client waits for, as far as the server can tell.
            there: the names that exist.

        Returns:
            Whether each of the names exists or is known to the client.
        """
        known = {name for name in names if self._knows(name)}
        is_clear = all(name in there for name in names - known)
        self.owe(known if is_clear else self.known())
        return is_clear

    def _knows(self, name: str) -> bool:
        in_flight = self.in_flight or {}
        return in_flight[name] is not None if name in in_flight else name in self.accepted

    def known(self) -> set[str]:
        """Return the names of which the client has content, or is about to have it."""
        versions = {**dict.fromkeys(self.accepted, True), **(self.in_flight or {})}
        return {name for name, version in versions.items() if version is not None}

    def known_in(self, globs: AbstractSet[str]) -> set[str]:
        """Return the known names that belong to one of these glob collections."""
        return {name for name in self.known() if collection_of(name) in globs} if globs else set()

    def may_send(self, name: str, version: Version | None, now: float) -> bool:
        """Tell whether this content may be sent: it was never refused, or long enough ago."""
        return not self._refusals.holds_back(name, version, now)

    def is_asked_anew(self, name: str) -> bool:
        """Tell whether the client asked for a name since it refused what it was told of it."""
        return self._refusals.is_asked_anew(name)

    def was_refused(self, names: Container[str]) -> bool:
        """Tell whether the node refused any of these names, or may have applied refused content."""
        return self._refusals.leave_open(names)

    def forget_gone(self, there: Callable[[str], bool]) -> None:
        """Forget the refusals of names that are gone and of which the client has nothing."""
        if self._refusals.has_content():
            kept = self.owed | (self.in_flight or {}).keys()
            self._refusals.retain_content(lambda n: there(n) or n in kept or self.may_have(n))

    def is_left_open(self) -> bool:
        """Tell whether the client may have content that it never ACKed."""
        return bool(self._maybe_applied)

    def next_retry(self, now: float) -> float | None:
        """Return the next moment at which refused content may be sent again."""
        return self._refusals.next_retry(now)

    def was_refused_so(self, name: str, version: Version | None) -> bool:
        """Tell whether the last refusal of this name was of this very content."""
        return self._refusals.concerns(name, version)
