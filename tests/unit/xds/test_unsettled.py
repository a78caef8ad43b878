"""What a response costs, in function calls: that follows what changed, not how much there is."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import DeltaRequest, Node, Request, SotwRequest
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, SECRET, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream

FEW, MANY = 100, 400


def secrets(number: int, changed: int = 0) -> Snapshot:
    """Return some Secrets, the first of which have other content."""
    bodies = [b"new" if each < changed else b"old" for each in range(number)]
    found = [Resource.of(SECRET, f"s{each}", body) for each, body in enumerate(bodies)]
    return Snapshot({SECRET: TypeSnapshot.of(found)})


class Client:
    """A client that asked for some Secrets by name, and ACKs whatever it is sent."""

    def __init__(self, number: int, *, delta: bool) -> None:
        """Ask for the Secrets."""
        self.delta = delta
        self.names = tuple(f"s{each}" for each in range(number))
        self.stream = Stream(ResourceTypes.of())
        self.say(
            DeltaRequest(SECRET, subscribe=self.names, node=Node("n"))
            if delta
            else SotwRequest(SECRET, self.names, node=Node("n"))
        )

    def say(self, request: Request) -> None:
        """Send a request."""
        self.stream.identify(request)
        self.stream.receive(request, 0.0)

    def settle(self, snapshot: Snapshot) -> int:
        """Take all that there is; return how many responses that were."""
        number = 0
        while replies := self.stream.replies(snapshot, 0.0):
            for reply in replies:
                number += 1
                self.say(
                    DeltaRequest(SECRET, response_nonce=reply.nonce)
                    if self.delta
                    else SotwRequest(SECRET, self.names, response_nonce=reply.nonce)
                )
        assert self.stream.in_step(snapshot)
        return number


def calls(function: Callable[[], object]) -> int:
    """Return how many function calls something takes."""
    profile = cProfile.Profile()
    profile.runcall(function)
    return sum(row[1] for row in pstats.Stats(profile).stats.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("delta", [True, False])
def test_secrets_that_all_change_cost_as_much_each_however_many_there_are(*, delta: bool) -> None:
    """Each has a response of its own, so that to look at all of them each time was quadratic."""

    def of_all(number: int) -> int:
        client = Client(number, delta=delta)
        client.settle(secrets(number))
        changed = secrets(number, changed=number)
        return calls(lambda: client.settle(changed))

    assert of_all(MANY) < 1.2 * MANY / FEW * of_all(FEW)


@pytest.mark.parametrize("delta", [True, False])
def test_secrets_that_a_client_has_cost_nothing_when_another_changes(*, delta: bool) -> None:
    """What differs from one snapshot to the next is found out once, for all who have the first."""

    def of_one(number: int) -> int:
        clients = [Client(number, delta=delta) for _ in range(2)]
        before, after = secrets(number), secrets(number, changed=1)
        for each in clients:
            each.settle(before)
        assert clients[0].settle(after) == 1
        return calls(lambda: clients[1].settle(after))

    assert of_one(MANY) == of_one(FEW)


def test_secrets_that_a_client_gives_up_cost_as_much_each_however_many_it_has() -> None:
    """So it does to forget them: only what is given up is looked at."""

    def of_one(number: int) -> int:
        client, snapshot = Client(number, delta=True), secrets(number)
        client.settle(snapshot)
        client.say(DeltaRequest(SECRET, unsubscribe=("s0",)))
        return calls(lambda: client.say(DeltaRequest(SECRET, unsubscribe=("s1",))))

    assert of_one(MANY) == of_one(FEW)


def test_snapshots_differ_in_whatever_may_be_told_of() -> None:
    """Content, aliases, what is being made or made anew, and which collections have anything."""
    glob = "xdstp://a/t/g/*"
    same = Resource.of(ENDPOINT, "same", b"same")
    before = TypeSnapshot.of(
        [
            same,
            Resource.of(ENDPOINT, "a", b"1", ["x"]),
            Resource.of(ENDPOINT, "changed", b"1"),
            Resource.of(ENDPOINT, "gone", b"1"),
        ],
        pending=["made"],
        recorded={"r": same.version, "kept": same.version},
    )
    after = TypeSnapshot.of(
        [
            Resource.of(ENDPOINT, "same", b"same"),
            Resource.of(ENDPOINT, "a", b"1", ["y"]),
            Resource.of(ENDPOINT, "changed", b"2"),
            Resource.of(ENDPOINT, "xdstp://a/t/g/b", b"1"),
        ],
        recorded={"r": before.version, "kept": same.version},
    )
    changed = {"a", "x", "y", "changed", "gone", "made", "r", "xdstp://a/t/g/b", glob}
    assert after.differs_from(before) == before.differs_from(after) == changed
    assert after.differs_from(before) is after.differs_from(before)
    assert after.differs_from(after) == set()


def test_difference_from_what_nobody_has_any_more_is_forgotten() -> None:
    """A snapshot that lasts is compared with many that do not."""
    lasts = TypeSnapshot.of([Resource.of(CLUSTER, "a", b"1")])
    for number in range(9):
        lasts.differs_from(TypeSnapshot.of([Resource.of(CLUSTER, "a", str(number).encode())]))
    assert len(lasts._differences) <= 1


def test_snapshot_that_takes_the_place_of_another_in_memory_is_compared_by_itself() -> None:
    """The difference from what was at an address before says nothing of what is there now."""
    lasts, first, second = (TypeSnapshot.of([Resource.of(CLUSTER, n, b"1")]) for n in "abc")
    before = replace(first)
    assert lasts.differs_from(before) == {"a", "b"}
    place = id(before)
    del before
    others = [replace(second) for _ in range(1000)]
    (there,) = (each for each in others if id(each) == place)
    assert lasts.differs_from(there) == {"a", "c"}


def test_one_more_name_costs_the_same_however_many_a_client_asks_for() -> None:
    """They are counted one by one only near the limit; allowed is four times the time."""

    def seconds(number: int) -> float:
        stream = Stream(ResourceTypes.of(), limits=StreamLimits(names=10 * number))
        names = tuple(f"e{each}" for each in range(number))
        first = DeltaRequest(ENDPOINT, subscribe=names, node=Node("n"))
        stream.identify(first)
        stream.receive(first, 0.0)
        taken = []
        for each in range(50):
            start = time.thread_time()
            stream.receive(DeltaRequest(ENDPOINT, subscribe=(f"more{each}",)), 0.0)
            taken.append(time.thread_time() - start)
        return min(taken)

    assert seconds(64_000) < 4 * seconds(500)
