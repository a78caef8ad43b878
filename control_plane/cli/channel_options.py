"""How gRPC treats the connection to a server.

The rule of this module: a user waits for the answer. A server that is slow, or vanished without
closing the connection, is noticed within seconds, and no proxy that is meant for the web is used.
"""

from __future__ import annotations

from control_plane.cli.reach import SECONDS

CHANNEL_OPTIONS = (
    # A proxy in the environment is for the web, not for the operator's port.
    ("grpc.enable_http_proxy", 0),
    # All routes of all apps may exceed the 4 MiB that gRPC accepts by default.
    ("grpc.max_receive_message_length", 64 * 2**20),
    # A user who waits for a server that comes back learns of it soon.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # And reaches it at the address to which its name resolves by then.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Despite its name, this is how long an attempt may take: some round trips, to another
    # continent.
    ("grpc.min_reconnect_backoff_ms", round(SECONDS * 1000)),
    # Otherwise the client would wait for ever for a machine that vanished. Of the two timeouts the
    # second decides (grpcio 1.85), which by default is a minute.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    ("grpc.http2.ping_timeout_ms", 15_000),
    ("grpc.http2.max_pings_without_data", 0),
)
