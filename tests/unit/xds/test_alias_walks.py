"""Random walks of a delta client that asks by aliases and knows what it has by its name.

The rule of this module: the client is Envoy as it takes virtual hosts. It keeps what it was sent
until it is told by its name that it is gone, whatever it gave up meanwhile.
"""

from __future__ import annotations

from collections import deque

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from control_plane.xds.delivery import ConfigStatus, deliveries
from control_plane.xds.messages import DeltaRequest, ErrorDetail, Node, Reply
from control_plane.xds.resource import WILDCARD, Resource, TypeUrl
from control_plane.xds.resource_type import (
    ENDPOINT,
    ROUTE,
    VIRTUAL_HOST,
    AfterNack,
    ResourceType,
    ResourceTypes,
)
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.walking import WALK, WalkToRest

NAMES = ("r/a", "r/b", "r/c")
ALIASES = ("r/x", "r/y", "r/z")
GIVEN = (*NAMES, *ALIASES, WILDCARD)

TYPES = ResourceTypes.of(
    [
        ResourceType(ENDPOINT, after_nack=AfterNack.AFTER_A_WHILE),
        ResourceType(VIRTUAL_HOST, after_nack=AfterNack.AFTER_A_WHILE, part_of=ROUTE),
    ]
)
"""What is refused is taken later, so that every walk has an end."""

some_names = st.frozensets(st.sampled_from(GIVEN), min_size=1, max_size=2)


class AliasWalk(WalkToRest):
    """One node and one client of one type; requests and responses move at random."""

    url: TypeUrl

    @initialize()
    def start(self) -> None:
        """Start with nothing."""
        self.now = 1000.0
        self.snapshot = Snapshot()
        self.wanted: set[str] = set()
        self.has: dict[str, Resource] = {}
        self.unanswered: set[str] = set()
        self._open()

    def _open(self) -> None:
        self.stream = Stream(TYPES)
        self.outbox: deque[DeltaRequest] = deque()
        self.inbox: deque[Reply] = deque()

    def _means(self, resource: Resource) -> bool:
        """Tell whether the client has a name for a resource."""
        names = {resource.name, *resource.aliases}
        if self.url != VIRTUAL_HOST:
            names.add(WILDCARD)
        return not self.wanted.isdisjoint(names)

    @rule(names=some_names)
    def subscribe(self, names: frozenset[str]) -> None:
        """The client wants more, maybe something again."""
        self.wanted |= names
        self.unanswered |= names
        self._say(names, frozenset())

    @rule(names=some_names)
    def unsubscribe(self, names: frozenset[str]) -> None:
        """The client wants less; what it gives up by its name it lets go of at once."""
        for name in self.wanted & names - {WILDCARD}:
            self.has.pop(name, None)
        self.wanted -= names
        self.unanswered -= names
        if WILDCARD in names:
            self.has = {name: each for name, each in self.has.items() if self._means(each)}
        self._say(frozenset(), names)

    def _say(self, added: frozenset[str], dropped: frozenset[str]) -> None:
        node = None if self.stream.node or self.outbox else Node("n")
        lists = tuple(sorted(added)), tuple(sorted(dropped))
        self.outbox.append(DeltaRequest(self.url, *lists, node=node))

    @rule(
        meanings=st.dictionaries(st.sampled_from(ALIASES), st.sampled_from(NAMES)),
        bodies=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3)),
    )
    def change(self, meanings: dict[str, str], bodies: dict[str, int]) -> None:
        """Resources appear, change and go, and aliases mean others than before."""
        resources = [
            Resource.of(
                self.url,
                name,
                f"{name}@{number}".encode(),
                sorted(alias for alias, meant in meanings.items() if meant == name),
            )
            for name, number in bodies.items()
        ]
        self.snapshot = Snapshot({self.url: TypeSnapshot.of(resources)})
        self._push()

    @precondition(lambda self: self.outbox)
    @rule()
    def deliver(self) -> None:
        """A request reaches the server."""
        request = self.outbox.popleft()
        self.stream.identify(request)
        self.stream.receive(request, self.now)
        if self.stream.has_said_all(self.snapshot):
            assert self.stream.replies(self.snapshot, self.now) == []
        self._push()

    def _push(self) -> None:
        for reply in self.stream.replies(self.snapshot, self.now):
            names = [*(each.name for each in reply.resources), *reply.removed, *reply.unresolved]
            assert len(names) == len(set(names)), "a name comes twice"
            assert set(reply.unresolved) <= set(GIVEN)
            assert self.url == VIRTUAL_HOST or not reply.unresolved
            self.inbox.append(reply)
        assert self.stream.replies(self.snapshot, self.now) == []

    @precondition(lambda self: self.inbox)
    @rule(refuses=st.booleans())
    def read(self, *, refuses: bool) -> None:
        """The client takes the next response, or refuses all of it."""
        reply = self.inbox.popleft()
        error = ErrorDetail(13, "no") if refuses else None
        self.unanswered.discard(WILDCARD)  # refused or not: it is not for any one resource
        if not refuses:
            self._apply(reply)
        self.outbox.append(DeltaRequest(self.url, response_nonce=reply.nonce, error_detail=error))

    def _apply(self, reply: Reply) -> None:
        for name in reply.removed:
            self.has.pop(name, None)
        for each in reply.resources:
            if self._means(each):
                self.has[each.name] = each
            self.unanswered -= {each.name, *each.aliases}
        self.unanswered -= {*reply.removed, *reply.unresolved}

    @rule()
    def reconnect(self) -> None:
        """The stream breaks; the client says what it wants, and has if that are virtual hosts."""
        self._open()
        if self.url != VIRTUAL_HOST:
            self.has = {}
        if self.wanted:
            self.unanswered = set(self.wanted)
            has = {name: each.version for name, each in self.has.items()}
            names = tuple(sorted(self.wanted))
            self.outbox.append(
                DeltaRequest(self.url, names, initial_resource_versions=has, node=Node("n"))
            )
        else:
            self.has = {}

    @rule()
    def settle(self) -> None:
        """Once all is said, the client has what it has a name for and nothing else."""
        for _ in range(200):
            if self.outbox:
                self.deliver()
            elif self.inbox:
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
        has = {name: each.version for name, each in self.has.items()}
        assert has == {n: each.version for n, each in content.items() if self._means(each)}
        assert not self.unanswered
        assert self.stream.in_step(self.snapshot)
        for each in deliveries(self.stream, self.snapshot):
            assert each.status is ConfigStatus.SYNCED
            assert each.name in self.has


class VirtualHosts(AliasWalk):
    """A walk of a client of virtual hosts."""

    url = VIRTUAL_HOST


class Endpoints(AliasWalk):
    """A walk of a client of a type that a wildcard brings."""

    url = ENDPOINT


def test_clients_of_virtual_hosts_end_up_with_what_they_asked_for() -> None:
    """W7, W9, W12, W13, C1, R1: no walk leaves them with more, or less, or without an answer."""
    run_state_machine_as_test(VirtualHosts, settings=WALK)


def test_clients_that_ask_by_aliases_end_up_with_what_these_mean() -> None:
    """W7, W9, W12, W13, R1: whatever the aliases meant before, and whatever was refused."""
    run_state_machine_as_test(Endpoints, settings=WALK)
