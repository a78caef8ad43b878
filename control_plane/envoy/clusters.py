"""The cluster through which Envoy reaches the app.

The rule of this module: Envoy adds no limit and no failure of its own between a client and the app,
and no client affects another. Hence no circuit breaker trips, and two clients never share a
connection to the app. No HTTP/1.1 connection is used twice, and no HTTP/2 connection is kept while
no request needs it: if an app closes an idle connection just as Envoy reuses it, the client gets a
503, whatever the retry policy; and on loopback a new connection is cheap. Only UDP sessions are
bounded, since nothing else bounds them: a single datagram creates one, and it lasts for a minute.
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

While the app's accept queue is full, Linux drops connection attempts and repeats them after 1, 3, 7
and 15 seconds. If nothing listens on the port, a connection is refused at once, so there is no
wait.
"""

IDLE_TIMEOUT = timedelta(seconds=1)
"""How long an HTTP/2 connection to the app is kept without a request; apps keep theirs longer."""

BUFFER_OCTETS = 1 << 18
"""How much Envoy takes from one side before the other side has taken it, for each connection.

A client that requests much and does not read makes Envoy hold this much. Envoy's default is 1 MiB;
with 64 KiB, a large response takes a third more time.
"""

UNLIMITED = 2**32 - 1
"""The largest limit that Envoy's circuit breakers can express."""

MAX_SESSIONS = 8192
"""How many senders of datagrams a port serves at once.

Each takes 5 KiB of Envoy's memory and an open file. No memory limit turns senders away, and an
Envoy that has no file left for a session crashes.
"""

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def service_cluster_name(app_port: int) -> str:
    """Return the name of the cluster for an app's port, as in Cloud Foundry."""
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
        # Envoy reads one entry for each priority. With one entry for each limit, as Cloud Foundry
        # sends, all limits but the first would stay at 1024.
        circuit_breakers=CircuitBreakers(
            thresholds=[_no_limit(RoutingPriority.DEFAULT), _no_limit(RoutingPriority.HIGH)]
        ),
        typed_extension_protocol_options=_protocol_options(protocol),
        # An app has one flow-control window for all requests of a connection, and one limit on
        # their number. If clients shared a connection, an upload that the app does not read would
        # hold up the uploads of all others.
        connection_pool_per_downstream_connection=protocol is AppProtocol.HTTP2,
    )
    return check_cluster(bytes(cluster))


def datagram_cluster(app_port: int, app_address: str, *, sessions: int = MAX_SESSIONS) -> bytes:
    """Build the cluster for datagrams to an app's port, which bounds how many send at once.

    It is separate from the cluster for the port's connections, which would count against the bound.
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
                # If a message has Content-Length and Transfer-Encoding, the latter counts (RFC
                # 9112, section 6.3). To refuse such a message protects a peer that reads another
                # response after it, but here there is none.
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
