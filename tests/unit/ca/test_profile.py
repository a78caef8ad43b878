"""The profile's hard limits, the validity that it decides, and the moment of renewal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.ca.profile import (
    MAX_BACKDATE,
    MAX_LIFETIME,
    MIN_LIFETIME,
    Profile,
    check_serial,
    renew_at,
)
from control_plane.errors import ConfigurationError, IssuanceError
from tests.unit.ca.forge import NOW

CA_START, CA_END = NOW - timedelta(days=365), NOW + timedelta(days=365)
DAY = timedelta(days=1)


def test_defaults() -> None:
    """Certificates live for 24 hours and stay below what Java refuses, unless somebody says so."""
    profile = Profile()

    assert timedelta(hours=24) == profile.lifetime
    assert profile.max_chain_bytes == 32_000


@pytest.mark.parametrize(
    ("lifetime", "max_chain_bytes", "problems"),
    [
        (timedelta(0), 32_000, ["certificate lifetime must be 4 seconds to 90 days, not 0:00:00"]),
        (
            timedelta(days=91),
            32_000,
            ["certificate lifetime must be 4 seconds to 90 days, not 91 days, 0:00:00"],
        ),
        (DAY, 3_999, ["certificate chain bound must be 4000 to 65000 bytes, not 3999"]),
        (DAY, 65_001, ["certificate chain bound must be 4000 to 65000 bytes, not 65001"]),
        (
            -DAY,
            0,
            [
                "certificate lifetime must be 4 seconds to 90 days, not -1 day, 0:00:00",
                "certificate chain bound must be 4000 to 65000 bytes, not 0",
            ],
        ),
    ],
    ids=["no-life", "long-life", "small-bound", "large-bound", "both"],
)
def test_hard_limits(lifetime: timedelta, max_chain_bytes: int, problems: list[str]) -> None:
    """A number outside its hard limits is refused, and all of them are reported at once."""
    with pytest.raises(ConfigurationError) as caught:
        Profile(lifetime=lifetime, max_chain_bytes=max_chain_bytes)

    assert tuple(problems) == caught.value.problems


@pytest.mark.parametrize("lifetime", [MIN_LIFETIME, MAX_LIFETIME], ids=["shortest", "longest"])
def test_limits_are_inclusive(lifetime: timedelta) -> None:
    """The limits themselves are allowed."""
    assert Profile(lifetime=lifetime).lifetime == lifetime


def test_window_is_back_dated_by_five_minutes() -> None:
    """A day's certificate is valid for a client whose clock is five minutes behind (C7)."""
    now = NOW + timedelta(microseconds=999_999)

    assert Profile().window(now, CA_START, CA_END) == (NOW - timedelta(minutes=5), NOW + DAY)


def test_window_ends_with_the_ca() -> None:
    """A certificate does not outlive its CA, and is back-dated less as its life is shorter."""
    ends = NOW + timedelta(seconds=100)

    assert Profile().window(NOW, CA_START, ends) == (NOW - timedelta(seconds=10), ends)


def test_window_starts_with_the_ca() -> None:
    """Back-dating stops where the CA starts."""
    assert Profile().window(NOW, NOW, CA_END) == (NOW, NOW + DAY)


def test_ca_not_yet_valid() -> None:
    """Nothing is issued before the CA is valid, whatever the back-dating."""
    with pytest.raises(IssuanceError, match="before 2026-03-01T12:00:01Z, so the clock of"):
        Profile().window(NOW, NOW + timedelta(seconds=1), CA_END)


@pytest.mark.parametrize("left", [-86_400, 0, 3], ids=["yesterday", "now", "too-soon"])
def test_ca_that_ends(left: int) -> None:
    """Nothing is issued that would end at once with its CA."""
    with pytest.raises(IssuanceError, match=r"the CA is not valid after 2026-.*Z: rotate it"):
        Profile().window(NOW, CA_START, NOW + timedelta(seconds=left))


@given(
    lifetime=st.timedeltas(MIN_LIFETIME, MAX_LIFETIME),
    ca_left=st.timedeltas(MIN_LIFETIME, timedelta(days=3650)),
    moment=st.timedeltas(timedelta(0), timedelta(days=1)),
    seed=st.text(max_size=40),
)
def test_renewal_lies_between_issue_and_expiry(
    lifetime: timedelta, ca_left: timedelta, moment: timedelta, seed: str
) -> None:
    """However short the life, a new certificate is renewed at a moment to come, before its end."""
    now = NOW + moment
    ca_end = (now + ca_left).replace(microsecond=0) + timedelta(seconds=1)
    not_before, not_after = Profile(lifetime=lifetime).window(now, CA_START, ca_end)

    assert not_before <= now < renew_at(not_before, not_after, seed) < not_after
    assert not_before >= now - MAX_BACKDATE - timedelta(seconds=1)
    assert not_after <= min(ca_end, now + lifetime)


def test_renewal_depends_on_the_seed_only() -> None:
    """The same instance renews at the same moment on every replica and after every restart."""
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

    assert renew_at(start, end, "b66d0aa2") == renew_at(start, end, "b66d0aa2")
    assert str(renew_at(start, end, "b66d0aa2")) == "2026-01-01 12:41:35.220159+00:00"


def test_a_fleet_spreads() -> None:
    """Renewals of 5,000 instances that started together spread evenly over 2 h 24 min (C13)."""
    start, end = NOW, NOW + DAY
    moments = [renew_at(start, end, f"instance-{number}") for number in range(5000)]
    minutes = [int((moment - start) / timedelta(minutes=1)) for moment in moments]
    busiest = max(minutes.count(minute) for minute in set(minutes))

    assert min(minutes) >= 648
    assert max(minutes) < 792
    assert len(set(minutes)) == 144
    assert busiest < 1.8 * 5000 / 144


@pytest.mark.parametrize("serial", [1, 2**159 - 1], ids=["one", "20-octets"])
def test_serials(serial: int) -> None:
    """A serial is positive and takes 20 octets at most (RFC 5280, section 4.1.2.2)."""
    check_serial(serial)


@pytest.mark.parametrize("serial", [0, -1, 2**159], ids=["zero", "negative", "21-octets"])
def test_bad_serials(serial: int) -> None:
    """A serial that RFC 5280, section 4.1.2.2, forbids is refused."""
    with pytest.raises(IssuanceError, match="serial must be positive and have at most 159 bits"):
        check_serial(serial)
