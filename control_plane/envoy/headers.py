"""How HTTP headers pass through Envoy: as they were sent, and as many as an app would accept.

The rule of this module: both sides of the proxy have the same settings, namely the listener for
requests and the cluster for responses; only the number of headers is bounded more closely for
clients. A header is refused by the app, and not by Envoy, whose own limits (60 KiB, 100 headers)
are lower than those of many servers.
"""

from __future__ import annotations

from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptionsHeaderKeyFormat,
    Http2ProtocolOptions,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.extensions.http.header_formatters.preserve_case.v3 import (
    PreserveCaseFormatterConfig,
)
from envoy_data_plane.google.protobuf import Any

MAX_HEADERS_KIB = 1024
"""How much the headers of a message may take: as much as Go's net/http allows, which is more than
most servers do."""

MAX_HEADERS = 10_000
"""How many headers a response may have; most servers bound only their bytes."""

MAX_REQUEST_HEADERS = 2_000
"""How many headers a request may have, as with Node.js.

In HTTP/2 a client can repeat a header with one octet, which costs Envoy some 360.
"""

STREAM_WINDOW = 4 << 20
"""How many octets of a body an HTTP/2 peer may send before they are taken.

Envoy holds this much for a client that does not read, or for an app that does not. Its own default
is 16 MiB; with 1 MiB, an upload takes a third more time.
"""

CONNECTION_WINDOW = 16 << 20
"""The same for all bodies of a connection; Envoy's default is 24 MiB."""


def preserve_case() -> Http1ProtocolOptionsHeaderKeyFormat:
    """Return the setting that keeps the case of HTTP/1.1 header names, and the reason phrase.

    Names are case-insensitive (RFC 9110, section 5.1), yet some apps and clients compare them as
    text; Envoy would write all of them in lower case.
    """
    config = PreserveCaseFormatterConfig(forward_reason_phrase=True)
    return Http1ProtocolOptionsHeaderKeyFormat(
        stateful_formatter=TypedExtensionConfig(
            name="envoy.http.stateful_header_formatters.preserve_case",
            typed_config=Any.pack(config),
        )
    )


def http2(*, max_streams: int | None = None) -> Http2ProtocolOptions:
    """Return the setting by which a malformed message ends its own stream and no other.

    RFC 9113, section 8.1.1, requires that. Envoy would close the connection, on which a client may
    have other requests, as gRPC clients do.

    Args:
        max_streams: how many requests a peer may have open on a connection.
    """
    return Http2ProtocolOptions(
        override_stream_error_on_invalid_http_message=True,
        max_concurrent_streams=max_streams,
        initial_stream_window_size=STREAM_WINDOW,
        initial_connection_window_size=CONNECTION_WINDOW,
    )
