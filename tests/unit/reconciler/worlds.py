"""A reconciler with everything that it needs, and clients of its streams without sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from control_plane.ca import (
    Authority,
    KeyPair,
    Profile,
    create_authority,
    new_key_pair,
)
from control_plane.ca.certificate import Certificate
from control_plane.clock import Clock
from control_plane.model.change import Decision
from control_plane.model.draining import leave_draining
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.model.tombstones import leave_tombstones
from control_plane.names import InstanceGuid
from control_plane.nodes import LiveStream, Nodes, Variant
from control_plane.planner import NAME_TABLE, NAME_TABLE_TYPE, Planner, PlanOptions
from control_plane.reconciler.certificates.custody import Custodian, Custody
from control_plane.reconciler.certificates.held import Held
from control_plane.reconciler.certificates.issuer_process import PROGRAM
from control_plane.reconciler.certificates.issuers import Issuers
from control_plane.reconciler.draining import DRAIN_SECONDS
from control_plane.reconciler.reconciler import Reconciler
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.messages import DeltaRequest, ErrorDetail, Node, Reply
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET, ResourceTypes
from control_plane.xds.stream import Stream
from tests.tls_pairs import leaf_in
from tests.unit.reconciler.clocks import NOON, ManualClock, settled

DAY = timedelta(hours=24)

C2C_SECRET, ID_SECRET = "c2c-cert-and-key", "id-cert-and-key"


def authority(lifetime: timedelta = timedelta(days=30)) -> Authority:
    """Return a CA that is valid at noon."""
    return create_authority("test CA", now=NOON, lifetime=lifetime, key=new_key_pair(), serial=1)


class Serials:
    """Gives serial numbers, and bad ones while the test says so."""

    def __init__(self) -> None:
        """Start with good ones."""
        self._next = itertools.count(1000)
        self.are_bad = False

    def __call__(self) -> int:
        """Return a serial number; 0 is none, so that issuing fails."""
        return 0 if self.are_bad else next(self._next)


class World:
    """What was committed, and a reconciler that follows it; nothing runs by itself."""

    def __init__(
        self,
        state: State,
        *,
        lifetime: timedelta = DAY,
        planner: Planner | None = None,
        after: World | None = None,
        has_issuers: bool = False,
    ) -> None:
        """Start with this State, as after a restart.

        Args:
            state: what is on the disk.
            lifetime: of certificates.
            planner: another than the usual one.
            after: the run before, whose CA and records are on the disk too, and whose time goes on.
            has_issuers: whether a second process issues for crowds.
        """
        self.clock: ManualClock = after.clock if after else ManualClock()
        self.nodes = Nodes()
        self.serials = Serials()
        profile = Profile(lifetime=lifetime)
        self.authority: Authority = after.authority if after else authority()
        self.records: dict[tuple[InstanceGuid, str], IssuedRecord] = (
            dict(after.records) if after else {}
        )
        self.made_here = 0
        custodian = Custodian(
            lambda: self.authority, profile, self._new_key, self.serials, self._note
        )
        self.custody = Custody(custodian, self.records.values())
        self.planner = planner or Planner(PlanOptions())
        self.issuers = Issuers(PROGRAM, lambda: self.authority, profile, self.serials, self.clock)
        self.reconciler = Reconciler(
            state,
            self.nodes,
            self.planner,
            self.custody,
            self.clock,
            self.issuers if has_issuers else None,
        )
        self.nodes.observe(self.reconciler)
        self._numbers = itertools.count(1)

    def _new_key(self) -> KeyPair:
        self.made_here += 1
        return new_key_pair()

    def _note(self, record: IssuedRecord) -> None:
        self.records[record.instance_guid, record.secret] = record

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the reconciler work until the block ends."""
        work = asyncio.create_task(self.reconciler.run())
        await settled()
        try:
            yield
        finally:
            assert not work.done(), "the reconciler stopped by itself"
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    @property
    def state(self) -> State:
        """The State that the reconciler was told last."""
        return self.reconciler.state

    def commit(self, decision: Decision[Any]) -> None:
        """Tell the reconciler of a change, as the registry does."""
        decision = leave_tombstones(decision, lambda _: self.clock.now() + timedelta(hours=24))
        drained = self.clock.now() + timedelta(seconds=DRAIN_SECONDS)
        decision = leave_draining(self.state, decision, drained)
        self.reconciler.committed(decision.state, decision.change)

    def ready(self, guid: str) -> None:
        """Say that an instance is connected and listens."""
        self.commit(set_status(self.state, InstanceGuid(guid), InstanceStatus.READY))

    def connect(self, guid: str) -> Peer:
        """Open a stream for an instance; it asks for nothing yet."""
        return Peer(self, guid, next(self._numbers))

    def leaf(self, guid: str, name: str = C2C_SECRET) -> Certificate:
        """Return the certificate that an instance should have."""
        held = self.custody.get(InstanceGuid(guid), name)
        assert isinstance(held, Held)
        return leaf_in(held.resource)


class Side(Protocol):
    """What a client needs of the other side."""

    @property
    def nodes(self) -> Nodes:
        """The streams and snapshots."""

    @property
    def clock(self) -> Clock:
        """The time by which it is answered."""


class Peer:
    """A client of one stream that answers when the test says so.

    Attributes:
        has: what it accepted, by type and name.
    """

    def __init__(self, world: Side, guid: str, number: int) -> None:
        """Open the stream."""
        self._world = world
        self._node = Node(guid)
        stream = Stream(ResourceTypes.of())
        stream.identify(DeltaRequest(CLUSTER, node=self._node))
        self.live = LiveStream(number, stream, Variant.DELTA, "peer", (), datetime.now(UTC))
        self.has: dict[tuple[TypeUrl, str], Resource] = {}
        self.unanswered: list[Reply] = []
        world.nodes.opened(self.live)

    def ask(self, type_url: TypeUrl, *names: str, has: Mapping[str, str] | None = None) -> None:
        """Subscribe to names of a type, or to all of it; say at first what it has of it."""
        self._send(DeltaRequest(type_url, names, initial_resource_versions=has or {}))

    def as_envoy(self) -> Peer:
        """Ask for what Envoy asks for, and accept it."""
        self.ask(CLUSTER)
        self.ask(LISTENER)
        self.settle()
        self.ask(SECRET, C2C_SECRET, ID_SECRET)
        self.settle()
        return self

    def as_static_envoy(self) -> Peer:
        """Ask for what an Envoy with a static listener asks for, and accept it."""
        self.ask(SECRET, C2C_SECRET)
        self.settle()
        return self

    def as_resolver(self) -> Peer:
        """Ask for the name table, and accept it."""
        self.ask(NAME_TABLE_TYPE, NAME_TABLE)
        self.settle()
        return self

    def receive(self) -> list[Reply]:
        """Take what the server has to say by now; it waits for an answer."""
        snapshot = self._world.nodes.sendable(self.live.node_id)
        replies = (
            self.live.stream.replies(snapshot, self._world.clock.monotonic()) if snapshot else []
        )
        for reply in replies:
            self._world.nodes.sent(self.live, reply)
        self.unanswered += replies
        return replies

    def ack(self) -> None:
        """Accept all that was received."""
        for reply in self._answered():
            self.has |= {(reply.type_url, each.name): each for each in reply.resources}
            self._send(DeltaRequest(reply.type_url, response_nonce=reply.nonce))

    def nack(self, why: str) -> None:
        """Refuse all that was received."""
        for reply in self._answered():
            self._refuse(reply, why)

    def settle(self) -> None:
        """Accept everything until the server has no more to say."""
        while self.receive() or self.unanswered:
            self.ack()

    def settle_without(self, refused: str) -> None:
        """Accept everything but one resource; a response that has it is refused as a whole."""
        while self.receive() or self.unanswered:
            for reply in tuple(self.unanswered):
                if any(each.name == refused for each in reply.resources):
                    self.unanswered.remove(reply)
                    self._refuse(reply, "cannot bind: Address already in use")
            self.ack()

    def close(self) -> None:
        """Go away."""
        self._world.nodes.closed(self.live)

    def _answered(self) -> Iterator[Reply]:
        while self.unanswered:
            yield self.unanswered.pop(0)

    def _refuse(self, reply: Reply, why: str) -> None:
        error = ErrorDetail(13, why)
        self._send(DeltaRequest(reply.type_url, response_nonce=reply.nonce, error_detail=error))

    def _send(self, request: DeltaRequest) -> None:
        events = self.live.stream.receive(request, self._world.clock.monotonic())
        self._world.nodes.told(self.live, events)
