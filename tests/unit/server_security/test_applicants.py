"""How often somebody may try to enrol in vain, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane.errors import AlreadyExists, LimitExceeded, StorageError, Unauthenticated
from control_plane.names import Address
from control_plane.server.access.applicants import STRANGERS, Applicants
from control_plane.server.access.refusals import LINES_PER_MINUTE, RefusalTally
from control_plane.server.limits import ServerLimits
from tests.unit.server_security.still_clock import StillClock
from tests.unit.server_security.test_refusals import running

MOST = 6
LIMITS = ServerLimits(refused_enrollments_per_minute=MOST)
WRONG = Unauthenticated("join token is not known")
HELD = AlreadyExists("address 10.0.0.1 is held")


class World:
    """The bound, on a clock that stands still."""

    def __init__(self) -> None:
        """Start with nobody refused."""
        self.clock = StillClock()
        self.refusals = RefusalTally(self.clock)
        self.applicants = Applicants(LIMITS, self.refusals, self.clock)

    def told(self, source: str, times: int, token: str = "") -> int:
        """Refuse somebody so often; return how often with the reason."""
        answers = [self.applicants.refuse(WRONG, Address(source), token) for _ in range(times)]
        assert all(each is WRONG or isinstance(each, LimitExceeded) for each in answers)
        return sum(each is WRONG for each in answers)


def test_an_address_has_a_bound_of_its_own() -> None:
    """So many refusals a minute are told with their reason, whoever else is refused."""
    world = World()

    assert world.told("10.0.0.1", 20) == MOST
    assert world.told("10.0.0.2", 20) == MOST

    world.clock.time += timedelta(seconds=10)

    assert world.told("10.0.0.1", 20) == 1


def test_whoever_has_a_subnet_of_ipv6_is_one() -> None:
    """Its 2**64 addresses are as good as one, and those of the next subnet are another's."""
    world = World()
    same = sum(world.told(f"2001:db8::{number:x}", 1) for number in range(1, 20))

    assert same == MOST
    assert world.told("2001:db8:0:1::1", 20) == MOST


def test_all_strangers_share_a_bound() -> None:
    """Many addresses are refused no oftener than ten; one that hammers counts for one."""
    world = World()
    world.told("10.0.1.1", 1000)
    others = sum(world.told(f"10.0.0.{number}", 1) for number in range(200))

    assert others == (STRANGERS - 1) * MOST

    world.clock.time += timedelta(seconds=10)

    assert sum(world.told(f"10.0.2.{number}", 1) for number in range(200)) == STRANGERS


def test_a_good_token_is_no_stranger() -> None:
    """It has a bound of its own, whatever became of those from the same address."""
    world = World()
    for number in range(100):
        world.told(f"10.0.0.{number}", MOST)
    world.applicants.let_in("token")

    assert world.told("10.0.0.1", 20, token="token") == MOST
    with pytest.raises(LimitExceeded, match="come again in a minute"):
        world.applicants.let_in("token")

    world.clock.time += timedelta(seconds=10)

    world.applicants.let_in("token")


async def test_who_waits_for_an_address_keeps_its_token() -> None:
    """It is told to try again, and does: that is never too often, but most of it has no line."""
    world = World()
    source = Address("10.0.0.1")

    with capture_logs() as lines:
        async with running(world.refusals):
            await asyncio.sleep(0)
            for _ in range(100):
                assert world.applicants.refuse(HELD, source, "token") is HELD
                world.applicants.let_in("token")
            with_line = [world.applicants.has_line(HELD, source, "token") for _ in range(100)]

    assert sum(with_line) == LINES_PER_MINUTE
    assert world.told("10.0.0.1", 20, token="token") == MOST
    assert [(each["count"], each["by"]) for each in lines] == [(100 - LINES_PER_MINUTE, [source])]
    assert world.applicants.has_line(WRONG, source, "token")


def test_what_the_server_cannot_do_is_no_fault_of_who_asks() -> None:
    """A good token enrols as soon as the server can, however often it could not."""
    world = World()
    failure = StorageError("the disk is full")
    for _ in range(2 * MOST):
        assert world.applicants.refuse(failure, Address("10.0.0.1"), "token") is failure

    world.applicants.let_in("token")


def test_who_leaves_too_often_is_too_often_refused() -> None:
    """What it had the server do for nothing is told as often as a refusal, and counts like one."""
    world = World()

    told = [world.applicants.left(Address("10.0.0.1"), "token") for _ in range(20)]

    assert sum(told) == MOST
    with pytest.raises(LimitExceeded, match="come again in a minute"):
        world.applicants.let_in("token")
    world.applicants.let_in("another")


async def test_what_is_too_often_is_told_together() -> None:
    """One line says how many were refused, or left, without a line of their own, and from where."""
    world = World()

    with capture_logs() as lines:
        async with running(world.refusals):
            await asyncio.sleep(0)
            world.told("10.0.0.1", MOST + 3)
            for _ in range(MOST + 4):
                world.applicants.left(Address("10.0.0.2"), "token")

    assert [(each["event"], each["count"], each["by"]) for each in lines] == [
        ("audit.enrollments_limited", 7, ["10.0.0.1", "10.0.0.2"])
    ]


def test_refusals_are_counted_by_what_was_answered() -> None:
    """A reason has its own status, and what is too much has that of a limit."""
    world = World()
    world.told("10.0.0.1", 10)

    assert world.applicants.refused == {
        grpc.StatusCode.UNAUTHENTICATED: MOST,
        grpc.StatusCode.RESOURCE_EXHAUSTED: 10 - MOST,
    }
