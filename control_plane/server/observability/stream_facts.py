"""What happens to instances, as facts for the feed: streams, responses, and certificates.

The rule of this module: it only reports. While nobody watches it does nothing at all, because on a
busy server most of what happens is a response or its ACK.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from control_plane.model.state import State
from control_plane.names import InstanceGuid, shown
from control_plane.nodes import LiveStream, StreamObserver
from control_plane.reconciler.certificates.ledger import CertificateState, Entry, is_new, is_renewal
from control_plane.server.observability.feed import Fact, Feed, Kind
from control_plane.server.observability.stream_log import shortened
from control_plane.server.observability.type_names import short_name
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
from control_plane.xds.resource import TypeUrl

_MAX_NAMES = 20
"""How many names one fact has at most; a response may have thousands."""


_VERBS = {
    Kind.ISSUED: "is to have the new",
    Kind.RENEWED: "is to have the renewed",
    Kind.SERVED: "serves",
    Kind.NOT_SERVED: "ACKed and does not serve",
}


class StreamFacts(StreamObserver):
    """Reports to the feed; observes streams and the ledger."""

    def __init__(self, state: Callable[[], State], feed: Feed) -> None:
        """Name instances as they are named in this State."""
        self._state = state
        self._feed = feed

    def opened(self, live: LiveStream) -> None:
        """Report a client that connected."""
        sentence = f"opened a {live.variant.value} stream from {live.peer}"
        self._tell(live.node_id, Kind.CONNECTED, sentence)

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Report what a client accepted or refused."""
        if not self._feed.watchers:
            return
        for event in events:
            match event:
                case Acked():
                    self._answered(live, Kind.ACKED, event, "ACKed")
                case Nacked():
                    why = shortened(event.error.message)
                    self._answered(live, Kind.NACKED, event, "NACKed", f": {why}")
                case Connected() | Subscribed() | Unsubscribed() | Stale():
                    pass
                case _:
                    assert_never(event)

    def sent(self, live: LiveStream, reply: Reply) -> None:
        """Report what a client is sent."""
        if not self._feed.watchers:
            return
        # A name that is gone may also be among the errors, with its reason.
        there = tuple(dict.fromkeys(each.name for each in reply.resources))
        gone = tuple(dict.fromkeys((*reply.gone(), *reply.unresolved, *reply.errors)))
        self._tell(
            live.node_id,
            Kind.SENT,
            f"was sent {short_name(reply.type_url)} {_contents(there, gone)}",
            type_url=reply.type_url,
            nonce=reply.nonce,
            resources=(*there, *gone),
        )

    def closed(self, live: LiveStream) -> None:
        """Report a client whose stream ended."""
        reason = f": {live.ended_by}" if live.ended_by is not None else ""
        self._tell(live.node_id, Kind.DISCONNECTED, f"closed a stream{reason}")

    def denied(self, live: LiveStream, type_url: TypeUrl, names: Sequence[str]) -> None:
        """Report names that a client asked for and may not see."""
        self._tell(
            live.node_id,
            Kind.DENIED,
            f"asked in vain for {short_name(type_url)} {_listed(names)}",
            type_url=type_url,
            resources=names,
        )

    def certified(self, entry: Entry, before: Entry | None) -> None:
        """Report how far a certificate has got."""
        if not self._feed.watchers:
            return
        record = entry.record
        match entry.state:
            case CertificateState.ISSUED | CertificateState.ACKED:
                if not is_new(entry, before):
                    return
                kind = Kind.RENEWED if is_renewal(entry, before) else Kind.ISSUED
            case CertificateState.SERVED:
                kind = Kind.SERVED
            case CertificateState.NOT_SERVED:
                kind = Kind.NOT_SERVED
            case _:
                assert_never(entry.state)
        reason = f": {shortened(entry.reason)}" if entry.reason else ""
        self._tell(
            record.instance_guid,
            kind,
            f"{_VERBS[kind]} certificate {record.serial:x} in {record.secret}{reason}",
            resources=(record.secret,),
            serial=record.serial,
        )

    def _answered(
        self, live: LiveStream, kind: Kind, event: Acked | Nacked, verb: str, reason: str = ""
    ) -> None:
        there = tuple(name for name, version in event.versions.items() if version is not None)
        gone = tuple(name for name, version in event.versions.items() if version is None)
        self._tell(
            live.node_id,
            kind,
            f"{verb} {short_name(event.type_url)} {_contents(there, gone)}{reason}",
            type_url=event.type_url,
            nonce=event.nonce,
            resources=(*there, *gone),
        )

    def _tell(
        self,
        node_id: str,
        kind: Kind,
        predicate: str,
        *,
        type_url: str = "",
        nonce: str = "",
        resources: Sequence[str] = (),
        serial: int | None = None,
    ) -> None:
        if not self._feed.watchers:
            return
        guid = InstanceGuid(node_id)
        instance = self._state().instance(guid)
        app = self._state().apps[instance.app_guid] if instance is not None else None
        who = f"instance {shown(guid)}"
        if instance is not None and app is not None:
            who = f"{app.key.name}/{instance.index}"
        self._feed.tell(
            Fact(
                kind=kind,
                sentence=f"{who} {predicate}",
                app=app.guid if app is not None else None,
                keys={app.guid: app.key} if app is not None else {},
                instance=guid,
                type_url=shortened(type_url),
                nonce=nonce,
                resources=tuple(shortened(name) for name in resources[:_MAX_NAMES]),
                serial=serial,
            )
        )


def _contents(there: Sequence[str], gone: Sequence[str]) -> str:
    """Return what a response has, and which names it says do not exist, or no longer."""
    parts = (_listed(there) if there else "", f"without {_listed(gone)}" if gone else "")
    return ", ".join(filter(None, parts)) or "nothing"


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(shortened(name) for name in names[:_MAX_NAMES])
    hidden = len(names) - _MAX_NAMES
    return f"{text} and {hidden} more" if hidden > 0 else text
