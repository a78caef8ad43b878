"""Which apps may connect to a port, worked out once for all instances of an app.

The rule of this module: the answer is the State's own. It is remembered together with the policies
and the instances that it follows from, which a State that changed elsewhere has as the same
objects. So asking again costs the same whether a caller has one instance or a thousand.
"""

from __future__ import annotations

from control_plane.model.entities import Instance, NetworkPolicy, Source, Transport
from control_plane.model.state import State
from control_plane.names import AppGuid

_Facts = tuple[tuple[NetworkPolicy, ...], tuple[tuple[Instance, ...], ...]]

_REMEMBERED = 16384
"""The sources of how many ports are remembered; otherwise each instance's plan would sort them
anew."""


class Sources:
    """``State.sources_by_app``, remembered for callers that ask the same for many instances."""

    def __init__(self) -> None:
        """Start with nothing remembered."""
        self._remembered: dict[
            tuple[AppGuid, Transport, int], tuple[_Facts, tuple[Source, ...]]
        ] = {}

    def of(self, state: State, app: AppGuid, transport: Transport, port: int) -> tuple[Source, ...]:
        """Return the apps that a policy lets connect to this port, with their addresses, sorted."""
        policies = state.policies_to(app)
        facts = policies, tuple(state.instances_of(each.source) for each in policies)
        known = self._remembered.get((app, transport, port))
        if known is not None and known[0] == facts:
            return known[1]
        sources = state.sources_by_app(app, transport, port)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[app, transport, port] = facts, sources
        return sources

    def forget(self, app: AppGuid) -> None:
        """Forget an app that was deleted."""
        for key in [each for each in self._remembered if each[0] == app]:
            del self._remembered[key]
