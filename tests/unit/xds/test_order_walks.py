"""Random walks of an Envoy through changes of its ports: no listener ever lacks its cluster."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from control_plane.xds.refusal import NodeRefusals
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, LISTENER, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.faithful import FaithfulClient, FaithfulDelta, FaithfulSotw
from tests.unit.xds.walking import SHORT_WALK, WalkToRest

TYPES = ResourceTypes.of()

clusters = st.sampled_from("abc")
ports = st.dictionaries(
    st.sampled_from("xyz"), st.tuples(clusters, st.integers(1, 2), st.booleans()), max_size=3
)


class OrderWalk(WalkToRest):
    """One Envoy on one aggregated stream, which asks for all clusters and all listeners."""

    delta: bool

    @initialize(applies_good=st.booleans())
    def start(self, *, applies_good: bool) -> None:
        """Connect to a server that has nothing for the node."""
        client: type[FaithfulClient] = FaithfulDelta if self.delta else FaithfulSotw
        self.client = client(
            {CLUSTER, LISTENER},
            lambda resource: resource.body.endswith(b"!") and not self.cured,
            lambda _url, _name: False,
            applies_good=applies_good,
        )
        self.cured = False
        self.now = 0.0
        self.snapshot = Snapshot()
        self.cluster_of: dict[str, str] = {}
        self.refusals = NodeRefusals()
        self._open()
        for url in (CLUSTER, LISTENER):
            self.client.subscribe(url, frozenset(), wildcard=True)

    def _open(self) -> None:
        self.stream = Stream(TYPES)
        self.stream.bind(self.refusals)

    def _push(self) -> None:
        self.client.inbox.extend(self.stream.replies(self.snapshot, self.now))

    @rule(ports=ports, version=st.integers(1, 2), unused=st.frozensets(clusters))
    def change(
        self, ports: dict[str, tuple[str, int, bool]], version: int, unused: frozenset[str]
    ) -> None:
        """The node should have other ports: listeners, each with its cluster."""
        listeners = []
        for name, (cluster, number, bad) in ports.items():
            body = f"{name} to {cluster}, {number}{'!' if bad else ''}"
            listeners.append(Resource.of(LISTENER, name, body.encode()))
            self.cluster_of[listeners[-1].version] = cluster
        used = {cluster for cluster, _number, _bad in ports.values()} | unused
        bodies = {name: f"{name} {version}".encode() for name in used}
        types: dict[TypeUrl, TypeSnapshot] = {
            CLUSTER: TypeSnapshot.of(Resource.of(CLUSTER, *each) for each in bodies.items()),
            LISTENER: TypeSnapshot.of(listeners),
        }
        self.snapshot = Snapshot(types)
        self._push()

    @precondition(lambda self: self.client.outbox)
    @rule()
    def deliver(self) -> None:
        """A request reaches the server."""
        request = self.client.outbox.popleft()
        self.stream.identify(request)
        self.stream.receive(request, self.now)
        self._push()

    @precondition(lambda self: self.client.inbox)
    @rule()
    def read(self) -> None:
        """The client applies a response; whatever it has of listeners works."""
        self.client.read()
        for name, version in self.client.of(LISTENER).content.items():
            assert self.cluster_of[version] in self.client.of(CLUSTER).content, f"{name} is broken"

    @rule(seconds=st.sampled_from([0.5, 1.0, 100.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self._push()

    @precondition(lambda self: self.delta)
    @rule()
    def reconnect(self) -> None:
        """The stream breaks; a SotW client, which cannot say what it has, might lose a cluster."""
        self.client.reconnect()
        self._open()

    @rule()
    def churn(self) -> None:
        """Clusters change before each answer; the listeners, which do not, leave all the same."""
        self.cured = True
        clusters = self.snapshot.of_type(CLUSTER).resources
        for number in range(20):
            self.now += 100.0
            changed = (
                Resource.of(CLUSTER, each, f"{each} {10 + number}".encode()) for each in clusters
            )
            self.snapshot = Snapshot({**self.snapshot.types, CLUSTER: TypeSnapshot.of(changed)})
            self._push()
            for _ in range(len(self.client.outbox)):
                self.deliver()
            while self.client.inbox:
                self.read()
        self.cured = False
        should_have = self.snapshot.of_type(LISTENER).resources.items()
        assert (
            self.client.of(LISTENER).content.items()
            >= {n: r.version for n, r in should_have}.items()
        )

    @rule()
    def settle(self) -> None:
        """Everything is delivered and answered; then the client has what it should have."""
        self.cured = True
        for _ in range(100):
            while self.client.outbox or self.client.inbox:
                if self.client.outbox:
                    self.deliver()
                else:
                    self.read()
            retry = self.stream.next_due(self.now)
            if retry is None:
                break
            self.now = retry
            self._push()
        else:
            raise AssertionError("it never ends")
        self.cured = False
        for url in (CLUSTER, LISTENER):
            should_have = self.snapshot.of_type(url).resources.items()
            assert self.client.of(url).content == {n: each.version for n, each in should_have}
        assert self.stream.in_step(self.snapshot)


class DeltaOrderWalk(OrderWalk):
    """A walk of a client of the incremental variant."""

    delta = True


class SotwOrderWalk(OrderWalk):
    """A walk of a client of the state-of-the-world variant."""

    delta = False


def test_no_listener_of_a_delta_client_is_ever_without_its_cluster() -> None:
    """O1, O6, C1: whatever changes, is refused, or happens while the client is away."""
    run_state_machine_as_test(DeltaOrderWalk, settings=SHORT_WALK)


def test_no_listener_of_a_sotw_client_is_ever_without_its_cluster() -> None:
    """O1, O6, R3: whatever changes or is refused as long as the stream lasts."""
    run_state_machine_as_test(SotwOrderWalk, settings=SHORT_WALK)
