"""The listener for UDP to an app's own port, for sources that a policy names.

The rule of this module: a datagram from a source that is not named is dropped, and so is the first
datagram of a sender for which there is no room (``clusters.MAX_SESSIONS``). Envoy's API marks the
matcher of udp_proxy that does this as work in progress; but it does enforce, as tests with the real
Envoy show. A changed listener is replaced, and its sessions start anew. The app sees Envoy's
loopback address as its peer.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3 import address_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2, udp_proxy_pb2
from envoy.extensions.matching.common_inputs.network.v3 import network_inputs_pb2
from xds.type.matcher.v3 import ip_pb2, matcher_pb2

from control_plane.envoy.addresses import host_prefix_len, in_order
from control_plane.envoy.clusters import datagram_cluster_name
from control_plane.envoy.validation import check_udp_listener

MAX_DATAGRAM = (1 << 16) - 1
"""More than any datagram has; by default Envoy would drop those of more than 1500 bytes."""


def udp_listener_name(port: int) -> str:
    """Return the name of the UDP listener on an app's own port."""
    return f"listener-udp-{port}"


def udp_listener(port: int, listen_address: str, *, sources: Iterable[str]) -> bytes:
    """Build the UDP listener on an instance's address and an app's port."""
    listener = listener_pb2.Listener(name=udp_listener_name(port))
    place = listener.address.socket_address
    place.protocol = address_pb2.SocketAddress.UDP
    place.address = listen_address
    place.port_value = port
    sizes = listener.udp_listener_config.downstream_socket_config
    sizes.max_rx_datagram_size.value = MAX_DATAGRAM
    proxy = udp_proxy_pb2.UdpProxyConfig(stat_prefix=f"stats-udp-{port}")
    proxy.upstream_socket_config.max_rx_datagram_size.value = MAX_DATAGRAM
    _match_sources(proxy.matcher, datagram_cluster_name(port), in_order(sources))
    each = listener.listener_filters.add(name="envoy.filters.udp_listener.udp_proxy")
    each.typed_config.Pack(proxy, deterministic=True)
    check_udp_listener(listener)
    return bytes(listener.SerializeToString(deterministic=True))


def _match_sources(matcher: matcher_pb2.Matcher, cluster: str, sources: tuple[str, ...]) -> None:
    tree = matcher.matcher_tree
    tree.input.name = "source-ip"
    tree.input.typed_config.Pack(network_inputs_pb2.SourceIPInput(), deterministic=True)
    addresses = ip_pb2.IPMatcher()
    matched = addresses.range_matchers.add()
    for source in sources:
        matched.ranges.add(address_prefix=source).prefix_len.value = host_prefix_len(source)
    action = matched.on_match.action
    action.name = "forward"
    action.typed_config.Pack(route_pb2.Route(cluster=cluster), deterministic=True)
    tree.custom_match.name = "ip-matcher"
    tree.custom_match.typed_config.Pack(addresses, deterministic=True)
