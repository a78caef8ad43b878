"""Clients for tests: each says one thing to a stream and returns what the stream says to that.

They know the state that the protocol makes a client keep (names, nonces), and judge nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.xds.events import Event
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import DeltaRequest, ErrorDetail, Node, Request, SotwRequest
from control_plane.xds.refusal import NodeRefusals
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.notation import content, short_of, shown, snapshot, sorted_out, url_of, version

NODE = Node("instance-1")
REFUSED = ErrorDetail(13, "no")


class Peer:
    """One stream, the snapshot that its node should have, and the time."""

    def __init__(
        self,
        *,
        types: ResourceTypes | None = None,
        only: TypeUrl | None = None,
        limits: StreamLimits | None = None,
        refusals: NodeRefusals | None = None,
        node: Node | None = NODE,
        now: float = 100.0,
        **contents: str,
    ) -> None:
        """Open a stream to a server that has these resources for its node."""
        self.stream = Stream(types or ResourceTypes.of(), only=only, limits=limits)
        self.refusals = refusals or NodeRefusals()
        self.stream.bind(self.refusals)
        self.snapshot: Snapshot = snapshot(**contents)
        self.now = now
        self._events: tuple[Event, ...] = ()
        self.nonces: dict[str, str] = {}
        self.names: dict[str, tuple[str, ...]] = {}
        self._node = node

    def send(self, request: Request) -> list[str]:
        """Send any request; return the responses."""
        connected = self.stream.identify(request)
        told = self.stream.receive(request, self.now)
        self._events = told if connected is None else (connected, *told)
        return self.hear()

    def told(self) -> tuple[Event, ...]:
        """Return what the last request told the server."""
        return self._events

    def hear(self) -> list[str]:
        """Return the responses that the stream has by now."""
        replies = self.stream.replies(self.snapshot, self.now)
        self.nonces |= {short_of(reply.type_url): reply.nonce for reply in replies}
        return [shown(reply) for reply in replies]

    def put(self, **contents: str) -> list[str]:
        """Give the node other resources of some types; return the responses."""
        types = {url_of(short): content(short, text) for short, text in contents.items()}
        self.snapshot = Snapshot({**self.snapshot.types, **types})
        return self.hear()

    def wait(self, seconds: float) -> list[str]:
        """Let time pass; return the responses."""
        self.now += seconds
        return self.hear()

    def take_node(self) -> Node | None:
        """Return the node once, as Envoy sends it."""
        node, self._node = self._node, None
        return node


class DeltaPeer(Peer):
    """A client that speaks the incremental variant."""

    def ask(
        self,
        short: str,
        *subscribe: str,
        drop: Iterable[str] = (),
        has: str = "",
        nonce: str = "",
        error: ErrorDetail | None = None,
    ) -> list[str]:
        """Send a request; ``has`` lists its initial resource versions, as ``c@1 d@1``."""
        initial = {label.partition("@")[0]: version(label) for label in has.split()}
        added, added_locators = sorted_out(subscribe)
        dropped, dropped_locators = sorted_out(drop)
        request = DeltaRequest(
            url_of(short),
            added,
            dropped,
            initial_resource_versions=initial,
            response_nonce=nonce,
            error_detail=error,
            node=self.take_node(),
            subscribe_locators=added_locators,
            unsubscribe_locators=dropped_locators,
        )
        return self.send(request)

    def take(self, short: str, *subscribe: str) -> None:
        """Ask for resources, and accept the response."""
        self.ask(short, *subscribe)
        self.ack(short)

    def ack(self, short: str, *subscribe: str, drop: Iterable[str] = ()) -> list[str]:
        """Accept the last response of a type."""
        return self.ask(short, *subscribe, drop=drop, nonce=self.nonces[short])

    def nack(self, short: str, *subscribe: str, error: ErrorDetail = REFUSED) -> list[str]:
        """Refuse the last response of a type."""
        return self.ask(short, *subscribe, nonce=self.nonces[short], error=error)


class SotwPeer(Peer):
    """A client that speaks the state-of-the-world variant."""

    def ask(
        self,
        short: str,
        *names: str,
        nonce: str | None = None,
        has: str | None = None,
        error: ErrorDetail | None = None,
    ) -> list[str]:
        """Send a request with all names; ``has`` is the content whose version it states."""
        self.names[short] = names
        plain, located = sorted_out(names)
        request = SotwRequest(
            url_of(short),
            plain,
            version_info="" if has is None else content(short, has).version,
            response_nonce=self.nonces.get(short, "") if nonce is None else nonce,
            error_detail=error,
            node=self.take_node(),
            resource_locators=located,
        )
        return self.send(request)

    def take(self, short: str, *names: str) -> None:
        """Ask for resources, and accept the response."""
        self.ask(short, *names)
        self.ack(short)

    def ack(self, short: str) -> list[str]:
        """Accept the last response of a type."""
        return self.ask(short, *self.names[short])

    def nack(self, short: str, *, error: ErrorDetail = REFUSED) -> list[str]:
        """Refuse the last response of a type."""
        return self.ask(short, *self.names[short], error=error)
