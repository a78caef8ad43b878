"""How much the clients of one server may ask of it.

The rule of this module: whatever clients do, what they can make the server hold and do is bounded,
and each bound is a number here with its reason. ``xds.limits`` has those of a single stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from control_plane.clock import Clock
from control_plane.xds.limits import StreamLimits


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds for one server.

    Attributes:
        stream: bounds for each stream.
        streams_per_node: streams that one node may have open. Aggregated it needs one, and a second
            while it reconnects; with per-type services Envoy opens one for each secret and cluster.
        streams_per_connection: streams in one HTTP/2 connection.
        new_streams_per_second: how many streams may open in the long run. A new connection with
            mutual TLS costs 2-3 ms of one core; what is left is for those who are connected.
        new_streams_burst: how many may open at once, as after a restart.
        request_octets: size of one request. Envoy's first has 61 KB.
        first_request_seconds: how long a stream may be open before its first request.
    """

    stream: StreamLimits = field(default_factory=StreamLimits)
    streams_per_node: int = 32
    streams_per_connection: int = 100
    new_streams_per_second: float = 200.0
    new_streams_burst: int = 1000
    request_octets: int = 4 * 1024 * 1024
    first_request_seconds: float = 15.0

    def channel_options(self) -> list[tuple[str, int]]:
        """Return the options that a ``grpc.aio.server`` needs to keep these bounds."""
        return [
            ("grpc.max_receive_message_length", self.request_octets),
            ("grpc.max_concurrent_streams", self.streams_per_connection),
            # A second server on the same port must fail, not share its connections.
            ("grpc.so_reuseport", 0),
            # A client that vanished without a word is noticed after 30 + 10 s, and its own pings to
            # notice us are welcome from every 10 s.
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ]


class TokenBucket:
    """A rate with a burst: full at first, and filled again at the rate."""

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

    def take(self) -> bool:
        """Take a token; tell whether there was one."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
