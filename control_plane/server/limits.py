"""How much the clients of one server may ask of it.

The rule of this module: whatever clients do, what they can make the server hold and do is bounded,
and each bound is a number here with its reason. ``xds.limits`` has the bounds of a single stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from control_plane.xds.limits import StreamLimits

STRANGER_REQUEST_OCTETS = 64 * 1024
"""How large a request of an unknown client may be. A signing request may have 16 KiB, a token has
50."""

STRANGER_SECONDS = 30
"""How long an unknown client may stay connected, and how long a call may take after that."""

STRANGER_CALLS = 20
"""How many calls an unknown client may have open on one connection. Each takes 22 KiB, even while
its request has not been sent, and a client that enrols makes one."""

_MOST_CONNECTIONS = "grpc.max_allowed_incoming_connections"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds for one server.

    Attributes:
        stream: bounds for each stream.
        streams_per_node: how many streams one node may have open. With ADS it needs one, and a
            second while it reconnects; with the services of single types Envoy opens one for each
            secret and cluster.
        streams_per_connection: how many streams one HTTP/2 connection may have.
        calls_per_client: how many calls of one client certificate may be open, whatever they are
            for; a call counts even before its first message.
        new_calls_per_client_and_minute: how many calls one client certificate may make.
        connections: how many connections each address that is listened on may have; each takes 70
            KiB and an open file. Connections beyond that are closed at once. None for no limit.
        idle_seconds: how long a connection without open calls may stay open.
        new_streams_per_second: how many streams may open per second in the long run. A new
            connection with mutual TLS costs 2-3 ms of one core; what is left serves the connected
            clients.
        new_streams_burst: how many streams may open at once, as after a restart.
        waiting_streams: how many streams may wait to be looked at. gRPC itself breaks some of them
            from 1,000 on, and each client that comes back costs another handshake.
        waiting_seconds: how long a stream may wait to be looked at. gRPC's own 30 s are less than a
            fleet takes.
        new_streams_per_node_and_minute: how many streams one node may open. A node whose back-off
            works opens ten, and has several at once only with the services of single types.
        request_octets: how large one request may be. Envoy's first request has 61 KB.
        request_octets_per_second: how many octets of requests may arrive per second, in the long
            run, on the streams of one client certificate; at once, as many as one request may have.
            Four megabytes that are a map take half a second to read. None if many clients show the
            same certificate.
        first_request_seconds: how long a call may be open before its first or only request.
        poll_seconds: how long a polled request waits until there is something to answer; then its
            client asks again. Such a request counts as a new stream, which is open until then.
        handshake_seconds: how long a connection may take until it is ready for calls. gRPC grants
            two minutes, which is long for a peer that may be anybody. It must not be too short
            either: a fleet of 5,000 that comes back at once takes 10 s and more for its handshakes,
            and a client that is cut off begins anew.
        keepalive_seconds: how long a connection may be silent before its client is asked whether it
            is still there.
        keepalive_timeout_seconds: how long the client may take to answer that; after that it is
            taken to have vanished, and is given up. While a fleet of 5,000 comes back, either end
            may be too busy to answer for 25 s and more, and who is cut off begins anew.
        refused_enrollments_per_minute: how many refused enrolments of one address or token are
            answered with the reason and have a line in the log. A sidecar whose token is wrong
            gives up at once.
        renewals_per_second: how often one instance may renew its identity in the long run; it does
            so at half life and when it starts. Each renewal is signed, recorded and logged.
        renewals_burst: how often it may renew at once, as an instance does that is started again
            and again.
    """

    stream: StreamLimits = field(default_factory=StreamLimits)
    streams_per_node: int = 32
    streams_per_connection: int = 100
    calls_per_client: int = 40
    new_calls_per_client_and_minute: int = 300
    connections: int | None = None
    idle_seconds: float = 60.0
    new_streams_per_second: float = 200.0
    new_streams_burst: int = 1000
    waiting_streams: int = 10_000
    waiting_seconds: int = 120
    new_streams_per_node_and_minute: int = 100
    request_octets: int = 4 * 1024 * 1024
    request_octets_per_second: int | None = None
    first_request_seconds: float = 15.0
    poll_seconds: float = 30.0
    handshake_seconds: float = 30.0
    keepalive_seconds: float = 20.0
    keepalive_timeout_seconds: float = 40.0
    refused_enrollments_per_minute: int = 30
    renewals_per_second: float = 1.0
    renewals_burst: int = 10

    def channel_options(self) -> list[tuple[str, int]]:
        """Return the options that a ``grpc.aio.server`` needs to keep these bounds."""
        most = [] if self.connections is None else [(_MOST_CONNECTIONS, self.connections)]
        return [
            *most,
            ("grpc.max_connection_idle_ms", round(self.idle_seconds * 1000)),
            ("grpc.max_receive_message_length", self.request_octets),
            ("grpc.max_concurrent_streams", self.streams_per_connection),
            ("grpc.server.max_pending_requests", self.waiting_streams),
            ("grpc.server.max_pending_requests_hard_limit", self.waiting_streams),
            ("grpc.server_max_unrequested_time_in_server", self.waiting_seconds),
            ("grpc.server_handshake_timeout_ms", round(self.handshake_seconds * 1000)),
            # Each connection keeps buffers of this size. The default of 16 KiB is more than most
            # responses need. It must be more than 8 KiB: if a message fills smaller records to the
            # last octet, gRPC sends garbage after it, and the client gives up the connection
            # (grpcio 1.85, SslProtectorProtectFlush).
            ("grpc.tsi.max_frame_size", 8448),
            # Nobody reads gRPC's own statistics, which take 3 KiB for each connection.
            ("grpc.enable_channelz", 0),
            ("grpc.max_channel_trace_event_memory_per_node", 0),
            # A second server on the same port must fail, not share its connections.
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", round(self.keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            # Not the timeout above but this one decides (grpcio 1.85), and by default it is a
            # minute.
            ("grpc.http2.ping_timeout_ms", round(self.keepalive_timeout_seconds * 1000)),
            # Otherwise a ping would follow each message of a client, to measure how much the
            # connection carries. Requests are small, and a fleet that reports would cost a quarter
            # more.
            ("grpc.http2.bdp_probe", 0),
            # Clients may send pings of their own to notice that we are gone, one every 10 s.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]

    def stranger_options(self) -> list[tuple[str, int]]:
        """Return the options for a port that requires no client certificate.

        A client that makes no more than one short call needs neither room nor time.
        """
        granted = replace(
            self,
            request_octets=min(self.request_octets, STRANGER_REQUEST_OCTETS),
            streams_per_connection=STRANGER_CALLS,
        )
        return [
            *granted.channel_options(),
            ("grpc.max_connection_age_ms", STRANGER_SECONDS * 1000),
            ("grpc.max_connection_age_grace_ms", STRANGER_SECONDS * 1000),
        ]
