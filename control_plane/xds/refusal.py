"""What a node refused, and whether it may be sent again.

The rule of this module: a NACK is never answered with the same content at once (go-control-plane's
issue 46 and Istio's issue 21111 are endless loops of that). Refusals are remembered for the node,
not for the stream, because a client that reconnects would refuse the content once more or, worse,
ACK it without applying it. But a refusal belongs to the program that refused: another program at
that node, such as its next release, may accept the content.

A client that asks for a name anew, on a stream on which it asked for the type before, is sent what
it refused, once: "When the client sends a new request that changes the set of resources being
requested, the server must resend any newly requested resources", and in delta it "*must* still
provide those resources in the response" even if the client never gave them up. Such a client starts
from nothing: Envoy names a Secret again only after it dropped all that it knew of it.

A NACK refuses a whole response. If several resources were refused together, it is unknown which one
is bad, so each is tried again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from control_plane.xds.messages import ErrorDetail
from control_plane.xds.resource import NO_NAMES, NOTHING, WILDCARD, TypeUrl, Version
from control_plane.xds.resource_type import AfterNack, ResourceType
from control_plane.xds.xdstp import collection_of

FIRST_PAUSE = 1.0
"""Seconds until refused content is sent for the second time, if its type allows that."""

LONGEST_PAUSE = 60.0
"""Seconds; the pause doubles with every refusal up to this."""

PROGRAMS = 4
"""How many programs of a node have their refusals remembered, besides those that have a stream. The
number is bounded because clients may make up user agents without end."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Content that a node refused; ``version`` is None if it refused a removal.

    Attributes:
        at: when it was refused, in seconds of the server's monotonic clock.
        attempts: how many times in a row this content was refused.
        retry_at: when it may be sent again; None for never.
        applied: whether the node may have applied this content, or content of the same name that it
            refused earlier.
    """

    version: Version | None
    error: ErrorDetail
    at: float
    attempts: int
    retry_at: float | None
    applied: bool = False


class Refusals:
    """What was refused of one type, as far as it concerns one stream.

    Refused content is remembered for the program, whichever stream refused it. Refused removals
    count for this stream alone, because clients make up the names of what does not exist. So does
    what is asked for anew.
    """

    __slots__ = ("_asked_anew", "_by_type", "_removals", "_type")

    def __init__(
        self,
        resource_type: ResourceType,
        by_type: dict[TypeUrl, dict[str, Refusal]] | None = None,
    ) -> None:
        """Start with no removal refused.

        Args:
            resource_type: the type.
            by_type: the refused content, by type and name; None if there is none. A type is listed
                only while some of its content is refused, because clients make up types.
        """
        self._type = resource_type
        self._by_type = {} if by_type is None else by_type
        self._removals: dict[str, Refusal] = {}
        self._asked_anew: frozenset[str] = NO_NAMES

    @property
    def _content(self) -> Mapping[str, Refusal]:
        return self._by_type.get(self._type.url, NOTHING)

    def _against(self, name: str, version: Version | None) -> Refusal | None:
        return (self._removals if version is None else self._content).get(name)

    def get(self, name: str) -> Refusal | None:
        """Return the refusal of this name's content, if there is one."""
        return self._content.get(name)

    def note(
        self,
        name: str,
        version: Version | None,
        error: ErrorDetail,
        now: float,
        *,
        together: bool = False,
        applied: bool = False,
    ) -> None:
        """Remember that the client refused this content.

        Args:
            name: the name of the resource.
            version: the version of the content; None if it was a removal.
            error: what the client said.
            now: seconds of the server's monotonic clock.
            together: whether it was refused among others, so that it may not be the cause. If so,
                it is tried again whatever its type.
            applied: whether the node may have applied the content nevertheless.
        """
        before = self._against(name, version)
        attempts = before.attempts + 1 if before and before.version == version else 1
        retry_at = None
        if together or self._type.after_nack is AfterNack.AFTER_A_WHILE:
            retry_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 10))
        applied = applied or (before is not None and before.applied)
        refused = self._removals
        if version is not None:
            refused = self._by_type.setdefault(self._type.url, {})
        refused[name] = Refusal(version, error, now, attempts, retry_at, applied)

    def clear(self, name: str) -> None:
        """Forget the refusals of a name, because the client accepted what it was told about it."""
        self._removals.pop(name, None)
        self._clear_content(name)

    def lift(self, names: Iterable[str]) -> None:
        """Forget that the client refused to remove these names."""
        for name in names:
            self._removals.pop(name, None)

    def ask(self, names: AbstractSet[str], *, anew: bool) -> None:
        """Hold back nothing for which the client asks.

        Args:
            names: the names that it asks for; ``*`` stands for every name.
            anew: whether it asks by a request that is not the first one of its stream. If it is the
                first one, only removals are no longer held back: a client that reconnects names all
                that it is interested in, and would ACK content that it refused before.
        """
        self.lift(names)
        if WILDCARD in names:
            self._removals.clear()
        if anew and self.has_content():
            everything = self._content.keys() if WILDCARD in names else NO_NAMES
            members = (name for name in self._content if collection_of(name) in names)
            self._asked_anew = self._asked_anew.union(names, everything, members)

    def answer(self, names: Iterable[str]) -> None:
        """Take note that the client was told about these names since it asked for them anew."""
        if self._asked_anew:
            self._asked_anew = self._asked_anew.difference(names) or NO_NAMES

    def is_asked_anew(self, name: str) -> bool:
        """Tell whether the client asked for a name since it refused what it was told of it."""
        return name in self._asked_anew

    def retain_removals(self, wanted: Callable[[str], bool]) -> None:
        """Forget the refused removals of all names but the wanted ones."""
        self._removals = {name: each for name, each in self._removals.items() if wanted(name)}

    def retain_content(self, wanted: Callable[[str], bool]) -> None:
        """Forget the refused content of all names but the wanted ones."""
        for name in [name for name in self._content if not wanted(name)]:
            self._clear_content(name)

    def has_content(self) -> bool:
        """Tell whether any content is refused."""
        return bool(self._content)

    def concerns(self, name: str, version: Version | None) -> bool:
        """Tell whether the last refusal of this name was of this very content."""
        refusal = self._against(name, version)
        return refusal is not None and refusal.version == version

    def leave_open(self, names: Container[str]) -> bool:
        """Tell whether the node refused any of these names, or may have applied refused content."""
        return any(each.applied or name in names for name, each in self._content.items())

    def holds_back(self, name: str, version: Version | None, now: float) -> bool:
        """Tell whether this content must not be sent (yet)."""
        refusal = self._against(name, version)
        if refusal is None or refusal.version != version:
            return False
        if version is not None and name in self._asked_anew:
            return False
        return refusal.retry_at is None or now < refusal.retry_at

    def next_retry(self, now: float) -> float | None:
        """Return the next moment at which refused content may be sent again, if there is one."""
        if not (self._content or self._removals):
            return None
        refused = (*self._content.values(), *self._removals.values())
        moments = (each.retry_at for each in refused)
        return min((at for at in moments if at is not None and at > now), default=None)

    def _clear_content(self, name: str) -> None:
        refused = self._by_type.get(self._type.url)
        if refused and refused.pop(name, None) and not refused:
            del self._by_type[self._type.url]


class NodeRefusals:
    """What one program of a node refused, by type; it outlives the program's streams."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        """Start with nothing refused."""
        self._by_type: dict[TypeUrl, dict[str, Refusal]] = {}

    def of_type(self, resource_type: ResourceType) -> Refusals:
        """Return the refusals of one type; later ones are added to them."""
        return Refusals(resource_type, self._by_type)


class ProgramRefusals:
    """The refusals of one node, by user agent."""

    __slots__ = ("_by_program",)

    def __init__(self) -> None:
        """Start with nothing refused."""
        self._by_program: dict[str, NodeRefusals] = {}

    def remembered(self, program: str, in_use: Collection[str]) -> NodeRefusals:
        """Return the refusals of a program, and remember its future ones.

        Args:
            program: the user agent of a client.
            in_use: the programs that have a stream.
        """
        found = self._by_program.pop(program, None) or NodeRefusals()
        self._by_program[program] = found
        idle = [each for each in self._by_program if each not in in_use]
        for each in idle[:-PROGRAMS]:
            del self._by_program[each]
        return found
