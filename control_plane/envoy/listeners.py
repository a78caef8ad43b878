"""The listener that other containers connect to: TLS, then the app, for callers that are allowed.

The rule of this module: whether a caller may connect is decided when its connection is accepted,
before TLS and before the app hears of it. Each app that may connect has a filter chain of its own,
and a matcher maps the addresses of its instances to that chain. Envoy drains exactly the chains
that changed, and none for a changed matcher. So an instance that comes or goes disturbs nobody's
connections and costs Envoy no chain (1 to 3 ms each), and a policy that is removed ends the
connections that it allowed and no others.

A listener contains the instance's address, so there are as many listeners as instances. The
filters, which they share, are built once; an instance's own part is put into a copy with protobuf's
own classes, which takes microseconds instead of milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import assert_never

from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from envoy_data_plane.envoy.config.core.v3 import TcpKeepalive, TrafficDirection
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.extensions.filters.network.tcp_proxy.v3 import (
    TcpProxy,
    UpstreamConnectMode,
)
from envoy_data_plane.google.protobuf import Any
from google.protobuf.wrappers_pb2 import StringValue
from xds.type.matcher.v3 import matcher_pb2

from control_plane.envoy.addresses import as_envoy_writes, in_order
from control_plane.envoy.clusters import BUFFER_OCTETS, service_cluster_name
from control_plane.envoy.http import NEVER, connection_manager, if_refused
from control_plane.envoy.rbac import discovered_filter, sources_filter_name
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.envoy.tls import HTTP_ALPN, downstream_tls
from control_plane.envoy.validation import check_listener
from control_plane.model.entities import AppProtocol, Source

HANDSHAKE_TIMEOUT = timedelta(seconds=15)
"""How long a client may take from connecting to the end of its TLS handshake."""

_PROBED = "only the certificate may be looked at from here\n"
"""The answer to a prober that sends a request, which none of ours does."""

_ITS_OWN = "allowed-sources"
"""A placeholder for the name of the filter that is different in each app's chain."""

_NOBODY = "255.255.255.255"
"""An address that no connection comes from (RFC 1122, section 3.2.1.3)."""


def listener_name(app_port: int, proxy_port: int) -> str:
    """Return the name of the listener on a proxy port, as in Cloud Foundry."""
    return f"listener-{app_port}-{proxy_port}"


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """What the listeners of all instances of an app have in common on one port.

    Attributes:
        app_port: the port to whose cluster the listener forwards.
        proxy_port: the port to listen on.
        protocol: what the app speaks there.
        secret: the SDS secret to serve TLS with; "" for plaintext.
        validation: the SDS secret that says which client certificates are accepted; "" to ask for
            none.
    """

    app_port: int
    proxy_port: int
    protocol: AppProtocol
    secret: str = C2C_SECRET
    validation: str = ""

    @property
    def name(self) -> str:
        """The resource's name, as in Cloud Foundry."""
        return listener_name(self.app_port, self.proxy_port)


def tcp_listener(
    spec: ListenerSpec,
    listen_address: str,
    *,
    sources: Iterable[Source] | None,
    probers: Iterable[str] = (),
) -> bytes:
    """Build the listener on an instance's address that forwards to one of its app's ports.

    Args:
        spec: what the listener has in common with those of the other instances.
        listen_address: the address of the instance.
        sources: the apps that may connect. None opens the port to everybody. An empty
            collection opens it to nobody: the port is bound and closes every connection at once.
        probers: addresses that may look at the certificate: they get a handshake, and no byte of
            the app.
    """
    shape = _shape(spec, restricted=sources is not None)
    listener = listener_pb2.Listener.FromString(shape)
    listener.address.socket_address.address = listen_address
    listener.address.socket_address.port_value = spec.proxy_port
    if sources is not None:
        del listener.filter_chains[:]
        for source in sorted(sources, key=lambda each: each.app):
            if source.addresses:
                _admit(listener, _allowed(spec, source.app), source.addresses)
        tree = listener.filter_chain_matcher.matcher_tree
        tree.input.name = "source-ip"
        tree.input.typed_config.Pack(network_inputs_pb2.DirectSourceIPInput(), deterministic=True)
        allowed = tree.exact_match_map.map
        lookers = [each for each in map(as_envoy_writes, in_order(probers)) if each not in allowed]
        if lookers:
            _admit(listener, _probed(spec, "probe"), lookers)
        if not listener.filter_chains:
            # Envoy refuses a listener without a chain, and a chain keeps the secret subscribed.
            _admit(listener, _probed(spec, "nobody"), [_NOBODY])
    check_listener(listener, is_open=sources is None)
    return bytes(listener.SerializeToString(deterministic=True))


def _admit(listener: listener_pb2.Listener, body: bytes, addresses: Iterable[str]) -> None:
    """Add a chain, and map these addresses to it; Envoy closes connections that are not mapped."""
    chain = listener.filter_chains.add()
    chain.MergeFromString(body)
    there = matcher_pb2.Matcher.OnMatch()
    there.action.name = "filter-chain"
    there.action.typed_config.Pack(StringValue(value=chain.name), deterministic=True)
    # Addresses in a map are found at once. For ranges of addresses, Envoy warns of work in
    # progress.
    admitted = listener.filter_chain_matcher.matcher_tree.exact_match_map.map
    for address in addresses:
        admitted[as_envoy_writes(address)].CopyFrom(there)


@lru_cache(maxsize=4096)
def _allowed(spec: ListenerSpec, app: str) -> bytes:
    """Return the chain for an app that may connect; with HTTP it has a filter of its own."""
    (chain,) = listener_pb2.Listener.FromString(_shape(spec, restricted=True)).filter_chains
    chain.name = f"from-{app}"
    if spec.protocol is not AppProtocol.TCP:
        manager = http_connection_manager_pb2.HttpConnectionManager()
        chain.filters[0].typed_config.Unpack(manager)
        manager.http_filters[0].name = sources_filter_name(spec.proxy_port, app)
        chain.filters[0].typed_config.Pack(manager, deterministic=True)
    return bytes(chain.SerializeToString(deterministic=True))


@lru_cache(maxsize=256)
def _probed(spec: ListenerSpec, name: str) -> bytes:
    """Return a chain for probers: the same TLS, and no app behind it."""
    (chain,) = listener_pb2.Listener.FromString(_shape(spec, restricted=True)).filter_chains
    chain.name = name
    del chain.filters[:]
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix="probe")
    host = manager.route_config.virtual_hosts.add(name="nobody", domains=["*"])
    host.routes.add().match.prefix = "/"
    host.routes[0].direct_response.status = 403
    host.routes[0].direct_response.body.inline_string = _PROBED
    router = manager.http_filters.add(name="envoy.filters.http.router")
    router.typed_config.Pack(router_pb2.Router(), deterministic=True)
    # Not the direct_response network filter: it closes the connection before TLS is established.
    each = chain.filters.add(name="envoy.filters.network.http_connection_manager")
    each.typed_config.Pack(manager, deterministic=True)
    return bytes(chain.SerializeToString(deterministic=True))


@lru_cache(maxsize=256)
def _shape(spec: ListenerSpec, *, restricted: bool) -> bytes:
    """Return what the listeners of all instances share, with one chain that matches all callers."""
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
        per_connection_buffer_limit_bytes=BUFFER_OCTETS,
        # A second Envoy must fail to bind, not silently take half of the connections.
        enable_reuse_port=False,
        # This finds clients that are gone without a word, since there is no idle timeout.
        tcp_keepalive=TcpKeepalive(keepalive_time=300, keepalive_interval=30, keepalive_probes=3),
    )
    return bytes(listener)


def _forward(spec: ListenerSpec, *, restricted: bool) -> Filter:
    cluster = service_cluster_name(spec.app_port)
    stat_prefix = f"stats-{spec.app_port}-{spec.proxy_port}"
    match spec.protocol:
        case AppProtocol.HTTP1 | AppProtocol.HTTP2:
            filters = (discovered_filter(_ITS_OWN),) if restricted else ()
            retry = if_refused() if spec.protocol is AppProtocol.HTTP2 else None
            return connection_manager(stat_prefix, cluster=cluster, filters=filters, retry=retry)
        case AppProtocol.TCP:
            config = TcpProxy(
                stat_prefix=stat_prefix,
                cluster=cluster,
                idle_timeout=NEVER,
                # Otherwise the app hears of clients that never finish the handshake, and while the
                # app is down, the handshake of other clients is cut short.
                upstream_connect_mode=UpstreamConnectMode.ON_DOWNSTREAM_TLS_HANDSHAKE,
                max_early_data_bytes=0,
            )
            return Filter(name="envoy.filters.network.tcp_proxy", typed_config=Any.pack(config))
        case _:
            assert_never(spec.protocol)
