"""Streams in the log: which clients came and went, what was sent, and what was refused.

The rule of this module: there is one line for each fact, with the fields by which it can be
followed from the plan to the ACK. What happens all the time is for debugging; a NACK is a warning,
since an operator has to act. Text from a client is escaped and cut before it gets into a line.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import assert_never

import structlog

from control_plane import log_events
from control_plane.errors import PeerProtocolError
from control_plane.nodes import LiveStream, StreamObserver
from control_plane.server.access.refusals import RefusalTally
from control_plane.xds.events import (
    Acked,
    Connected,
    Event,
    Nacked,
    Stale,
    Subscribed,
    Unsubscribed,
)
from control_plane.xds.messages import Reply
from control_plane.xds.resource import Version

_MAX_TEXT = 1000
"""How many characters of a client's error message are logged; Envoy's messages name the resource
within a few hundred."""

_MAX_NAMES = 20
"""How many resources one line has at most; a response may have thousands."""


class StreamLog(StreamObserver):
    """Writes what happens on streams to the log."""

    def __init__(self, refusals: RefusalTally | None = None) -> None:
        """Log under this module's name.

        Args:
            refusals: told of NACKs that are too many for a line each; without it, each has a line.
        """
        self._refusals = refusals
        self._log = structlog.get_logger(__name__)

    def opened(self, live: LiveStream) -> None:
        """Log a client that connected."""
        node = live.stream.node
        self._log.info(
            log_events.STREAM_OPENED,
            **_where(live),
            variant=live.variant.value,
            peer=live.peer,
            identities=live.identities,
            user_agent=shortened(node.user_agent) if node is not None else "",
        )

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Log what a client accepted or refused."""
        for event in events:
            match event:
                case Nacked():
                    self._log_nack(live, event)
                case Acked() if self._is_verbose():
                    self._log.debug(
                        log_events.XDS_ACKED,
                        **_where(live),
                        type_url=event.type_url,
                        nonce=event.nonce,
                        resources=_versions(event.versions),
                    )
                case Stale() if self._is_verbose():
                    self._log.debug(
                        log_events.XDS_STALE,
                        **_where(live),
                        type_url=event.type_url,
                        nonce=shortened(event.nonce),
                    )
                case Acked() | Stale() | Connected() | Subscribed() | Unsubscribed():
                    pass
                case _:
                    assert_never(event)

    def _is_verbose(self) -> bool:
        """Tell whether debug lines are written, so that it is worth composing them."""
        is_written: bool = self._log.is_enabled_for(logging.DEBUG)
        return is_written

    def _log_nack(self, live: LiveStream, event: Nacked) -> None:
        refusals, limited = self._refusals, log_events.AUDIT_NACKS_LIMITED
        if refusals is None or refusals.has_line(limited, live.node_id):
            self._log.warning(
                log_events.XDS_NACKED,
                **_where(live),
                type_url=event.type_url,
                nonce=event.nonce,
                resources=_versions(event.versions),
                code=event.error.code,
                reason=shortened(event.error.message),
            )

    def sent(self, live: LiveStream, reply: Reply) -> None:
        """Log what a client is being sent."""
        if not self._is_verbose():
            return
        self._log.debug(
            log_events.XDS_SENT,
            **_where(live),
            type_url=reply.type_url,
            nonce=reply.nonce,
            version=reply.version,
            resources=_versions(
                {each.name: each.version for each in reply.resources}
                | dict.fromkeys((*reply.gone(), *reply.unresolved, *reply.errors))
            ),
        )

    def closed(self, live: LiveStream) -> None:
        """Log a stream that ended, and whether the client broke the protocol."""
        reason = str(live.ended_by) if live.ended_by is not None else ""
        log = self._log.warning if isinstance(live.ended_by, PeerProtocolError) else self._log.info
        log(log_events.STREAM_CLOSED, **_where(live), reason=reason)


def shortened(text: str) -> str:
    """Return text from a client in a form fit for a log: printable, one line, not too long."""
    printable = repr(text)[1:-1]
    if len(printable) <= _MAX_TEXT:
        return printable
    return f"{printable[:_MAX_TEXT]}... {len(text)} characters in all"


def _where(live: LiveStream) -> dict[str, object]:
    return {"stream": live.number, "node": shortened(live.node_id)}


def _versions(versions: Mapping[str, Version | None]) -> dict[str, Version | None]:
    first = list(versions.items())[:_MAX_NAMES]
    return {shortened(name): version for name, version in first}
