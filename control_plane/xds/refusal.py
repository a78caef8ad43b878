"""What a node refused, and whether it may be sent again.

The rule of this module: a NACK is never answered with the same content at once (go-control-plane's
issue 46 and Istio's issue 21111 are endless loops of that). It is remembered for the node and not
for the stream, since a client that reconnects would refuse it once more or, worse, ACK it without
applying it. But it is the program at that node that refused it: another one, such as its next
release, may take it.

A NACK refuses a whole response. Of several resources that were refused together it is not known
which is bad, so each is tried again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from control_plane.xds.messages import ErrorDetail
from control_plane.xds.resource import TypeUrl, Version
from control_plane.xds.resource_type import AfterNack, ResourceType

FIRST_PAUSE = 1.0
"""Seconds before refused content of a type that may be sent again is sent for the second time."""

LONGEST_PAUSE = 60.0
"""Seconds that the pause, which doubles with every refusal, never passes."""

PROGRAMS = 4
"""Of how many programs of a node what they refused is remembered, besides those with a stream:
clients make up what they are called."""


_NOTHING: Mapping[str, Refusal] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Content that a node refused; ``version`` is None where it refused a removal.

    Attributes:
        at: when, in seconds of the server's monotonic clock.
        attempts: how often this content was refused in a row.
        retry_at: when it may be sent again; None for never.
        applied: whether the node may have it, or what it refused of the same name before.
    """

    version: Version | None
    error: ErrorDetail
    at: float
    attempts: int
    retry_at: float | None
    applied: bool = False


class Refusals:
    """The refusals for one type: of one stream, or those that all streams of a node share."""

    __slots__ = ("_by_type", "_type")

    def __init__(
        self,
        resource_type: ResourceType,
        by_type: dict[TypeUrl, dict[str, Refusal]] | None = None,
    ) -> None:
        """Look at what was refused.

        Args:
            resource_type: of what type.
            by_type: where it is kept, by type and name. A type is in there only while something of
                it is refused, since clients make up types.
        """
        self._type = resource_type
        self._by_type = {} if by_type is None else by_type

    @property
    def _by_name(self) -> Mapping[str, Refusal]:
        return self._by_type.get(self._type.url, _NOTHING)

    def get(self, name: str) -> Refusal | None:
        """Return what is known against the resource of this name."""
        return self._by_name.get(name)

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
        """Remember that the node refused this content.

        Args:
            name: of what resource.
            version: of what content; None if it was a removal.
            error: what the client said.
            now: seconds of the server's monotonic clock.
            together: whether it was refused among others, so that it may be innocent; then it is
                tried again whatever its type.
            applied: whether the node may have applied it all the same.
        """
        before = self._by_name.get(name)
        attempts = before.attempts + 1 if before and before.version == version else 1
        retry_at = None
        if together or self._type.after_nack is AfterNack.AFTER_A_WHILE:
            retry_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 10))
        refused = self._by_type.setdefault(self._type.url, {})
        applied = applied or (before is not None and before.applied)
        refused[name] = Refusal(version, error, now, attempts, retry_at, applied)

    def clear(self, name: str) -> None:
        """Forget the refusal: the node accepted content of this name."""
        refused = self._by_type.get(self._type.url)
        if refused and refused.pop(name, None) and not refused:
            del self._by_type[self._type.url]

    def retain(self, wanted: Callable[[str], bool]) -> None:
        """Forget the refusals of names that nobody wants."""
        for name in [name for name in self._by_name if not wanted(name)]:
            self.clear(name)

    def is_empty(self) -> bool:
        """Tell whether nothing is refused."""
        return not self._by_name

    def concerns(self, name: str, version: Version | None) -> bool:
        """Tell whether this very content was the last that was refused of its name."""
        refusal = self._by_name.get(name)
        return refusal is not None and refusal.version == version

    def concerns_any(self, names: Iterable[str]) -> bool:
        """Tell whether anything is refused of these names."""
        return bool(self._by_name) and not self._by_name.keys().isdisjoint(names)

    def leave_open(self, names: Container[str]) -> bool:
        """Tell whether it is not known what the node has, if it should have these names alone."""
        return any(each.applied or name in names for name, each in self._by_name.items())

    def holds_back(self, name: str, version: Version | None, now: float) -> bool:
        """Tell whether this content must not be sent (yet)."""
        refusal = self._by_name.get(name)
        if refusal is None or refusal.version != version:
            return False
        return refusal.retry_at is None or now < refusal.retry_at

    def next_retry(self, now: float) -> float | None:
        """Return the moment at which something held back may be sent again, if there is one."""
        if not self._by_name:
            return None
        moments = (each.retry_at for each in self._by_name.values())
        return min((at for at in moments if at is not None and at > now), default=None)


class NodeRefusals:
    """What one program of a node refused, by type; that outlives its streams."""

    __slots__ = ("_by_type",)

    def __init__(self) -> None:
        """Start with nothing refused."""
        self._by_type: dict[TypeUrl, dict[str, Refusal]] = {}

    def of_type(self, resource_type: ResourceType) -> Refusals:
        """Return the refusals for one type, also those that come later."""
        return Refusals(resource_type, self._by_type)


class ProgramRefusals:
    """The refusals of one node, by the user agents of those who refused."""

    __slots__ = ("_by_program",)

    def __init__(self) -> None:
        """Start with nothing refused."""
        self._by_program: dict[str, NodeRefusals] = {}

    def get(self, program: str) -> NodeRefusals:
        """Return what a program refused, as far as it is remembered."""
        return self._by_program.get(program) or NodeRefusals()

    def remembered(self, program: str, in_use: Collection[str]) -> NodeRefusals:
        """Return what a program refused, and remember what it will refuse.

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
