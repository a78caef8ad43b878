"""Random walks of clients that ask for whole collections, for single names, and for everything."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from control_plane.xds.delivery import ConfigStatus, deliveries
from control_plane.xds.messages import Reply
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, ENDPOINT
from tests.unit.xds.client_walk import ClientWalk
from tests.unit.xds.faithful import FaithfulClient, FaithfulDelta, FaithfulSotw, Interest
from tests.unit.xds.walking import WALK

NAMES = ("xdstp://a/T/x/1", "xdstp://a/T/x/2", "xdstp://a/T/y/1", "plain")
GIVEN = (*NAMES, "xdstp://a/T/x/*", "xdstp://a/T/y/*")

some_names = st.frozensets(st.sampled_from(GIVEN), max_size=2)


class GlobWalk(ClientWalk):
    """A client that asks for collections."""

    @initialize(url=st.sampled_from([CLUSTER, ENDPOINT]), applies_good=st.booleans())
    def start(self, url: TypeUrl, *, applies_good: bool) -> None:
        """Start with nothing."""
        self.begin(url)
        client: type[FaithfulClient] = FaithfulDelta if self.delta else FaithfulSotw
        self.peer = self.client = client(
            frozenset({CLUSTER}),
            self.is_bad,
            lambda _url, _name: False,
            applies_good=applies_good,
        )

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
        self.set([Resource.of(self.url, name, body) for name, body in bodies.items()])

    def look_at(self, reply: Reply) -> None:
        """Say what is wrong with a response."""
        super().look_at(reply)
        collections = self.snapshot.of_type(self.url).collections
        assert collections.keys().isdisjoint(reply.removed), "a collection that is not empty"

    def compare(self) -> None:
        """Compare what the client has with what it wants."""
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
