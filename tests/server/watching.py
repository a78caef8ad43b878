"""An observer of streams for tests: it keeps what it was told."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.nodes import LiveStream
from control_plane.xds.events import Event
from control_plane.xds.messages import Reply


class Watcher:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.events: list[Event] = []
        self.replies: list[Reply] = []

    def opened(self, _: LiveStream) -> None:
        """Look away."""

    def told(self, _: LiveStream, events: Sequence[Event]) -> None:
        """Keep what a request told."""
        self.events += events

    def sent(self, _: LiveStream, reply: Reply) -> None:
        """Keep what was answered."""
        self.replies.append(reply)

    def closed(self, _: LiveStream) -> None:
        """Look away."""
