"""The nodes that a server knows: what each should have, and the streams that deliver it.

The rule of this module: it decides nothing and waits for nothing. The planning side sets snapshots,
the serving side registers streams. A stream is only ever woken, never handed a change: it compares
what its client has with the snapshot at that moment. So no update can be lost between two wake-ups,
and a slow client delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol, TypeVarTuple

from control_plane.xds.events import Event
from control_plane.xds.messages import Reply
from control_plane.xds.refusal import ProgramRefusals
from control_plane.xds.resource import TypeUrl
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream

_Told = TypeVarTuple("_Told")


class Variant(Enum):
    """The two variants of the xDS protocol that a stream can use."""

    SOTW = "sotw"
    DELTA = "delta"


@dataclass(frozen=True, slots=True)
class Credential:
    """The certificate by which a client was admitted: which one, and until when it is valid."""

    serial: int
    not_after: datetime


@dataclass(eq=False, slots=True)
class LiveStream:
    """One open stream: its client, its protocol state, and how to wake or end it.

    Attributes:
        number: distinguishes the streams of one server, even two of the same node.
        peer: the client's address as gRPC writes it, such as ``ipv4:127.0.0.1:40000``.
        identities: the subject alternative names of the client's certificate; empty without
            mutual TLS.
        credential: the certificate by which the client was admitted; None if no certificate was
            required.
        opened_at: when the client opened it, in UTC.
        admitted: whether its client was admitted, so that observers were told of the stream.
        ended_by: why it ended; None before it has ended, and if the client had finished.
        half_closed: whether the client said that it will send no more requests.
    """

    number: int
    stream: Stream
    variant: Variant
    peer: str
    identities: tuple[str, ...]
    opened_at: datetime
    admitted: bool = False
    ended_by: Exception | None = None
    half_closed: bool = False
    credential: Credential | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _ended: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def node_id(self) -> str:
        """The id in the first request, or "" before that."""
        return self.stream.node.id if self.stream.node is not None else ""

    @property
    def program(self) -> str:
        """The user agent in the first request, or "" before that."""
        return self.stream.node.user_agent if self.stream.node is not None else ""

    @property
    def has_ended(self) -> bool:
        """Whether it was ended, so that its client is sent nothing more."""
        return self._ended.is_set()

    def wake(self) -> None:
        """Have the stream check whether its client is owed something."""
        self._woken.set()

    def end(self, reason: Exception | None) -> None:
        """Close it with the status of an error, or OK for None; only the first reason counts."""
        if not self.has_ended:
            self.ended_by = reason
            self._ended.set()

    async def woken(self, timeout: float | None) -> None:
        """Return once it is woken, or was since the last call; or after so many seconds, if any."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        self._woken.clear()

    async def ended(self) -> None:
        """Return once it was ended."""
        await self._ended.wait()


class StreamObserver(Protocol):
    """Is told what happens on streams; a subclass overrides the methods that it needs.

    The methods return at once, and may set snapshots.
    """

    def opened(self, _live: LiveStream, /) -> None:
        """A client identified itself and was admitted; its request has not been looked at yet."""
        return

    def told(self, _live: LiveStream, _events: Sequence[Event], /) -> None:
        """A request came in and led to these events."""
        return

    def sent(self, _live: LiveStream, _reply: Reply, /) -> None:
        """A response is on its way."""
        return

    def closed(self, _live: LiveStream, /) -> None:
        """A stream that was opened is gone, and its node no longer lists it."""
        return


@dataclass(slots=True)
class _Node:
    snapshot: Snapshot | None = None
    is_withheld: bool = False
    refusals: ProgramRefusals = field(default_factory=ProgramRefusals)
    streams: dict[LiveStream, None] = field(default_factory=dict)


class Nodes(StreamObserver):
    """Every node by its id; observes the server's streams, and passes on what happens on them."""

    def __init__(self) -> None:
        """Start without nodes and observers."""
        self._by_id: dict[str, _Node] = {}
        self._default: Snapshot | None = None
        self._opened: list[Callable[[LiveStream], None]] = []
        self._told: list[Callable[[LiveStream, Sequence[Event]], None]] = []
        self._sent: list[Callable[[LiveStream, Reply], None]] = []
        self._closed: list[Callable[[LiveStream], None]] = []

    def set(self, node_id: str, snapshot: Snapshot) -> None:
        """Say what a node should have; wake its streams that ask for a type that changes."""
        node = self._by_id.setdefault(node_id, _Node())
        node.snapshot, changed = _successor(node.snapshot or self._default, snapshot)
        was_withheld, node.is_withheld = node.is_withheld, False
        _wake(node, None if was_withheld else changed)

    def withhold(self, node_id: str) -> None:
        """Send a node nothing before its snapshot is set again: the present one is outdated."""
        node = self._by_id.get(node_id)
        if node is not None:
            node.is_withheld = True

    def set_default(self, snapshot: Snapshot | None) -> None:
        """Say what nodes should have for which no snapshot was set."""
        before, changed = self._default, None
        if snapshot is not None:
            snapshot, changed = _successor(before, snapshot)
        self._default = snapshot
        if snapshot is not before:
            for node in self._by_id.values():
                if node.snapshot is None:
                    _wake(node, changed)

    def sendable(self, node_id: str) -> Snapshot | None:
        """Return what a node may be sent; None if its snapshot is withheld or unknown."""
        node = self._by_id.get(node_id)
        return None if node is not None and node.is_withheld else self.snapshot(node_id)

    def snapshot(self, node_id: str) -> Snapshot | None:
        """Return what a node should have; None if that is unknown yet, so that nothing is sent."""
        node = self._by_id.get(node_id)
        if node is None or node.snapshot is None:
            return self._default
        return node.snapshot

    def forget(self, node_id: str) -> None:
        """Drop what a node should have; what it refused is dropped with its last stream.

        Streams that it still has stay open, and are sent nothing, or the default snapshot.
        """
        node = self._by_id.pop(node_id, None)
        if node is not None and node.streams:
            self._by_id[node_id] = node = _Node(refusals=node.refusals, streams=node.streams)
            _wake(node)

    def streams(self, node_id: str) -> tuple[LiveStream, ...]:
        """Return the streams that a node has open, oldest first."""
        node = self._by_id.get(node_id)
        return tuple(node.streams) if node is not None else ()

    def all_streams(self) -> tuple[LiveStream, ...]:
        """Return the streams of all nodes."""
        return tuple(live for node in self._by_id.values() for live in node.streams)

    def observe(self, observer: StreamObserver) -> None:
        """Tell an observer of everything that happens from now on."""
        self._opened.append(observer.opened)
        self._told.append(observer.told)
        self._sent.append(observer.sent)
        self._closed.append(observer.closed)

    def opened(self, live: LiveStream) -> None:
        """Register a stream, with what the same program refused on the node's earlier streams."""
        node = self._by_id.setdefault(live.node_id, _Node())
        node.streams[live] = None
        live.admitted = True
        in_use = {each.program for each in node.streams}
        live.stream.bind(node.refusals.remembered(live.program, in_use))
        _tell(self._opened, live)

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Pass on the events of a request."""
        _tell(self._told, live, events)

    def sent(self, live: LiveStream, reply: Reply) -> None:
        """Pass on that a response is on its way."""
        _tell(self._sent, live, reply)

    def closed(self, live: LiveStream) -> None:
        """Forget a stream; does nothing for one that was never registered."""
        node = self._by_id.get(live.node_id)
        if node is None or live not in node.streams:
            return
        del node.streams[live]
        if not node.streams and node.snapshot is None:
            del self._by_id[live.node_id]
        _tell(self._closed, live)


def _tell(observers: Iterable[Callable[[*_Told], None]], *told: *_Told) -> None:
    """Tell every observer, even after one has failed: each keeps books that have to balance."""
    failures: list[Exception] = []
    for observer in observers:
        try:
            observer(*told)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the others are told first
            failures.append(failure)
    if failures:
        raise ExceptionGroup("observers of a stream failed", failures)


def _successor(
    before: Snapshot | None, snapshot: Snapshot
) -> tuple[Snapshot, AbstractSet[TypeUrl] | None]:
    """Return a snapshot and the types that it changes: None for all, if there was none before.

    The returned snapshot keeps the objects of unchanged types, by which streams recognise what they
    have compared before.
    """
    if before is None:
        return snapshot, None
    changed = snapshot.changed_since(before)
    return snapshot.keeping(before, changed), changed


def _wake(node: _Node, changed: AbstractSet[TypeUrl] | None = None) -> None:
    """Wake the streams of a node: all, or those that ask for one of the changed types."""
    for live in node.streams:
        if changed is None or not changed.isdisjoint(live.stream.machines):
            live.wake()
