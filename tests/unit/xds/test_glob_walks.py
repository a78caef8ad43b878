"""Random walks of clients that ask for whole collections, for single names, and for everything."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from control_plane.xds.delivery import deliveries
from control_plane.xds.exchange import ConfigStatus
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
from tests.unit.xds.faithful import FaithfulClient, FaithfulDelta, FaithfulSotw, Interest
from tests.unit.xds.walking import WALK, WalkToRest

NAMES = ("xdstp://a/T/x/1", "xdstp://a/T/x/2", "xdstp://a/T/y/1", "plain")
GIVEN = (*NAMES, "xdstp://a/T/x/*", "xdstp://a/T/y/*")

TYPES = ResourceTypes.of(
    [
        ResourceType(CLUSTER, complete=True, after_nack=AfterNack.AFTER_A_WHILE),
        ResourceType(ENDPOINT, after_nack=AfterNack.AFTER_A_WHILE, batch=2),
    ]
)
"""What is refused is taken later, so that every walk has an end."""

some_names = st.frozensets(st.sampled_from(GIVEN), max_size=2)


class GlobWalk(WalkToRest):
    """One node and one client of one type; requests and responses move at random."""

    delta: bool

    @initialize(url=st.sampled_from([CLUSTER, ENDPOINT]), applies_good=st.booleans())
    def start(self, url: TypeUrl, *, applies_good: bool) -> None:
        """Start with nothing."""
        self.url = url
        self.now = 1000.0
        self.refuses = False
        self.snapshot = Snapshot()
        self.refusals = NodeRefusals()
        client: type[FaithfulClient] = FaithfulDelta if self.delta else FaithfulSotw
        self.client = client(
            frozenset({CLUSTER}),
            lambda resource: self.refuses and resource.body.endswith(b"3"),
            lambda _url, _name: False,
            applies_good=applies_good,
        )
        self._open()

    def _open(self) -> None:
        self.stream = Stream(TYPES)
        self.stream.bind(self.refusals)

    @property
    def interest(self) -> Interest:
        """What the client has and wants."""
        return self.client.of(self.url)

    @rule(names=some_names, wildcard=st.booleans())
    def subscribe(self, names: frozenset[str], *, wildcard: bool) -> None:
        """The client wants more, maybe something again."""
        self.client.subscribe(self.url, names, wildcard=wildcard)

    @rule(names=some_names, wildcard=st.booleans())
    def unsubscribe(self, names: frozenset[str], *, wildcard: bool) -> None:
        """The client wants less; what it gives up in delta it lets go of at once."""
        self.client.unsubscribe(self.url, names, wildcard=wildcard)

    @rule(numbers=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3)))
    def change(self, numbers: dict[str, int]) -> None:
        """Resources appear, change and go."""
        bodies = {name: f"{name}@{number}".encode() for name, number in numbers.items()}
        resources = [Resource.of(self.url, name, body) for name, body in bodies.items()]
        self.snapshot = Snapshot({self.url: TypeSnapshot.of(resources)})
        self._push()

    @precondition(lambda self: self.client.outbox)
    @rule()
    def deliver(self) -> None:
        """A request reaches the server."""
        request = self.client.outbox.popleft()
        self.stream.identify(request)
        self.stream.receive(request, self.now)
        self._push()

    def _push(self) -> None:
        for reply in self.stream.replies(self.snapshot, self.now):
            names = [*(each.name for each in reply.resources), *reply.removed]
            assert len(names) == len(set(names)), "a name comes twice"
            collections = self.snapshot.of_type(self.url).collections
            assert collections.keys().isdisjoint(reply.removed), "a collection that is not empty"
            self.client.inbox.append(reply)
        assert self.stream.replies(self.snapshot, self.now) == []

    @precondition(lambda self: self.client.inbox)
    @rule(refuses=st.booleans())
    def read(self, *, refuses: bool) -> None:
        """The client takes the next response, or refuses what it cannot use now."""
        self.refuses = refuses
        self.client.read()

    @rule()
    def reconnect(self) -> None:
        """The stream breaks; the client says what it wants, and in delta what it has."""
        self.client.reconnect()
        self._open()

    @rule()
    def settle(self) -> None:
        """Once all is said, the client has what it wants and nothing else."""
        for _ in range(200):
            if self.client.outbox:
                self.deliver()
            elif self.client.inbox:
                self.read(refuses=False)
            else:
                retry = self.stream.next_due(self.now)
                if retry is None:
                    break
                self.now = retry
                self._push()
        else:
            raise AssertionError("it never ends")
        content = self.snapshot.of_type(self.url).resources
        wanted = {n: each.version for n, each in content.items() if self.interest.wants(n)}
        has = self.interest.content
        if not self.delta and self.url == ENDPOINT:
            # Of what is sent in part it does not learn that it is gone.
            has = {name: version for name, version in has.items() if name in content}
        assert has == wanted
        assert self.stream.in_step(self.snapshot)
        found = list(deliveries(self.stream, self.snapshot))
        assert {each.name for each in found} == wanted.keys() or not self.stream.machines
        assert all(each.status is ConfigStatus.SYNCED for each in found)


class DeltaGlobs(GlobWalk):
    """A walk of a client of the incremental variant."""

    delta = True


class SotwGlobs(GlobWalk):
    """A walk of a client of the state-of-the-world variant."""

    delta = False


def test_delta_clients_of_collections_end_up_with_what_is_in_them() -> None:
    """E4, C1, W9, W12, R1: however collections, names and the wildcard overlap."""
    run_state_machine_as_test(DeltaGlobs, settings=WALK)


def test_sotw_clients_of_collections_end_up_with_what_is_in_them() -> None:
    """E4, W2, W5, R1, R3: however collections, names and the wildcard overlap."""
    run_state_machine_as_test(SotwGlobs, settings=WALK)
