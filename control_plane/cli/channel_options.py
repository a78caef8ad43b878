"""How gRPC treats the connection to a server.

The rule of this module: a person waits at the other end. What is slow, or gone without a word, is
noticed within some seconds, and nothing on the way is used that was meant for the web.
"""

from __future__ import annotations

from control_plane.cli.reach import SECONDS

CHANNEL_OPTIONS = (
    # A proxy in the environment is for the web, not for the operator's port.
    ("grpc.enable_http_proxy", 0),
    # All routes of all apps may be more than the 4 MiB that gRPC takes by default.
    ("grpc.max_receive_message_length", 64 * 2**20),
    # Who waits for a server that comes back hears of it soon.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # And finds it where its name leads by then.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # Despite its name this is how long an attempt may take: some round trips, to another continent.
    ("grpc.min_reconnect_backoff_ms", round(SECONDS * 1000)),
    # A machine that is gone without a word would be listened to for ever. (gRPC asks nothing while
    # another ping of its own is on the way, to which it grants a minute by default.)
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 30_000),
    ("grpc.http2.max_pings_without_data", 0),
)
