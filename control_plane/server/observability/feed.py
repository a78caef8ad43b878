"""What happens, for watchers: each fact goes to every watcher, and waits for none.

The rule of this module: each watcher has a bounded queue of its own. A watcher that reads too
slowly loses the oldest facts that it has not read, and is told how many; nobody else notices. While
nobody watches, a fact costs one comparison.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from control_plane.clock import Clock
from control_plane.model.entities import AppKey
from control_plane.names import AppGuid, InstanceGuid

QUEUE = 10_000
"""How many facts a watcher may be behind; that takes some megabytes."""


class Kind(StrEnum):
    """The kinds of facts."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    MAPPED = "mapped"
    UNMAPPED = "unmapped"
    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    REGISTERED = "registered"
    MOVED = "moved"
    REMOVED = "removed"
    READY = "ready"
    NOT_READY = "not_ready"
    GONE = "gone"
    SETTLED = "settled"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    SENT = "sent"
    ACKED = "acked"
    NACKED = "nacked"
    DENIED = "denied"
    ISSUED = "issued"
    RENEWED = "renewed"
    SERVED = "served"
    NOT_SERVED = "not_served"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened.

    Attributes:
        sentence: what happened, for people.
        app: the app that the fact is about.
        source: the app that a network policy lets connect to it.
        keys: the names of these apps, which may be gone by the time the fact is read.
        revision: the revision of the State, if a change led to the fact.
        serial: the serial of the certificate that the fact is about.
    """

    kind: Kind
    sentence: str
    app: AppGuid | None = None
    source: AppGuid | None = None
    keys: Mapping[AppGuid, AppKey] = field(default_factory=dict)
    instance: InstanceGuid | None = None
    revision: int = 0
    type_url: str = ""
    nonce: str = ""
    resources: tuple[str, ...] = ()
    serial: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A fact as one watcher gets it.

    Attributes:
        at: when it happened, in UTC.
        lost: how many facts before it the watcher lost because it was too slow.
    """

    fact: Fact
    at: datetime
    lost: int


class Watcher:
    """The queue of facts of one watcher."""

    def __init__(self, size: int) -> None:
        """Start with an empty queue."""
        self._size = size
        self._queue: deque[tuple[Fact, datetime]] = deque()
        self._any = asyncio.Event()
        self._closed = False
        self._lost = 0

    def put(self, fact: Fact, at: datetime) -> bool:
        """Queue a fact; return whether there was room without dropping another."""
        has_room = len(self._queue) < self._size
        if not has_room:
            self._queue.popleft()
            self._lost += 1
        self._queue.append((fact, at))
        self._any.set()
        return has_room

    def close(self) -> None:
        """Take no more facts."""
        self._closed = True
        self._any.set()

    async def next(self) -> Told | None:
        """Wait for the next fact, and return it; None once there will be no more."""
        while not self._queue:
            if self._closed:
                return None
            self._any.clear()
            await self._any.wait()
        lost, self._lost = self._lost, 0
        fact, at = self._queue.popleft()
        return Told(fact, at, lost)


class Feed:
    """Sends facts to all watchers.

    Attributes:
        lost: how many facts all watchers together lost because they were too slow.
    """

    def __init__(self, clock: Clock) -> None:
        """Start without watchers."""
        self._clock = clock
        self._watchers: set[Watcher] = set()
        self._closed = False
        self.lost = 0

    @property
    def is_closed(self) -> bool:
        """Whether no more facts will be reported."""
        return self._closed

    @property
    def watchers(self) -> int:
        """How many watchers there are."""
        return len(self._watchers)

    def tell(self, fact: Fact) -> None:
        """Report a fact to all watchers."""
        for watcher in self._watchers:
            if not watcher.put(fact, self._clock.now()):
                self.lost += 1

    def close(self) -> None:
        """End all watchers, including those that come later."""
        self._closed = True
        for watcher in self._watchers:
            watcher.close()

    @contextmanager
    def watch(self, size: int = QUEUE) -> Iterator[Watcher]:
        """Watch until the block ends."""
        watcher = Watcher(size)
        if self._closed:
            watcher.close()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
