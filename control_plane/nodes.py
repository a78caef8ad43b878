"""The nodes that a server knows: what each should have, and the streams on which it is told.

The rule of this module: it decides nothing and waits for nothing. Whoever plans sets snapshots,
whoever serves registers streams, and a stream is only ever woken, never handed a change: it
compares what its client has with the snapshot as it is by then. So no update can be lost between
two wake-ups, and a slow client holds up nobody.
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
from control_plane.xds.refusal import NodeRefusals, ProgramRefusals
from control_plane.xds.resource import TypeUrl
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream

_Told = TypeVarTuple("_Told")


class Variant(Enum):
    """Which of the two kinds of messages a stream carries."""

    SOTW = "sotw"
    DELTA = "delta"


@dataclass(frozen=True, slots=True)
class Credential:
    """The certificate by which a client was let in: which one, and until when it counts."""

    serial: int
    not_after: datetime


@dataclass(eq=False, slots=True)
class LiveStream:
    """One open stream: who is at the other end, its protocol state, and how to wake or end it.

    Attributes:
        number: tells the streams of one server apart, also two of the same node.
        peer: the client's address as gRPC writes it, such as ``ipv4:127.0.0.1:40000``.
        identities: the subject alternative names of the client's certificate; empty without
            mutual TLS.
        credential: by what the client was let in; None where nothing was asked for.
        opened_at: when the client opened it, in UTC.
        admitted: whether its client was let in, so that observers were told of it.
        ended_by: why it ended; None while it has not, and if the client was done.
        half_closed: whether the client said that it has no more requests.
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
        """Whether somebody ended it, so that its client is told nothing more."""
        return self._ended.is_set()

    def wake(self) -> None:
        """Have it look whether its client is owed something."""
        self._woken.set()

    def end(self, reason: Exception | None) -> None:
        """Close it with the status of an error, or OK for none; only the first reason counts."""
        if not self.has_ended:
            self.ended_by = reason
            self._ended.set()

    async def woken(self, timeout: float | None) -> None:
        """Return once it was woken since the last call, or after that many seconds."""
        if timeout is None:
            await self._woken.wait()
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
        self._woken.clear()

    async def ended(self) -> None:
        """Return once somebody ended it."""
        await self._ended.wait()


class StreamObserver(Protocol):
    """Somebody who is told what happens on streams; a subclass overrides what it wants to hear.

    Its methods return at once, and may set snapshots.
    """

    def opened(self, _live: LiveStream, /) -> None:
        """A client told who it is and was let in; what it asks for has not been looked at yet."""
        return

    def told(self, _live: LiveStream, _events: Sequence[Event], /) -> None:
        """A request came in, and told this."""
        return

    def sent(self, _live: LiveStream, _reply: Reply, /) -> None:
        """A response is on its way."""
        return

    def closed(self, _live: LiveStream, /) -> None:
        """A stream that was opened is gone, and is no longer among those of its node."""
        return


@dataclass(slots=True)
class _Node:
    snapshot: Snapshot | None = None
    is_withheld: bool = False
    refusals: ProgramRefusals = field(default_factory=ProgramRefusals)
    streams: dict[LiveStream, None] = field(default_factory=dict)


class Nodes(StreamObserver):
    """Every node by its id; the observer that the server tells, and that tells others."""

    def __init__(self) -> None:
        """Start with no node and nobody who watches."""
        self._by_id: dict[str, _Node] = {}
        self._default: Snapshot | None = None
        self._opened: list[Callable[[LiveStream], None]] = []
        self._told: list[Callable[[LiveStream, Sequence[Event]], None]] = []
        self._sent: list[Callable[[LiveStream, Reply], None]] = []
        self._closed: list[Callable[[LiveStream], None]] = []

    def set(self, node_id: str, snapshot: Snapshot) -> None:
        """Say what a node should have; wake its streams that ask for a type that this changes."""
        node = self._by_id.setdefault(node_id, _Node())
        node.snapshot, changed = _successor(node.snapshot or self._default, snapshot)
        was_withheld, node.is_withheld = node.is_withheld, False
        _wake(node, None if was_withheld else changed)

    def withhold(self, node_id: str) -> None:
        """Send a node nothing before its snapshot is set again: the one that it has is old."""
        node = self._by_id.get(node_id)
        if node is not None:
            node.is_withheld = True

    def set_default(self, snapshot: Snapshot | None) -> None:
        """Say what a node should have for which nothing else was set."""
        before, changed = self._default, None
        if snapshot is not None:
            snapshot, changed = _successor(before, snapshot)
        self._default = snapshot
        if snapshot is not before:
            for node in self._by_id.values():
                if node.snapshot is None:
                    _wake(node, changed)

    def sendable(self, node_id: str) -> Snapshot | None:
        """Return what a node may be sent; None if its snapshot is withheld, or nobody knows it."""
        node = self._by_id.get(node_id)
        return None if node is not None and node.is_withheld else self.snapshot(node_id)

    def snapshot(self, node_id: str) -> Snapshot | None:
        """Return what a node should have; None if nobody knows yet, so that nothing is sent."""
        node = self._by_id.get(node_id)
        if node is None or node.snapshot is None:
            return self._default
        return node.snapshot

    def forget(self, node_id: str) -> None:
        """Drop what a node should have; what it refused goes with its last stream.

        Streams that it still has stay open, and are sent nothing, or what is set for everybody.
        """
        node = self._by_id.pop(node_id, None)
        if node is not None and node.streams:
            self._by_id[node_id] = node = _Node(refusals=node.refusals, streams=node.streams)
            _wake(node)

    def refusals(self, node_id: str, program: str = "") -> NodeRefusals:
        """Return what a program refused as a node, on this stream or an earlier one.

        They are kept as long as a snapshot is set for the node, or it has a stream.
        """
        node = self._by_id.get(node_id)
        return node.refusals.get(program) if node is not None else NodeRefusals()

    def streams(self, node_id: str) -> tuple[LiveStream, ...]:
        """Return the streams that a node has open, oldest first."""
        node = self._by_id.get(node_id)
        return tuple(node.streams) if node is not None else ()

    def all_streams(self) -> tuple[LiveStream, ...]:
        """Return the streams of all nodes."""
        return tuple(live for node in self._by_id.values() for live in node.streams)

    def observe(self, observer: StreamObserver) -> None:
        """Tell somebody of everything that happens from now on."""
        self._opened.append(observer.opened)
        self._told.append(observer.told)
        self._sent.append(observer.sent)
        self._closed.append(observer.closed)

    def opened(self, live: LiveStream) -> None:
        """Register a stream, with what the same program of its node refused on earlier ones."""
        node = self._by_id.setdefault(live.node_id, _Node())
        node.streams[live] = None
        live.admitted = True
        in_use = {each.program for each in node.streams}
        live.stream.bind(node.refusals.remembered(live.program, in_use))
        _tell(self._opened, live)

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Pass on what a request told."""
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
    """Tell every observer, also after one has failed: each keeps books that have to balance."""
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
    """Return a snapshot, and the types that it changes; None for all, where there was none before.

    Streams know what they compared before by its being the same object.
    """
    if before is None:
        return snapshot, None
    changed = snapshot.changed_since(before)
    return snapshot.keeping(before, changed), changed


def _wake(node: _Node, changed: AbstractSet[TypeUrl] | None = None) -> None:
    """Wake the streams of a node; only those that ask for one of some types, if these are given."""
    for live in node.streams:
        if changed is None or not changed.isdisjoint(live.stream.machines):
            live.wake()
