"""What was said about certificates on the streams of a control plane, as an observer hears it."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.nodes import LiveStream
from control_plane.xds.events import Acked, Event, Nacked
from control_plane.xds.messages import Reply
from control_plane.xds.resource_type import SECRET

NAME = "c2c-cert-and-key"


class CertificateRecord:
    """Responses that have the C2C secret, and the answers to them.

    Attributes:
        sent_versions: the version in each response, in order.
        acks: how many of these responses were accepted.
        nacks: why the others were not.
        streams: how many streams were opened.
    """

    def __init__(self) -> None:
        """Start with nothing said."""
        self.sent_versions: list[str] = []
        self.acks = 0
        self.nacks: list[str] = []
        self.streams = 0

    def opened(self, _live: LiveStream) -> None:
        """Count it."""
        self.streams += 1

    def told(self, _live: LiveStream, events: Sequence[Event]) -> None:
        """Count what was accepted, and note why something was not."""
        for event in events:
            match event:
                case Acked(type_url, _, versions) if type_url == SECRET:
                    self.acks += NAME in versions
                case Nacked(type_url, _, versions, error) if type_url == SECRET:
                    self.nacks += [error.message] if NAME in versions else []
                case _:
                    pass

    def sent(self, _live: LiveStream, reply: Reply) -> None:
        """Note the version."""
        self.sent_versions += [each.version for each in reply.resources if each.name == NAME]

    def closed(self, _live: LiveStream) -> None:
        """Say nothing of those who go."""
