"""How long one type waits for the types before it.

The rule of this module: a wait ends, whatever changes meanwhile. Each name is waited for once, and
nothing that comes up only after the waiting type changed is waited for.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from control_plane.xds.resource import NO_NAMES, TypeUrl
from control_plane.xds.snapshot import TypeSnapshot


class Wait:
    """What one type waits for: names of the types before it, and ``*`` for an empty response.

    Attributes:
        content: what the type will send after the wait.
    """

    __slots__ = ("_answered", "_needed", "_outdated", "_twice", "content")

    def __init__(self, content: TypeSnapshot) -> None:
        """Begin to wait.

        Args:
            content: what the type will send after the wait.
        """
        self.content = content
        self._needed: dict[TypeUrl, set[str]] = {}
        self._answered: dict[TypeUrl, set[str]] = {}
        self._outdated: dict[TypeUrl, set[str]] = {}
        self._twice: dict[TypeUrl, set[str]] = {}

    def need(
        self,
        before: TypeUrl,
        outstanding: AbstractSet[str],
        *,
        outdated: AbstractSet[str],
        has: AbstractSet[str],
    ) -> None:
        """Wait for all that a type before has yet to deliver, except what was already waited for.

        Args:
            before: the type to wait for.
            outstanding: the names whose content that type has in flight, or has to send.
            outdated: the names whose content in flight is not the newest.
            has: the names of which the client has content.
        """
        # If the client does not have a resource because it refused or lost it, it is waited for
        # once more.
        answered = self._answered[before] = self._answered.get(before, set()) & has
        self._needed.setdefault(before, set()).update(outstanding - answered)
        # If only an answer to the newest content counted, the wait might never end.
        twice = self._twice.setdefault(before, set())
        self._outdated.setdefault(before, set()).update(outdated - twice)
        twice |= outdated

    def answered(self, before: TypeUrl, told: AbstractSet[str]) -> None:
        """Take note that the client answered a response with content of these names."""
        outdated = self._outdated.pop(before, NO_NAMES)
        self._answered.setdefault(before, set()).update(told - outdated)

    def lasts(self, before: TypeUrl, outstanding: AbstractSet[str]) -> bool:
        """Tell whether the wait covers any of the names that a type has yet to deliver."""
        needed = self._needed.get(before)
        if not needed:
            return False
        return not (needed - self._answered.get(before, set())).isdisjoint(outstanding)
