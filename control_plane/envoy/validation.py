"""What a message has to be like before it is sent.

The rule of this module: when Envoy refuses a message, it keeps what it had, even if that allows too
much; and to Envoy an empty match means everybody. So what the builders made is checked once more,
as Envoy will read it, and a message that breaks a rule is an error here and never sent. The check
costs microseconds for each message that is built, and nothing for messages that are kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable
from functools import lru_cache

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.rbac.v3 import rbac_pb2 as rules_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2, udp_proxy_pb2
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import StringValue
from xds.type.matcher.v3 import ip_pb2

from control_plane.errors import MessageError
from control_plane.names import shown

_PORTS = range(1, 1 << 16)


def check_listener(listener: listener_pb2.Listener, *, is_open: bool) -> None:
    """Check a TCP listener.

    Args:
        is_open: whether the listener is meant for everybody, rather than for sources that it names.

    Raises:
        MessageError: the listener breaks a rule.
    """
    what = _named("listener", listener.name)
    _check_place(listener.address.socket_address, what)
    _check_distinct((each.name for each in listener.filter_chains), f"filter chain of {what}")
    if not listener.filter_chains:
        raise MessageError(f"{what} has no filter chain")
    for chain in listener.filter_chains:
        if not chain.filters:
            raise MessageError(f"filter chain {chain.name!r} of {what} does nothing")
    if not is_open:
        _check_sources(listener, what)


def _check_sources(listener: listener_pb2.Listener, what: str) -> None:
    """Check that only single addresses are mapped to the chains, and every chain has one."""
    matcher = listener.filter_chain_matcher
    admitted = matcher.matcher_tree.exact_match_map.map
    if not admitted or matcher.HasField("on_no_match") or listener.HasField("default_filter_chain"):
        raise MessageError(f"{what} is for everybody, and not meant to be")
    led = set()
    for address, match in admitted.items():
        if _bits(address) is None:
            raise MessageError(f"{what} names a source that is none: {shown(address)}")
        chain = StringValue()
        _unpack(match.action.typed_config, chain, what)
        led.add(chain.value)
    there = {each.name for each in listener.filter_chains}
    if led != there:
        raise MessageError(f"{what} leads to {_quoted(led)}, and has {_quoted(there)}")


def check_udp_listener(listener: listener_pb2.Listener) -> None:
    """Check a UDP listener.

    Raises:
        MessageError: the listener breaks a rule.
    """
    what = _named("listener", listener.name)
    place = listener.address.socket_address
    if place.protocol != address_pb2.SocketAddress.UDP:
        raise MessageError(f"{what} is not for UDP")
    _check_place(place, what)
    if len(listener.listener_filters) != 1:
        raise MessageError(f"{what} has {len(listener.listener_filters)} filters, not one")
    proxy = udp_proxy_pb2.UdpProxyConfig()
    _unpack(listener.listener_filters[0].typed_config, proxy, what)
    if proxy.HasField("cluster") or proxy.matcher.HasField("on_no_match"):
        raise MessageError(f"{what} is for everybody")
    addresses = ip_pb2.IPMatcher()
    _unpack(proxy.matcher.matcher_tree.custom_match.typed_config, addresses, what)
    if not any(each.ranges for each in addresses.range_matchers):
        raise MessageError(f"{what} names no source")
    for each in addresses.range_matchers:
        _check_ranges(each.ranges, what)
        route = route_pb2.Route()
        _unpack(each.on_match.action.typed_config, route, what)
        _named(f"cluster of {what}", route.cluster)


def check_filter(body: bytes) -> bytes:
    """Check an RBAC filter that comes over ECDS, and return it.

    Raises:
        MessageError: the filter breaks a rule.
    """
    config = extension_pb2.TypedExtensionConfig.FromString(body)
    what = _named("filter", config.name)
    rbac = rbac_pb2.RBAC()
    _unpack(config.typed_config, rbac, what)
    if not rbac.HasField("rules") or rbac.rules.action != rules_pb2.RBAC.ALLOW:
        raise MessageError(f"{what} allows everybody whom it does not name")
    for name, policy in rbac.rules.policies.items():
        whose = f"{_named('policy', name)} of {what}"
        if not policy.permissions or not policy.principals:
            raise MessageError(f"{whose} lacks permissions or principals")
        if any(each.WhichOneof("rule") is None for each in policy.permissions):
            raise MessageError(f"{whose} has an empty permission")
        if any(each.WhichOneof("identifier") != "direct_remote_ip" for each in policy.principals):
            raise MessageError(f"{whose} has a principal without the peer's own address")
        _check_ranges([each.direct_remote_ip for each in policy.principals], whose)
    return body


def check_cluster(body: bytes) -> bytes:
    """Check a cluster, and return it.

    Raises:
        MessageError: the cluster breaks a rule.
    """
    cluster = cluster_pb2.Cluster.FromString(body)
    what = _named("cluster", cluster.name)
    if cluster.load_assignment.cluster_name != cluster.name:
        raise MessageError(f"{what} has the endpoints of another")
    places = [
        each.endpoint.address.socket_address
        for locality in cluster.load_assignment.endpoints
        for each in locality.lb_endpoints
    ]
    if not places:
        raise MessageError(f"{what} has no endpoint")
    for place in places:
        _check_place(place, what)
    return body


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def _named(kind: str, name: str) -> str:
    if not name:
        raise MessageError(f"a {kind} has no name")
    return f"{kind} {shown(name)}"


def _check_place(place: address_pb2.SocketAddress, what: str) -> None:
    if _bits(place.address) is None:
        raise MessageError(f"{what} has an address that is none: {shown(place.address)}")
    if place.port_value not in _PORTS:
        raise MessageError(f"{what} has a port that is not from 1 to 65535: {place.port_value}")


def _check_ranges(ranges: Collection[address_pb2.CidrRange], what: str) -> None:
    """Check that each range is a single address, and that none occurs twice."""
    for each in ranges:
        address, length = each.address_prefix, each.prefix_len.value
        bits = _bits(address)
        if bits is None:
            raise MessageError(f"{what} names a source that is none: {shown(address)}")
        if length != bits:
            raise MessageError(f"{what} names {address}/{length}, which is more than one source")
    if len(ranges) > 1:
        _check_distinct((each.address_prefix for each in ranges), f"source of {what}")


def _check_distinct(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise MessageError(f"a {what} has no name")
        if name in seen:
            raise MessageError(f"{shown(name)} is twice a {what}")
        seen.add(name)


@lru_cache(maxsize=16384)  # the same sources are in the listeners of all instances
def _bits(address: str) -> int | None:
    """Return how many bits an address has; None if it is no address."""
    try:
        return ipaddress.ip_address(address).max_prefixlen
    except ValueError:
        return None


def _unpack(packed: Any, into: Message, what: str) -> None:
    """Read the message that is packed in another; it has to be of that type."""
    if not packed.Unpack(into):
        raise MessageError(f"{what} has something else than {into.DESCRIPTOR.full_name}")
