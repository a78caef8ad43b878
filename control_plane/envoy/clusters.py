"""The cluster through which Envoy reaches the app.

The rule of this module: Envoy adds no limit and no failure of its own between a client and the
app, and no client feels another. Hence no circuit breaker that trips, no connection to the app that
two clients share, no HTTP/1.1 connection that is used twice, and none of HTTP/2 that is kept while
nobody needs it: an app that closes an idle connection just as Envoy reuses it costs the client a
503, whatever the retry policy, and on loopback a new connection is cheap. Only the sessions of UDP
are bounded, since nothing else bounds them: one datagram makes one, and it is there for a minute.
"""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterDiscoveryType,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Http1ProtocolOptions,
    HttpProtocolOptions,
    RoutingPriority,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions as UpstreamHttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptionsExplicitHttpConfig as ExplicitHttpConfig,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.envoy.addresses import socket_address
from control_plane.envoy.headers import MAX_HEADERS, MAX_HEADERS_KIB, http2, preserve_case
from control_plane.envoy.validation import check_cluster
from control_plane.model.entities import AppProtocol

CONNECT_TIMEOUT = timedelta(seconds=30)
"""How long a busy app may take to accept a connection.

While its queue of connections is full, Linux drops what comes and tries again after 1, 3, 7 and 15
seconds. A port on which nothing listens is refused at once, so it is not waited for.
"""

IDLE_TIMEOUT = timedelta(seconds=1)
"""How long an HTTP/2 connection to the app is kept without a request; apps keep theirs longer."""

BUFFER_OCTETS = 1 << 18
"""How much Envoy takes from one side before the other has taken it, for each connection.

So much is held by a client that asks for much and does not read. Envoy's default is 1 MiB;
with 64 KiB a large response takes a third more of its time.
"""

UNLIMITED = 2**32 - 1
"""The largest limit that Envoy's circuit breakers can express."""

MAX_SESSIONS = 8192
"""How many senders of datagrams a port has at once.

Each takes 5 KiB of Envoy's memory and an open file. No bound on memory turns senders away, and an
Envoy that has no file left for one crashes.
"""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def service_cluster_name(app_port: int) -> str:
    """Return the name of the cluster for an app's port, as Cloud Foundry has it."""
    return f"service-cluster-{app_port}"


def datagram_cluster_name(app_port: int) -> str:
    """Return the name of the cluster for the datagrams to an app's port."""
    return f"service-cluster-udp-{app_port}"


def service_cluster(app_port: int, app_address: str, protocol: AppProtocol) -> bytes:
    """Build the cluster that has the app's port as its only endpoint."""
    name = service_cluster_name(app_port)
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        connect_timeout=CONNECT_TIMEOUT,
        per_connection_buffer_limit_bytes=BUFFER_OCTETS,
        load_assignment=_only(name, app_address, app_port),
        # Envoy reads one entry for each priority: an entry for each limit, as Cloud Foundry sends,
        # leaves all limits but the first at 1024.
        circuit_breakers=CircuitBreakers(
            thresholds=[_no_limit(RoutingPriority.DEFAULT), _no_limit(RoutingPriority.HIGH)]
        ),
        typed_extension_protocol_options=_protocol_options(protocol),
        # An app has one window for all requests of a connection, and one limit of their number. If
        # clients shared it, an upload that the app does not read would hold up those of all others.
        connection_pool_per_downstream_connection=protocol is AppProtocol.HTTP2,
    )
    return check_cluster(bytes(cluster))


def datagram_cluster(app_port: int, app_address: str, *, sessions: int = MAX_SESSIONS) -> bytes:
    """Build the cluster for datagrams to an app's port, which bounds how many send them at once.

    It is not the one of the port's connections: those would count against the bound.
    """
    name = datagram_cluster_name(app_port)
    bound = CircuitBreakersThresholds(priority=RoutingPriority.DEFAULT, max_connections=sessions)
    cluster = Cluster(
        name=name,
        type=ClusterDiscoveryType.STATIC,
        load_assignment=_only(name, app_address, app_port),
        circuit_breakers=CircuitBreakers(thresholds=[bound]),
    )
    return check_cluster(bytes(cluster))


def _only(cluster: str, address: str, port: int) -> ClusterLoadAssignment:
    endpoint = LbEndpoint(endpoint=Endpoint(address=socket_address(address, port)))
    return ClusterLoadAssignment(
        cluster_name=cluster, endpoints=[LocalityLbEndpoints(lb_endpoints=[endpoint])]
    )


def _no_limit(priority: RoutingPriority) -> CircuitBreakersThresholds:
    return CircuitBreakersThresholds(
        priority=priority,
        max_connections=UNLIMITED,
        max_pending_requests=UNLIMITED,
        max_requests=UNLIMITED,
        max_retries=UNLIMITED,
    )


def _protocol_options(protocol: AppProtocol) -> dict[str, Any]:
    match protocol:
        case AppProtocol.HTTP1:
            http1 = Http1ProtocolOptions(
                enable_trailers=True,
                header_key_format=preserve_case(),
                # Beside Content-Length it is Transfer-Encoding that counts (RFC 9112, section 6.3).
                # To refuse that protects who reads another response after it, and there is none.
                allow_chunked_length=True,
            )
            explicit = ExplicitHttpConfig(http_protocol_options=http1)
        case AppProtocol.HTTP2:
            explicit = ExplicitHttpConfig(http2_protocol_options=http2())
        case AppProtocol.TCP:
            return {}
        case _:
            assert_never(protocol)
    options = UpstreamHttpProtocolOptions(
        explicit_http_config=explicit,
        common_http_protocol_options=HttpProtocolOptions(
            max_requests_per_connection=1 if protocol is AppProtocol.HTTP1 else None,
            idle_timeout=IDLE_TIMEOUT if protocol is AppProtocol.HTTP2 else None,
            max_headers_count=MAX_HEADERS,
            max_response_headers_kb=MAX_HEADERS_KIB,
        ),
    )
    return {_HTTP_OPTIONS: Any.pack(options)}
