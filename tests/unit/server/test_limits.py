"""The bounds of a server, and what gRPC has to do to keep them."""

from __future__ import annotations

from control_plane.server.limits import STRANGER_CALLS, ServerLimits


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
    """Also one without a stream.

    A test in tests/server proves with real connections that the last of these options decides.
    """
    limits = ServerLimits(keepalive_seconds=3.0, keepalive_timeout_seconds=0.5)
    options = dict(limits.channel_options())

    assert options["grpc.keepalive_time_ms"] == 3000
    assert options["grpc.keepalive_timeout_ms"] == 500
    assert options["grpc.keepalive_permit_without_calls"] == 1
    assert options["grpc.http2.ping_timeout_ms"] == 500
    usual = ServerLimits()
    assert usual.keepalive_seconds + usual.keepalive_timeout_seconds == 60


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
