"""What sidecars saw: it counts while they keep reporting, and whoever waits hears of it."""

from __future__ import annotations

import asyncio

from control_plane.names import InstanceGuid
from control_plane.reconciler.served.attestation import (
    REPORT_SECONDS,
    REPORTS_PER_SECOND,
    Attestation,
)
from tests.unit.reconciler.clocks import ManualClock

A, B = InstanceGuid("a"), InstanceGuid("b")


async def test_a_report_counts_while_it_is_fresh() -> None:
    """Two reports may be lost; after the third an instance has no witness any more."""
    clock = ManualClock()
    attestation = Attestation(clock)
    assert not attestation.witnessed(A)
    assert attestation.served(A) is None

    attestation.report(A, 7, ())
    await clock.advance(3 * REPORT_SECONDS[0] - 0.1)
    assert attestation.witnessed(A)
    assert not attestation.witnessed(B)

    await clock.advance(0.1)
    assert not attestation.witnessed(A)
    assert attestation.served(A) == 7


def test_a_big_fleet_reports_less_often() -> None:
    """What sidecars say when nothing is new costs the same in a fleet of 3,000 and of 6,000."""
    attestation = Attestation(ManualClock())

    def seconds_of(size: int) -> float:
        for number in range(size):
            attestation.report(InstanceGuid(f"i{number}"), 7, ())
        return attestation.report_seconds

    assert seconds_of(100) == REPORT_SECONDS[0]
    assert seconds_of(3000) == 3000 / REPORTS_PER_SECOND
    assert seconds_of(6000) == 6000 / REPORTS_PER_SECOND == REPORT_SECONDS[1]
    assert seconds_of(6100) == REPORT_SECONDS[1]


def test_a_report_without_a_serial_is_a_report() -> None:
    """A sidecar whose Envoy shows nothing is a witness of that."""
    attestation = Attestation(ManualClock())

    attestation.report(A, None, ())

    assert attestation.witnessed(A)
    assert attestation.served(A) is None


def test_ports_past_envoy_are_known_until_a_report_without_them() -> None:
    """What the sidecar found exposed last is what is exposed."""
    attestation = Attestation(ManualClock())

    attestation.report(A, 7, (8080, 9090))
    assert attestation.exposed(A) == (8080, 9090)
    attestation.report(A, 7, ())

    assert attestation.exposed(A) == ()


async def test_news_wakes_whoever_waits_for_this_instance() -> None:
    """Every waiter, and only those of the instance that reported."""
    attestation = Attestation(ManualClock())
    ours = [asyncio.create_task(attestation.news(A, 30)) for _ in range(2)]
    theirs = asyncio.create_task(attestation.news(B, 30))
    await asyncio.sleep(0)

    attestation.report(A, 7, ())
    await asyncio.gather(*ours)

    assert not theirs.done()
    theirs.cancel()


async def test_news_that_does_not_come_is_not_waited_for() -> None:
    """The wait ends with its time, and says nothing."""
    await Attestation(ManualClock()).news(A, 0.01)


def test_a_removed_instance_leaves_nothing() -> None:
    """Neither its serial nor its ports, nor what it trusts."""
    attestation = Attestation(ManualClock())
    attestation.report(A, 7, (8080,), {8080: True}, frozenset({"of a root"}))

    attestation.forget(A)
    attestation.forget(B)

    assert not any(A in each for each in vars(attestation).values() if isinstance(each, dict))

    assert not attestation.witnessed(A)
    assert attestation.served(A) is None
    assert attestation.exposed(A) == ()


async def test_what_the_app_accepts_is_known_from_its_sidecar() -> None:
    """The last report counts while it is fresh; a sidecar that says nothing of ports knows none."""
    clock = ManualClock()
    attestation = Attestation(clock)
    assert attestation.app_ports(A) is None

    attestation.report(A, 7, (), {8080: True, 9090: False})
    assert attestation.app_ports(A) == {8080: True, 9090: False}
    attestation.report(B, 7, ())
    assert attestation.app_ports(B) is None

    await clock.advance(3 * REPORT_SECONDS[0])
    assert attestation.app_ports(A) is None
    attestation.report(A, 7, (), {8080: True})
    attestation.forget(A)
    assert attestation.app_ports(A) is None


def test_whoever_observes_is_told_of_each_report() -> None:
    """With what was reported in place already."""
    attestation = Attestation(ManualClock())
    told: list[tuple[InstanceGuid, int | None]] = []
    attestation.observe(lambda instance: told.append((instance, attestation.served(instance))))

    attestation.report(A, 7, ())
    attestation.report(A, None, ())

    assert told == [(A, 7), (A, None)]


def test_whom_a_sidecar_trusts_is_what_it_said_last() -> None:
    """One that does not tell trusts nobody, as far as is known."""
    attestation = Attestation(ManualClock())
    assert attestation.trusted(A) == frozenset()

    attestation.report(A, 7, (), trusted=frozenset({"old", "new"}))
    assert attestation.trusted(A) == {"old", "new"}
    attestation.report(A, 7, ())
    assert attestation.trusted(A) == frozenset()

    attestation.report(A, 7, (), trusted=frozenset({"new"}))
    attestation.forget(A)
    assert attestation.trusted(A) == frozenset()
