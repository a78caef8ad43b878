"""One random walk: a faithful client, a changing snapshot, and a referee who watches it all."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)

from control_plane.xds.delivery import ConfigStatus, deliveries
from control_plane.xds.messages import Node
from control_plane.xds.refusal import NodeRefusals
from control_plane.xds.resource import Resource, TypeUrl, Version
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LISTENER,
    ROUTE,
    SCOPED_ROUTE,
    SECRET,
    ResourceTypes,
)
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.faithful import FaithfulClient, FaithfulDelta, FaithfulSotw
from tests.unit.xds.referee import NEVER, Referee
from tests.unit.xds.walking import WalkToRest

TYPES = ResourceTypes.of()
URLS = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SCOPED_ROUTE, SECRET, EXTENSION_CONFIG)
COMPLETE = frozenset({CLUSTER, LISTENER, SCOPED_ROUTE})
CURABLE = frozenset(URLS) - {SECRET, EXTENSION_CONFIG}
"""Those of which the client is sent once more what it refused."""
NAMES = "abc"
FEATURES = ("supports-resource-error-unwrapping",)

# Which of the walk's types something happens to. Walks of few types reach further in each.
kinds = st.integers(0, 59)
names = st.sampled_from(NAMES)
some_names = st.frozensets(names, max_size=3)


class Walk(WalkToRest):
    """One node, one stream at a time, everything else at random."""

    delta: bool

    @initialize(
        urls=st.permutations(URLS),
        few=st.integers(1, 3),
        applies_good=st.booleans(),
        clings=st.booleans(),
        takes_errors=st.booleans(),
        interest=st.none() | st.tuples(some_names, st.booleans()),
    )
    def start(
        self,
        *,
        urls: list[TypeUrl],
        few: int,
        applies_good: bool,
        clings: bool,
        takes_errors: bool,
        interest: tuple[frozenset[str], bool] | None,
    ) -> None:
        """Start with nothing at all, or with a client that has what it wants."""
        client: type[FaithfulClient] = FaithfulDelta if self.delta else FaithfulSotw
        self.takes_errors = takes_errors
        node = Node("instance-1", client_features=frozenset(FEATURES if takes_errors else ()))
        self.client = client(
            COMPLETE, self._is_bad, self._clings_to, applies_good=applies_good, node=node
        )
        self.urls = urls[:few]
        self.clings = clings
        self.cured: frozenset[TypeUrl] = frozenset()
        self.now = 1000.0
        self.contents: dict[TypeUrl, dict[str, Resource | Version | None]] = defaultdict(dict)
        self.snapshot = Snapshot()
        self.refused: dict[tuple[TypeUrl, str], tuple[Version, float]] = {}
        self.gone: set[tuple[TypeUrl, str]] = set()
        self.refusals = NodeRefusals()
        self.serial = 0
        self._open()
        for kind in range(few if interest else 0):
            self.change(kind, frozenset(NAMES), 1, prompt=True)
            if interest:
                self.subscribe(kind, interest[0], wildcard=interest[1], prompt=True)

    def _open(self) -> None:
        self.stream = Stream(TYPES)
        self.stream.bind(self.refusals)
        self.referee = Referee(
            TYPES,
            delta=self.delta,
            refused=self.refused,
            gone=self.gone,
            takes_errors=self.takes_errors,
        )

    def _is_bad(self, resource: Resource) -> bool:
        """Tell whether the client cannot use a resource: one content in three, unless cured."""
        return resource.body.endswith(b"@3") and resource.type_url not in self.cured

    def _clings_to(self, url: TypeUrl, name: str) -> bool:
        """Tell whether the client will not let go of a resource."""
        return self.clings and name == "a" and url not in self.cured

    def _url(self, kind: int) -> TypeUrl:
        return self.urls[kind % len(self.urls)]

    def _put(self, url: TypeUrl, **contents: Resource | Version | None) -> None:
        mine = self.contents[url]
        mine |= contents
        kind = TypeSnapshot.of(
            [each for each in mine.values() if isinstance(each, Resource)],
            pending=[name for name, each in mine.items() if each is None],
            recorded={name: each for name, each in mine.items() if isinstance(each, str)},
        )
        self.snapshot = Snapshot({**self.snapshot.types, url: kind})

    def _push(self) -> int:
        self.referee.look(self.snapshot)
        replies = self.stream.replies(self.snapshot, self.now)
        for reply in replies:
            self.referee.reply(reply, self.snapshot, self.now)
            self.client.inbox.append(reply)
        return len(replies)

    def _exchange(self, *, prompt: bool = True) -> None:
        """Let everything that is under way arrive and be answered, if at all."""
        while prompt and (self.client.outbox or self.client.inbox):
            if self.client.outbox:
                self.deliver(several=False)
            else:
                self.client.read()

    @rule(kind=kinds, names=some_names, wildcard=st.booleans(), prompt=st.booleans())
    def subscribe(self, kind: int, names: frozenset[str], *, wildcard: bool, prompt: bool) -> None:
        """The client wants more."""
        self.client.subscribe(self._url(kind), names, wildcard=wildcard)
        self._exchange(prompt=prompt)

    @rule(kind=kinds, names=some_names, wildcard=st.booleans(), prompt=st.booleans())
    def unsubscribe(
        self, kind: int, names: frozenset[str], *, wildcard: bool, prompt: bool
    ) -> None:
        """The client wants less."""
        self.client.unsubscribe(self._url(kind), names, wildcard=wildcard)
        self._exchange(prompt=prompt)

    @rule(kind=kinds, number=st.integers(0, 5), prompt=st.booleans())
    def forget(self, kind: int, number: int, *, prompt: bool) -> None:
        """The client loses something and asks for it again."""
        url = self._url(kind)
        has = sorted(self.client.of(url).content) or sorted(NAMES)
        self.client.forget(url, has[number % len(has)])
        self._exchange(prompt=prompt)

    @precondition(lambda self: self.client.inbox)
    @rule()
    def read(self) -> None:
        """The client reads and answers a response."""
        self.client.read()

    @precondition(lambda self: self.stream.machines)
    @rule(restart=st.booleans(), prompt=st.booleans())
    def reconnect(self, *, restart: bool, prompt: bool) -> None:
        """The stream breaks, maybe because the server starts again.

        Then it knows the versions of secrets, and of refusals nothing.
        """
        if restart:
            issued = self.contents[SECRET].items()
            gone = {name: each.version for name, each in issued if isinstance(each, Resource)}
            self._put(SECRET, **gone)
            self.refusals = NodeRefusals()
            self.refused = {}
            self.gone = set()
        self.client.reconnect()
        self._open()
        self._exchange(prompt=prompt)

    @rule(cured=st.frozensets(st.sampled_from(sorted(CURABLE))))
    def cure(self, cured: frozenset[TypeUrl]) -> None:
        """A port is free again, or taken: the client can use what it refused, or not any more."""
        self.cured = cured

    @precondition(lambda self: self.client.outbox)
    @rule(several=st.booleans())
    def deliver(self, *, several: bool) -> None:
        """One request, or all that are there, reach the server before it answers."""
        for _ in range(len(self.client.outbox) if several else 1):
            request = self.client.outbox.popleft()
            self.stream.identify(request)
            self.stream.receive(request, self.now)
            self.referee.request(request, self.now)
        has_said_all = self.stream.has_said_all(self.snapshot)
        assert not (self._push() and has_said_all), "it said that it has nothing to say"

    @rule(kind=kinds, names=some_names, number=st.integers(1, 3), prompt=st.booleans())
    def change(self, kind: int, names: frozenset[str], number: int, *, prompt: bool) -> None:
        """Resources appear or change."""
        url = self._url(kind)
        bodies = {name: f"{name}@{number}".encode() for name in names}
        self._put(url, **{name: Resource.of(url, name, body) for name, body in bodies.items()})
        self._push()
        self._exchange(prompt=prompt)

    @rule(kind=kinds, names=some_names, prompt=st.booleans())
    def vanish(self, kind: int, names: frozenset[str], *, prompt: bool) -> None:
        """Resources are gone."""
        url = self._url(kind)
        for name in names:
            self.contents[url].pop(name, None)
        self._put(url)
        self._push()
        self._exchange(prompt=prompt)

    @rule(kind=kinds, name=names)
    def suspend(self, kind: int, name: str) -> None:
        """A resource is being made anew."""
        self._put(self._url(kind), **{name: None})
        self._push()

    @precondition(lambda self: self.stream.missing(self.snapshot))
    @rule()
    def issue(self) -> None:
        """What is missing is made anew."""
        for url, name in self.stream.missing(self.snapshot):
            self.serial += 1
            self._put(url, **{name: Resource.of(url, name, f"{name}@new{self.serial}".encode())})
        self._push()

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 100.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self._push()

    @invariant()
    def everything_was_said(self) -> None:
        """The stream has nothing to add to what it said, however often it is asked."""
        rested = self.stream.rests(self.snapshot)
        list(deliveries(self.stream, self.snapshot))
        assert self.stream.replies(self.snapshot, self.now) == []
        if rested:
            # It knows an equal snapshot not to be the one that it rests with, and looks.
            assert self.stream.replies(Snapshot(self.snapshot.types), self.now) == []
            assert self.stream.rests(self.snapshot)

    @rule()
    def settle(self) -> None:
        """Everything is delivered and answered; then the client has what it should have."""
        self.cured = CURABLE
        for _ in range(300):
            self._exchange()
            retry = self.stream.next_due(self.now)
            if retry is None and not self.stream.missing(self.snapshot):
                break
            self.now = retry or self.now
            self.issue()
            self._push()
        else:
            raise AssertionError("it never ends")
        for _ in range(3):
            self.now += 1e6
            assert not self._push(), "a response to nothing"
        assert self.referee.unanswered(self.snapshot, self.now) == []
        self._compare()

    def _compare(self) -> None:
        for url, interest in list(self.client.types.items()):
            for name in NAMES:
                self._compare_one(
                    url, name, interest.content.get(name), wanted=interest.wants(name)
                )
        for each in deliveries(self.stream, self.snapshot):
            has = self.client.of(each.type_url).content.get(each.name)
            assert (each.status is ConfigStatus.SYNCED) == (has == each.version)
            assert each.status in {ConfigStatus.SYNCED, ConfigStatus.ERROR}

    def _compare_one(self, url: TypeUrl, name: str, has: Version | None, *, wanted: bool) -> None:
        content = self.snapshot.of_type(url)
        resource = content.resources.get(name)
        if not wanted:
            assert has is None
        elif resource is not None:
            assert has == resource.version or self._is_quarantined(resource)
        elif name in content.recorded:
            assert has == content.recorded[name]
        elif name not in content.pending and self._hears_of_absence(url, name):
            assert has is None or self._is_kept(url) or self._clings_to(url, name)

    def _hears_of_absence(self, url: TypeUrl, name: str) -> bool:
        """Tell whether the client is told that there is no such resource."""
        asked = name in self.client.of(url).names
        return self.delta or url in COMPLETE or (self.takes_errors and asked)

    def _is_kept(self, url: TypeUrl) -> bool:
        """Tell whether a type that may refer to this one is not as it should be."""
        for follower in TYPES.followers(url):
            content = self.snapshot.of_type(follower)
            left = self.client.of(follower).content.keys() - content.resources.keys()
            may_have_less = self.delta or follower in COMPLETE or self.takes_errors
            if (
                (left and may_have_less)
                or content.pending
                or any(map(self._is_quarantined, content.resources.values()))
            ):
                return True
        return False

    def _is_quarantined(self, resource: Resource) -> bool:
        refused = self.refused.get((resource.type_url, resource.name))
        return refused == (resource.version, NEVER)
