"""An HTTP connection manager that an app cannot tell from its clients, as far as HTTP allows that.

The rule of this module: each default of Envoy by which the app or its client would get something
else than without Envoy is undone, and the reason stands beside it. What stays different:

- X-Forwarded-For and X-Forwarded-Proto are added, since the app's peer is Envoy.
- A client's X-Forwarded-Client-Cert is dropped, since apps trust it. So are headers that an app may
  take for one of these three, and those x-envoy-* headers that Envoy acts on.
- Refused are an upgrade to anything but a websocket, and in HTTP/1.1 a method that Envoy does not
  know; also CONNECT, ``OPTIONS *``, a path with a fragment or with bytes that are not ASCII, and a
  body whose length is given twice, or in a transfer coding other than chunked.
- If several 1xx precede a response, only the first passes. The response to a websocket's handshake
  loses its body if its status is below 400.
- A client that closes its side after a request is not answered, and one that goes on sending after
  a response is cut off.

A tcp app has none of this.
"""

from __future__ import annotations

import itertools
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptions,
    HttpProtocolOptions,
    SchemeHeaderTransformation,
)
from envoy_data_plane.envoy.config.listener.v3 import Filter
from envoy_data_plane.envoy.config.route.v3 import (
    RetryPolicy,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerServerHeaderTransformation,
    HttpConnectionManagerUpgradeConfig,
    HttpFilter,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.envoy.headers import MAX_HEADERS_KIB, MAX_REQUEST_HEADERS, http2, preserve_case

NEVER = timedelta(0)
"""What means "no timeout" to Envoy."""

HEADERS_TIMEOUT = timedelta(seconds=15)
"""How long a client may take from the first to the last octet of a request's headers."""

IDLE_TIMEOUT = timedelta(days=365)
"""How long nothing may happen in a request: in effect as long as it likes.

It is a timeout all the same, so that Envoy can shorten it while clients hold too much of its memory
(``envoy/bootstrap.yaml``); without a timeout there is nothing to shorten.
"""

MAX_STREAMS = 250
"""How many requests a client may have open on an HTTP/2 connection, as with Go's servers.

Each may hold headers of 1 MiB, which cost the client 300 octets.
"""

_MAX_RETRY_OCTETS = 1 << 20
"""How large the body of a request may be that is sent again."""

CLOSING_TIMEOUT = timedelta(seconds=5)
"""How long Envoy waits for a client on a connection that it is to close.

Envoy closes its own side only when this time is over. So this is the delay with which a client
learns that the app closed a websocket, or broke off a response. But it is also how long a client
may pause before the rest of its last response is lost, and how long a client that uploads has to
find a response that came before the end of its request. Envoy's default is 1 second; nginx waits
for 5, too.
"""

_TRUSTED = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-client-cert")
"""Headers that apps take for the word of the proxy in front of them."""


def connection_manager(
    stat_prefix: str,
    *,
    cluster: str,
    filters: tuple[HttpFilter, ...] = (),
    retry: RetryPolicy | None = None,
) -> Filter:
    """Return the network filter that proxies HTTP to a cluster.

    Args:
        stat_prefix: the prefix of the names of its statistics.
        cluster: the cluster that requests go to.
        filters: the filters that requests pass before that.
        retry: which requests are sent again.
    """
    config = HttpConnectionManager(
        stat_prefix=stat_prefix,
        route_config=_everything_to(cluster, retry),
        http_filters=[*filters, _router()],
        http_protocol_options=_http1(),
        http2_protocol_options=http2(max_streams=MAX_STREAMS),
        common_http_protocol_options=HttpProtocolOptions(max_headers_count=MAX_REQUEST_HEADERS),
        max_request_headers_kb=MAX_HEADERS_KIB,
        request_headers_timeout=HEADERS_TIMEOUT,
        # A websocket or a gRPC stream may be silent for long (default: 5 minutes).
        stream_idle_timeout=IDLE_TIMEOUT,
        delayed_close_timeout=CLOSING_TIMEOUT,
        # The app answers Expect: 100-continue; Envoy would invite every upload.
        proxy_100_continue=True,
        upgrade_configs=[HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
        # X-Forwarded-For ends in the peer's address, and X-Forwarded-Proto is https, whatever
        # the client wrote there.
        use_remote_address=True,
        # A plaintext HTTP/2 server may refuse a request that says it came by https (Kestrel does).
        scheme_header_transformation=SchemeHeaderTransformation(match_upstream=True),
        # The Server header is the app's, or absent; Envoy would write "envoy".
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.PASS_THROUGH,
        # X-Request-Id is the client's, or absent.
        generate_request_id=False,
    )
    return Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(config)
    )


def if_refused() -> RetryPolicy:
    """Return the policy to send a request again if the app says that it did not look at it.

    An app says so in HTTP/2 only (RFC 9113, section 8.7): when more requests come at once than it
    takes, before it could announce its limit, or while it closes a connection. The app's own
    clients would send them again.
    """
    return RetryPolicy(retry_on="refused-stream", num_retries=5)


def _http1() -> Http1ProtocolOptions:
    return Http1ProtocolOptions(
        accept_http_10=True,
        # HTTP/1.0 does without Host, but Envoy sends requests to the app in HTTP/1.1, which
        # requires it.
        default_host_for_http_10="localhost",
        enable_trailers=True,
        # Not allow_custom_methods: Envoy warns of it as work in progress, outside its threat model.
        header_key_format=preserve_case(),
    )


def _everything_to(cluster: str, retry: RetryPolicy | None) -> RouteConfiguration:
    route = Route(
        match=RouteMatch(prefix="/"),
        # An app may take as long as it likes to answer (default: 15 seconds).
        route=RouteAction(cluster=cluster, timeout=NEVER, retry_policy=retry),
        # Otherwise a body that is sent again would have to fit in the buffer of its connection.
        request_body_buffer_limit=None if retry is None else _MAX_RETRY_OCTETS,
    )
    return RouteConfiguration(
        name=cluster,
        virtual_hosts=[VirtualHost(name=cluster, domains=["*"], routes=[route])],
        request_headers_to_remove=[
            # This repeats what X-Forwarded-For says.
            "x-envoy-external-address",
            *itertools.chain.from_iterable(map(_taken_for, _TRUSTED)),
        ],
    )


def _taken_for(name: str) -> list[str]:
    """Return the other spellings of a header name that an app may take for it.

    CGI, and after it WSGI and Rack, pass headers on as variables in which "-" becomes "_" (RFC
    3875, section 4.1.18). There X_Forwarded_For is the same as X-Forwarded-For, but Envoy knows
    only the latter. All other names with "_" are left to the app.
    """
    first, *rest = name.split("-")
    joints = itertools.product("-_", repeat=len(rest))
    written = ["".join([first, *itertools.chain(*zip(each, rest, strict=True))]) for each in joints]
    return written[1:]


def _router() -> HttpFilter:
    # No x-envoy-expected-rq-timeout-ms to the app, no x-envoy-upstream-service-time to its client.
    config = Router(suppress_envoy_headers=True)
    return HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(config))
