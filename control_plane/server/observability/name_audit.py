"""Names that a client asked for and may not see: reported in the audit log, not to the client.

The rule of this module: on the wire a name that belongs to another node looks like a name that does
not exist, so nobody can find out names by asking for them. That a client asked is recorded. An
exception is an instance that was removed and asks for what it had: its connection is recorded
already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

import structlog

from control_plane import log_events
from control_plane.nodes import LiveStream, Nodes, StreamObserver
from control_plane.server.access.refusals import RefusalTally
from control_plane.xds.events import Event, Subscribed
from control_plane.xds.messages import Reply
from control_plane.xds.resource import WILDCARD, TypeUrl
from control_plane.xds.snapshot import Snapshot

MOST_EARLY = 4096
"""How many names are remembered for a stream that asked before there was a plan."""

_SHOWN = 10
"""How many names one line has at most."""


Observer = Callable[[LiveStream, TypeUrl, Sequence[str]], None]
"""Is told which client asked in vain for which names of which type."""


def _nobody(_live: LiveStream, _type_url: TypeUrl, _names: Sequence[str]) -> None:
    """Ignore the names; the default for ``observer``."""


class NameAudit(StreamObserver):
    """Observes streams for names that their node does not have.

    Attributes:
        denied: how many names were asked for in vain.
    """

    def __init__(self, nodes: Nodes, refusals: RefusalTally, observer: Observer = _nobody) -> None:
        """Watch these nodes.

        Args:
            nodes: the nodes that have the streams.
            refusals: told of denials that are too many for a line each.
            observer: told of all denials, besides the audit log.
        """
        self._nodes = nodes
        self._refusals = refusals
        self._observer = observer
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)
        self._early: dict[LiveStream, dict[TypeUrl, set[str]]] = {}
        self.denied = 0

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Examine the names that a request newly asks for.

        In a crowd a request may come before there is a plan to compare it with; then its names wait
        for that.
        """
        asked = [event for event in events if isinstance(event, Subscribed)]
        if not asked:
            return
        if self._nodes.sendable(live.node_id) is None:
            self._remember(live, asked)
            return
        self._look_back(live)
        for event in asked:
            self._look(live, event.type_url, event.names)

    def sent(self, live: LiveStream, _reply: Reply) -> None:
        """Examine names that came early: a response shows that there is a plan."""
        self._look_back(live)

    def closed(self, live: LiveStream) -> None:
        """Examine names that came early, because the stream asks for nothing more."""
        self._look_back(live)

    def _remember(self, live: LiveStream, asked: Sequence[Subscribed]) -> None:
        early = self._early.setdefault(live, {})
        room = MOST_EARLY - sum(map(len, early.values()))
        for event in asked:
            names = early.setdefault(event.type_url, set())
            added = sorted(event.names - names)[:room]
            names.update(added)
            room -= len(added)

    def _look_back(self, live: LiveStream) -> None:
        for type_url, names in self._early.pop(live, {}).items():
            self._look(live, type_url, names)

    def _look(self, live: LiveStream, type_url: TypeUrl, names: AbstractSet[str]) -> None:
        snapshot = self._nodes.sendable(live.node_id)
        if snapshot is None or _is_empty(snapshot):
            return
        content = snapshot.of_type(type_url)
        known = {WILDCARD, *content.pending, *content.recorded}
        unknown = [n for n in sorted(names - known) if content.find(n) is None]
        if unknown:
            self.denied += len(unknown)
            self._observer(live, type_url, unknown)
            if self._refusals.has_line(log_events.AUDIT_NAMES_LIMITED, live.node_id):
                self._audit.warning(
                    log_events.AUDIT_NAME_DENIED,
                    node=live.node_id,
                    peer=live.peer,
                    type_url=type_url,
                    names=unknown[:_SHOWN],
                    count=len(unknown),
                )


def _is_empty(snapshot: Snapshot) -> bool:
    """Tell whether a node should have nothing at all, as is so after it was removed."""
    return not any(each.resources or each.recorded for each in snapshot.types.values())
