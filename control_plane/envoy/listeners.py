"""The listener that other containers connect to: TLS, then the app, for those who may.

The rule of this module: who may connect is decided when a connection is accepted, before TLS and
before the app hears of it. Each source has a filter chain of its own, because Envoy drains exactly
the chains that changed: to add or remove one source disturbs nobody else's connections.

A listener has the instance's address in it, so there are as many as instances. What they share, the
filters, is authored once; an instance's own part is stamped on a copy with protobuf's own classes,
which takes microseconds instead of milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from typing import assert_never

from envoy.config.listener.v3 import listener_pb2
from envoy_data_plane.envoy.config.core.v3 import TcpKeepalive, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    UpstreamConnectMode,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.envoy.addresses import host_prefix_len, in_order
from control_plane.envoy.clusters import service_cluster_name
from control_plane.envoy.http import NEVER, connection_manager
from control_plane.envoy.rbac import discovered_filter, sources_filter_name
from control_plane.envoy.tls import HTTP_ALPN, downstream_tls
from control_plane.model.entities import AppProtocol
from control_plane.names import C2C_PORT

C2C_SECRET = "c2c-cert-and-key"  # noqa: S105 the name of a resource
"""The SDS secret of 61443, as Cloud Foundry names it."""

HANDSHAKE_TIMEOUT = timedelta(seconds=15)
"""How long a client may take from connecting to the end of its TLS handshake."""

_NOBODY = "255.255.255.255"
"""An address that no connection comes from (RFC 1122, section 3.2.1.3)."""


def listener_name(app_port: int, proxy_port: int) -> str:
    """Return the name of the listener on a proxy port, as Cloud Foundry has it."""
    return f"listener-{app_port}-{proxy_port}"


def c2c_listener(
    app_port: int,
    listen_address: str,
    *,
    protocol: AppProtocol,
    proxy_port: int = C2C_PORT,
    sources: Iterable[str] | None = None,
) -> bytes:
    """Build the listener on an instance's address that forwards to one of its app's ports.

    Args:
        app_port: the port whose cluster it forwards to.
        listen_address: the address of the instance.
        protocol: what the app speaks.
        proxy_port: the port to listen on.
        sources: the addresses that may connect. None opens the port to everybody. An empty
            collection opens it to nobody: the port is bound and closes every connection at once.
    """
    shape = _shape(app_port, protocol, proxy_port, sources is not None)
    listener = listener_pb2.Listener.FromString(shape)
    listener.address.socket_address.address = listen_address
    listener.address.socket_address.port_value = proxy_port
    if sources is not None:
        # Envoy refuses a listener without a chain, and a chain keeps the secret subscribed.
        _restrict(listener, in_order(sources) or (_NOBODY,))
    return bytes(listener.SerializeToString(deterministic=True))


def _restrict(listener: listener_pb2.Listener, sources: tuple[str, ...]) -> None:
    """Replace the only chain by a copy for each source; Envoy closes what no chain matches."""
    shared = listener.filter_chains.pop()
    for source in sources:
        chain = listener.filter_chains.add()
        chain.CopyFrom(shared)
        chain.name = f"from-{source}"
        allowed = chain.filter_chain_match.source_prefix_ranges.add()
        allowed.address_prefix = source
        allowed.prefix_len.value = host_prefix_len(source)


@lru_cache(maxsize=256)
def _shape(app_port: int, protocol: AppProtocol, proxy_port: int, restricted: bool) -> bytes:  # noqa: FBT001 lru_cache is faster by position
    """Return what the listeners of all instances share, with one chain that matches everybody."""
    chain = FilterChain(
        name="from-everybody",
        filters=[_forward(app_port, protocol, proxy_port, restricted=restricted)],
        transport_socket=downstream_tls(
            C2C_SECRET, alpn=() if protocol is AppProtocol.TCP else HTTP_ALPN
        ),
        transport_socket_connect_timeout=HANDSHAKE_TIMEOUT,
    )
    listener = Listener(
        name=listener_name(app_port, proxy_port),
        traffic_direction=TrafficDirection.INBOUND,
        filter_chains=[chain],
        # A second Envoy must fail to bind, not silently take half of the connections.
        enable_reuse_port=False,
        # Finds clients that are gone without a word, since no idle timeout does.
        tcp_keepalive=TcpKeepalive(keepalive_time=300, keepalive_interval=30, keepalive_probes=3),
    )
    return bytes(listener)


def _forward(app_port: int, protocol: AppProtocol, proxy_port: int, *, restricted: bool) -> Filter:
    cluster = service_cluster_name(app_port)
    stat_prefix = f"stats-{app_port}-{proxy_port}"
    match protocol:
        case AppProtocol.HTTP1 | AppProtocol.HTTP2:
            name = sources_filter_name(proxy_port)
            filters = (discovered_filter(name),) if restricted else ()
            return connection_manager(stat_prefix, cluster=cluster, filters=filters)
        case AppProtocol.TCP:
            config = TcpProxy(
                stat_prefix=stat_prefix,
                cluster=cluster,
                idle_timeout=NEVER,
                # Else the app hears of clients that never finish the handshake, and while the app
                # is down the handshake of the others is cut short.
                upstream_connect_mode=UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE,
                max_early_data_bytes=0,
            )
            return Filter(name="envoy.filters.network.tcp_proxy", typed_config=Any.pack(config))
        case _:
            assert_never(protocol)
