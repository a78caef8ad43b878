"""The two variants side by side: the same history leads both clients to the same content."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LISTENER, SECRET, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.faithful import FaithfulClient, FaithfulDelta, FaithfulSotw
from tests.unit.xds.walking import SCRIPT

NAMES = "abc"


@dataclass(frozen=True, slots=True)
class Put:
    """The node should have this content of a name from now on, or nothing of that name."""

    url: TypeUrl
    name: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Want:
    """The client wants these names, all, or some of them not any more."""

    url: TypeUrl
    names: frozenset[str]
    wildcard: bool
    more: bool


@dataclass(frozen=True, slots=True)
class Exchange:
    """So many messages go each way; None for all that there are."""

    messages: int | None


@dataclass(frozen=True, slots=True)
class Reconnect:
    """The stream breaks."""


Event = Put | Want | Exchange | Reconnect

urls = st.sampled_from([CLUSTER, ENDPOINT, LISTENER, SECRET])
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Put, urls, st.sampled_from(NAMES), st.none() | st.integers(1, 3)),
    st.builds(Want, urls, st.frozensets(st.sampled_from(NAMES)), st.booleans(), st.booleans()),
    st.builds(Exchange, st.none() | st.integers(1, 2)),
    st.builds(Reconnect),
)


class Side:
    """One client of one variant with its server."""

    def __init__(self, client: type[FaithfulClient]) -> None:
        """Start with nothing."""
        self.client = client(
            {CLUSTER, LISTENER}, lambda _: False, lambda _url, _name: False, applies_good=True
        )
        self.snapshot = Snapshot()
        self.stream = Stream(ResourceTypes.of())

    def live(self, event: Event) -> None:
        """Let something happen."""
        match event:
            case Put(url, name, number):
                mine = {**self.snapshot.of_type(url).resources}
                mine.pop(name, None)
                if number is not None:
                    mine[name] = Resource.of(url, name, f"{name}@{number}".encode())
                kind = TypeSnapshot.of(mine.values())
                self.snapshot = Snapshot({**self.snapshot.types, url: kind})
            case Want(url, names, wildcard, more):
                change = self.client.subscribe if more else self.client.unsubscribe
                change(url, names, wildcard=wildcard)
            case Exchange(messages):
                self._exchange(1000 if messages is None else messages)
            case Reconnect():
                self.client.reconnect()
                self.stream = Stream(ResourceTypes.of())
        self._push()

    def _exchange(self, limit: int) -> None:
        for _ in range(limit):
            if self.client.inbox:
                self.client.read()
            if self.client.outbox:
                request = self.client.outbox.popleft()
                self.stream.identify(request)
                self.stream.receive(request, 0.0)
                self._push()
        quiet = not self.client.inbox and not self.client.outbox
        assert quiet or limit < 1000, "it never ends"

    def _push(self) -> None:
        self.client.inbox.extend(self.stream.replies(self.snapshot, 0.0))


@SCRIPT
@given(st.lists(events, max_size=30))
def test_both_variants_end_with_the_same_content(script: list[Event]) -> None:
    """V1, W1, C2: what a client has in the end depends on snapshot and interest alone."""
    delta, sotw = Side(FaithfulDelta), Side(FaithfulSotw)
    for side in (delta, sotw):
        for event in [*script, Exchange(None)]:
            side.live(event)
    for url, content in delta.snapshot.types.items():
        expected = {n: each.version for n, each in content.resources.items()}
        interest = delta.client.of(url)
        expected = {name: v for name, v in expected.items() if interest.wants(name)}
        assert interest.content == expected
        # A SotW client is never told that an endpoint or a secret is gone.
        has = sotw.client.of(url).content
        assert {name: v for name, v in has.items() if name in content.resources} == expected
