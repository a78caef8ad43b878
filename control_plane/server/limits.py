"""How much the clients of one server may ask of it.

The rule of this module: whatever clients do, what they can make the server hold and do is bounded,
and each bound is a number here with its reason. ``xds.limits`` has those of a single stream.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Self

from control_plane.clock import Clock
from control_plane.xds.limits import StreamLimits

STRANGER_REQUEST_OCTETS = 64 * 1024
"""Size of one request of somebody unknown: a signing request may have 16 KiB, a token has 50."""

STRANGER_SECONDS = 30
"""How long somebody unknown may stay connected, and how long a call may take after that."""

STRANGER_CALLS = 10
"""How many calls of somebody unknown may be under way on one connection; each takes 22 KiB, also
while it has yet to send its request, and who enrols makes one."""

MOST_BUCKETS = 10_000
"""How many rates are kept apart; each takes 200 bytes."""

_SECONDS_PER_MINUTE = 60.0

_MOST_CONNECTIONS = "grpc.max_allowed_incoming_connections"


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds for one server.

    Attributes:
        stream: bounds for each stream.
        streams_per_node: streams that one node may have open. Aggregated it needs one, and a second
            while it reconnects; with per-type services Envoy opens one for each secret and cluster.
        streams_per_connection: streams in one HTTP/2 connection.
        calls_per_client: how many calls may be under way of one client certificate, whatever they
            are for, from before their first message on.
        new_calls_per_client_and_minute: how many it may make.
        connections: how many one address that is listened on may have, 70 KiB and an open file
            each; what comes beyond that is closed at once. None for as many as come.
        idle_seconds: how long a connection may be open on which no call is under way.
        new_streams_per_second: how many streams may open in the long run. A new connection with
            mutual TLS costs 2-3 ms of one core; what is left is for those who are connected.
        new_streams_burst: how many may open at once, as after a restart.
        waiting_streams: how many may wait to be looked at. gRPC itself breaks some of them from
            1,000 on, and whoever comes back costs another handshake.
        waiting_seconds: how long one may wait. gRPC's own 30 s are less than a fleet takes.
        new_streams_per_node_and_minute: how many one node may open; one whose back-off works opens
            ten, and has several at once only with per-type services.
        request_octets: size of one request. Envoy's first has 61 KB.
        request_octets_per_second: how many octets of requests may come on the streams of one client
            certificate in the long run, and at once as many as one request may have: four megabytes
            that are a map take half a second to read. None where many clients show the same.
        first_request_seconds: how long a stream may be open before its first request.
        poll_seconds: how long a polled request waits for something to be answered with; then its
            client asks again. It counts as a stream that opened, and that is open until then.
        handshake_seconds: how long a connection may take to be ready for calls. gRPC grants two
            minutes, which is long for a peer that may be anybody. It must not be too short either:
            a fleet of 5,000 that comes back at once takes 10 s and more for its handshakes, and
            whoever is cut off begins anew.
        keepalive_seconds: how long a connection may be silent until its client is asked whether it
            is still there.
        keepalive_timeout_seconds: how long it may take to answer that; one that vanished without a
            word is given up then.
        refused_enrollments_per_minute: how many enrolments are refused to one address or token with
            a reason and a line in the log. A sidecar whose token is wrong gives up at once.
        renewals_per_second: how often one instance may renew its identity in the long run; it does
            at half life and when it starts. Each renewal is signed, recorded and logged.
        renewals_burst: how often it may at once, as one that is started again and again.
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
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 10.0
    refused_enrollments_per_minute: int = 30
    renewals_per_second: float = 1.0
    renewals_burst: int = 10

    @property
    def given_up_after(self) -> float:
        """After how many seconds a client counts as gone from which nothing came."""
        return self.keepalive_seconds + self.keepalive_timeout_seconds

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
            # Each connection keeps buffers of this size, by default of 16 KiB, which is more than
            # most responses. It must be more than 8 KiB: where a message fills smaller records to
            # the last octet, gRPC sends garbage after it, and the client gives up the connection
            # (grpcio 1.85, SslProtectorProtectFlush).
            ("grpc.tsi.max_frame_size", 8448),
            # Nobody asks for gRPC's own statistics, which take 3 KiB of each connection.
            ("grpc.enable_channelz", 0),
            ("grpc.max_channel_trace_event_memory_per_node", 0),
            # A second server on the same port must fail, not share its connections.
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", round(self.keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_seconds * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            # gRPC asks nothing while another ping of its own is on the way, which measures how much
            # the connection carries. It grants that one a minute.
            ("grpc.http2.ping_timeout_ms", round(self.given_up_after * 1000)),
            # Clients' own pings to notice us are welcome from every 10 s.
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]

    def stranger_options(self) -> list[tuple[str, int]]:
        """Return the options for a port that asks nobody for a certificate.

        Whoever has no more to say than one short call needs neither room nor time.
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


class TokenBucket:
    """A rate with a burst: full at first, and filled again at the rate."""

    __slots__ = ("_at", "_burst", "_clock", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        """Start full.

        Args:
            rate: tokens a second.
            burst: tokens that it holds at the most.
            clock: tells how long ago the last token was taken.
        """
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = self._burst
        self._at = clock.monotonic()

    @classmethod
    def per_minute(cls, tokens: int, clock: Clock) -> Self:
        """Return a bucket of so many tokens, which is filled in a minute."""
        return cls(tokens / _SECONDS_PER_MINUTE, tokens, clock)

    def take(self, tokens: int = 1) -> bool:
        """Take so many tokens; tell whether there were as many."""
        now = self._clock.monotonic()
        self._tokens = self._filled(now)
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def is_empty(self) -> bool:
        """Tell whether there is no token to take."""
        return self._filled(self._clock.monotonic()) < 1.0

    def is_full(self) -> bool:
        """Tell whether nothing was taken for so long that it is as if nothing ever had been."""
        return self._filled(self._clock.monotonic()) >= self._burst

    def _filled(self, now: float) -> float:
        return min(self._burst, self._tokens + (now - self._at) * self._rate)


class TokenBuckets:
    """A bucket for each of many who are known by a key."""

    def __init__(self, rate: float, burst: int, clock: Clock, *, most: int = MOST_BUCKETS) -> None:
        """Start with nobody having taken anything.

        Args:
            rate: tokens a second for each.
            burst: tokens that each holds at the most.
            clock: tells how long ago the last token was taken.
            most: how many buckets are kept; who took nothing for longest is forgiven first.
        """
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    @classmethod
    def per_minute(cls, tokens: int, clock: Clock) -> Self:
        """Return buckets of so many tokens each, which are filled in a minute."""
        return cls(tokens / _SECONDS_PER_MINUTE, tokens, clock)

    def take(self, key: str, tokens: int = 1) -> bool:
        """Take so many tokens of somebody's own; tell whether there were as many."""
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst, self._clock)
        self._make_room()
        self._buckets[key] = bucket
        return bucket.take(tokens)

    def is_empty(self, key: str) -> bool:
        """Tell whether somebody has no token to take."""
        bucket = self._buckets.get(key)
        return bucket is not None and bucket.is_empty()

    def _make_room(self) -> None:
        """Drop those that are as if they had never been used, and what would be too many."""
        while self._buckets and (
            len(self._buckets) >= self._most or next(iter(self._buckets.values())).is_full()
        ):
            self._buckets.popitem(last=False)
