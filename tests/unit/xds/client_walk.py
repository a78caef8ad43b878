"""The random walk of one client of one type: what it wants is up to each walk."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from control_plane.xds.messages import Reply, Request
from control_plane.xds.refusal import NodeRefusals
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    AfterNack,
    ResourceType,
    ResourceTypes,
)
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.walking import WalkToRest

TYPES = ResourceTypes.of(
    [
        ResourceType(CLUSTER, complete=True, after_nack=AfterNack.AFTER_A_WHILE),
        ResourceType(ENDPOINT, after_nack=AfterNack.AFTER_A_WHILE, batch=2),
    ]
)
"""What is refused is taken later, so that every walk has an end."""


class Client(Protocol):
    """A client with what is under way to it, and from it."""

    outbox: deque[Request]
    inbox: deque[Reply]

    def read(self) -> None:
        """Take the next response, and answer it."""

    def reconnect(self) -> None:
        """Say once more what it wants, and what it has."""


class ClientWalk(WalkToRest):
    """One node and one client of one type; requests and responses move at random."""

    delta: bool
    peer: Client

    def begin(self, url: TypeUrl) -> None:
        """Start with nothing, and a stream that is open."""
        self.url = url
        self.now = 1000.0
        self.refuses = False
        self.snapshot = Snapshot()
        self.refusals = NodeRefusals()
        self._open()

    def _open(self) -> None:
        self.stream = Stream(TYPES)
        self.stream.bind(self.refusals)

    def is_bad(self, resource: Resource) -> bool:
        """Tell whether the client cannot use a content now."""
        return self.refuses and resource.body.endswith(b"3")

    def set(self, resources: list[Resource]) -> None:
        """Give the node these resources."""
        self.snapshot = Snapshot({self.url: TypeSnapshot.of(resources)})
        self.push()

    @precondition(lambda self: self.peer.outbox)
    @rule()
    def deliver(self) -> None:
        """A request reaches the server."""
        request = self.peer.outbox.popleft()
        self.stream.identify(request)
        self.stream.receive(request, self.now)
        if self.stream.has_said_all(self.snapshot):
            assert self.stream.replies(self.snapshot, self.now) == []
        self.push()

    def push(self) -> None:
        """Have the server send what it owes."""
        for reply in self.stream.replies(self.snapshot, self.now):
            self.look_at(reply)
            self.peer.inbox.append(reply)
        assert self.stream.replies(self.snapshot, self.now) == []

    def look_at(self, reply: Reply) -> None:
        """Say what is wrong with a response."""
        names = [*(each.name for each in reply.resources), *reply.removed]
        assert len(names) == len(set(names)), "a name comes twice"

    @precondition(lambda self: self.peer.inbox)
    @rule(refuses=st.booleans())
    def read(self, *, refuses: bool) -> None:
        """The client takes the next response, or refuses what it cannot use now."""
        self.refuses = refuses
        self.peer.read()

    @rule()
    def reconnect(self) -> None:
        """The stream breaks; the client says what it wants, and in delta what it has."""
        self.peer.reconnect()
        self._open()

    @rule()
    def settle(self) -> None:
        """Once all is said, the client has what it should have."""
        for _ in range(200):
            if self.peer.outbox:
                self.deliver()
            elif self.peer.inbox:
                self.read(refuses=False)
            else:
                retry = self.stream.next_due(self.now)
                if retry is None:
                    break
                self.now = retry
                self.push()
        else:
            raise AssertionError("it never ends")
        self.compare()

    def compare(self) -> None:
        """Compare what the client has with what it should have."""
        raise NotImplementedError
