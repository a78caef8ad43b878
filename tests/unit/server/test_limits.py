"""How often something may happen, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from control_plane.server.limits import STRANGER_CALLS, ServerLimits, TokenBucket, TokenBuckets
from tests.unit.reconciler.clocks import ManualClock
from tests.unit.server_security.still_clock import StillClock


def test_a_burst_passes_and_then_the_rate() -> None:
    """The bucket is full at first; then it gives one token for each that comes in."""
    clock = StillClock()
    bucket = TokenBucket(2.0, 3, clock)

    assert [bucket.take() for _ in range(4)] == [True, True, True, False]

    clock.time += timedelta(seconds=0.5)

    assert [bucket.take() for _ in range(2)] == [True, False]


def test_a_long_pause_fills_no_more_than_the_bucket() -> None:
    """An idle night is no reason for a larger burst."""
    clock = StillClock()
    bucket = TokenBucket(2.0, 3, clock)
    clock.time += timedelta(seconds=3600)

    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_refused_attempt_costs_nothing() -> None:
    """Who knocks all the time does not keep the bucket empty."""
    clock = StillClock()
    bucket = TokenBucket(1.0, 1, clock)
    assert bucket.take()

    taken = 0
    for _ in range(100):
        clock.time += timedelta(seconds=0.1)
        taken += bucket.take()

    assert 9 <= taken <= 10


def test_each_has_a_bucket_of_its_own() -> None:
    """What one took is missing for nobody else, and comes back with time."""
    clock = StillClock()
    buckets = TokenBuckets(1.0, 2, clock)

    assert [buckets.take("one") for _ in range(3)] == [True, True, False]
    assert buckets.take("two")
    assert (buckets.is_empty("one"), buckets.is_empty("two")) == (True, False)
    assert not buckets.is_empty("three")

    clock.time += timedelta(seconds=1)

    assert not buckets.is_empty("one")


async def test_a_client_whose_bucket_is_empty_waits_for_its_turn() -> None:
    """As long as the rate says, whatever others take meanwhile."""
    clock = ManualClock()
    buckets = TokenBuckets(10.0, 5, clock)
    await buckets.turn("a", 5)
    waiting = asyncio.create_task(buckets.turn("a", 3))
    await clock.advance(0.2)
    assert not waiting.done()
    await buckets.turn("b", 5)

    await clock.advance(0.2)
    assert waiting.done()
    assert not buckets.take("a", 2)


def test_buckets_are_bounded() -> None:
    """Who took nothing for longest is forgiven when there are too many; who is full at once."""
    clock = StillClock()
    buckets = TokenBuckets(1.0, 10, clock, most=3)
    for key in ("one", "two", "three", "one", "four"):
        buckets.take(key)

    assert list(buckets._buckets) == ["three", "one", "four"]

    clock.time += timedelta(seconds=1.5)
    buckets.take("one")

    assert list(buckets._buckets) == ["one"]


def test_a_server_gets_the_bounds_that_grpc_has_to_keep() -> None:
    """Size of a request and streams of a connection are limits of the transport."""
    options = dict(ServerLimits(request_octets=7, streams_per_connection=8).channel_options())

    assert options["grpc.max_receive_message_length"] == 7
    assert options["grpc.max_concurrent_streams"] == 8
    assert options["grpc.so_reuseport"] == 0


def test_connections_are_bounded_where_somebody_says_so() -> None:
    """What comes beyond is closed, and so is one on which nobody calls."""
    options = dict(ServerLimits(connections=7, idle_seconds=2.5).channel_options())

    assert options["grpc.max_allowed_incoming_connections"] == 7
    assert options["grpc.max_connection_idle_ms"] == 2500
    assert "grpc.max_allowed_incoming_connections" not in dict(ServerLimits().channel_options())


def test_a_silent_connection_is_asked_and_given_up_in_time() -> None:
    """Also one without a stream, and also while gRPC has a ping of its own on the way.

    A test in tests/server proves with real connections that the last of these options decides.
    """
    limits = ServerLimits(keepalive_seconds=3.0, keepalive_timeout_seconds=0.5)
    options = dict(limits.channel_options())

    assert options["grpc.keepalive_time_ms"] == 3000
    assert options["grpc.keepalive_timeout_ms"] == 500
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.http2.ping_timeout_ms"] == 500
    usual = ServerLimits()
    assert usual.keepalive_seconds + usual.keepalive_timeout_seconds == 40


def test_a_client_may_ask_whether_the_server_is_there() -> None:
    """GRPC's servers hang up on pings that come sooner than each five minutes, as Envoy's do."""
    options = dict(ServerLimits().channel_options())

    assert options["grpc.http2.max_pings_without_data"] == 0
    assert options["grpc.http2.min_ping_interval_without_data_ms"] <= 10_000


def test_a_fleet_may_wait_to_be_looked_at() -> None:
    """GRPC would break streams from 1,000 waiting ones on, and after 30 s; each would come back."""
    options = dict(ServerLimits(waiting_streams=9, waiting_seconds=8).channel_options())

    assert options["grpc.server.max_pending_requests"] == 9
    assert options["grpc.server.max_pending_requests_hard_limit"] == 9
    assert options["grpc.server_max_unrequested_time_in_server"] == 8
    assert ServerLimits().waiting_streams >= 5000
    assert ServerLimits().waiting_seconds >= 60


def test_a_port_for_strangers_grants_little() -> None:
    """Who showed no certificate sends small requests only, and cannot stay."""
    limits = ServerLimits(handshake_seconds=2.5)
    options = dict(limits.stranger_options())

    assert options["grpc.max_receive_message_length"] == 65536
    assert options["grpc.max_concurrent_streams"] == STRANGER_CALLS
    assert options["grpc.max_connection_age_ms"] == 30_000
    assert options["grpc.max_connection_age_grace_ms"] == 30_000
    assert options["grpc.server_handshake_timeout_ms"] == 2500
    assert (
        dict(ServerLimits(request_octets=7).stranger_options())["grpc.max_receive_message_length"]
        == 7
    )
