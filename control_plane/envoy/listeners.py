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
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import assert_never

from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy_data_plane.envoy.config.core.v3 import TcpKeepalive, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    UpstreamConnectMode,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.envoy.addresses import host_prefix_len, in_order
from control_plane.envoy.clusters import service_cluster_name
from control_plane.envoy.http import NEVER, connection_manager, if_refused
from control_plane.envoy.rbac import discovered_filter, sources_filter_name
from control_plane.envoy.tls import HTTP_ALPN, downstream_tls
from control_plane.envoy.validation import check_listener
from control_plane.model.entities import AppProtocol

C2C_SECRET = "c2c-cert-and-key"  # noqa: S105 the name of a resource
"""The SDS secret of 61443, as Cloud Foundry names it."""

HANDSHAKE_TIMEOUT = timedelta(seconds=15)
"""How long a client may take from connecting to the end of its TLS handshake."""

_PROBED = "only the certificate may be looked at from here\n"
"""What a prober is told that sends a request, which none of ours does."""

_NOBODY = "255.255.255.255"
"""An address that no connection comes from (RFC 1122, section 3.2.1.3)."""


def listener_name(app_port: int, proxy_port: int) -> str:
    """Return the name of the listener on a proxy port, as Cloud Foundry has it."""
    return f"listener-{app_port}-{proxy_port}"


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """What the listeners of all instances of an app have in common on one port.

    Attributes:
        app_port: the port whose cluster it forwards to.
        proxy_port: the port to listen on.
        protocol: what the app speaks there.
        secret: the SDS secret to serve TLS with; "" for plaintext.
        validation: the SDS secret that says whose client certificates count; "" to ask for none.
    """

    app_port: int
    proxy_port: int
    protocol: AppProtocol
    secret: str = C2C_SECRET
    validation: str = ""

    @property
    def name(self) -> str:
        """The resource's name, as Cloud Foundry has it."""
        return listener_name(self.app_port, self.proxy_port)


def tcp_listener(
    spec: ListenerSpec,
    listen_address: str,
    *,
    sources: Iterable[str] | None,
    probers: Iterable[str] = (),
) -> bytes:
    """Build the listener on an instance's address that forwards to one of its app's ports.

    Args:
        spec: what it has in common with those of the other instances.
        listen_address: the address of the instance.
        sources: the addresses that may connect. None opens the port to everybody. An empty
            collection opens it to nobody: the port is bound and closes every connection at once.
        probers: addresses that may look at the certificate: a handshake, and no byte of the app.
    """
    shape = _shape(spec, restricted=sources is not None)
    listener = listener_pb2.Listener.FromString(shape)
    listener.address.socket_address.address = listen_address
    listener.address.socket_address.port_value = spec.proxy_port
    if sources is not None:
        allowed = in_order(sources)
        lookers = tuple(each for each in in_order(probers) if each not in allowed)
        shared = listener.filter_chains.pop()
        if not allowed and not lookers:
            # Envoy refuses a listener without a chain, and a chain keeps the secret subscribed.
            allowed = (_NOBODY,)
        _add_chains(listener, shared, "from", allowed)
        if lookers:
            probed = listener_components_pb2.FilterChain.FromString(_probed(spec))
            _add_chains(listener, probed, "probe", lookers)
    check_listener(listener, is_open=sources is None)
    return bytes(listener.SerializeToString(deterministic=True))


def _add_chains(
    listener: listener_pb2.Listener,
    shared: listener_components_pb2.FilterChain,
    prefix: str,
    addresses: tuple[str, ...],
) -> None:
    """Add a copy of a chain for each address; Envoy closes what no chain matches."""
    for address in addresses:
        chain = listener.filter_chains.add()
        chain.CopyFrom(shared)
        chain.name = f"{prefix}-{address}"
        allowed = chain.filter_chain_match.source_prefix_ranges.add()
        allowed.address_prefix = address
        allowed.prefix_len.value = host_prefix_len(address)


@lru_cache(maxsize=256)
def _probed(spec: ListenerSpec) -> bytes:
    """Return a chain for probers: the same TLS, and no app behind it."""
    (chain,) = listener_pb2.Listener.FromString(_shape(spec, restricted=True)).filter_chains
    del chain.filters[:]
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix="probe")
    host = manager.route_config.virtual_hosts.add(name="nobody", domains=["*"])
    host.routes.add().match.prefix = "/"
    host.routes[0].direct_response.status = 403
    host.routes[0].direct_response.body.inline_string = _PROBED
    router = manager.http_filters.add(name="envoy.filters.http.router")
    router.typed_config.Pack(router_pb2.Router(), deterministic=True)
    # Not the direct_response filter of the network: it closes before TLS is established.
    each = chain.filters.add(name="envoy.filters.network.http_connection_manager")
    each.typed_config.Pack(manager, deterministic=True)
    return bytes(chain.SerializeToString(deterministic=True))


@lru_cache(maxsize=256)
def _shape(spec: ListenerSpec, *, restricted: bool) -> bytes:
    """Return what the listeners of all instances share, with one chain that matches everybody."""
    alpn = () if spec.protocol is AppProtocol.TCP else HTTP_ALPN
    tls = downstream_tls(spec.secret, alpn=alpn, validation=spec.validation)
    chain = FilterChain(
        name="from-everybody",
        filters=[_forward(spec, restricted=restricted)],
        transport_socket=tls if spec.secret else None,
        transport_socket_connect_timeout=HANDSHAKE_TIMEOUT,
    )
    listener = Listener(
        name=spec.name,
        traffic_direction=TrafficDirection.INBOUND,
        filter_chains=[chain],
        # A second Envoy must fail to bind, not silently take half of the connections.
        enable_reuse_port=False,
        # Finds clients that are gone without a word, since no idle timeout does.
        tcp_keepalive=TcpKeepalive(keepalive_time=300, keepalive_interval=30, keepalive_probes=3),
    )
    return bytes(listener)


def _forward(spec: ListenerSpec, *, restricted: bool) -> Filter:
    cluster = service_cluster_name(spec.app_port)
    stat_prefix = f"stats-{spec.app_port}-{spec.proxy_port}"
    match spec.protocol:
        case AppProtocol.HTTP1 | AppProtocol.HTTP2:
            name = sources_filter_name(spec.proxy_port)
            filters = (discovered_filter(name),) if restricted else ()
            retry = if_refused() if spec.protocol is AppProtocol.HTTP2 else None
            return connection_manager(stat_prefix, cluster=cluster, filters=filters, retry=retry)
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
            assert_never(spec.protocol)
