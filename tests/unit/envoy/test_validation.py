"""What is never sent: a message that Envoy would refuse, or that says more than was meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import address_pb2, extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.rbac.v3 import rbac_pb2 as rules_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import route_pb2, udp_proxy_pb2
from xds.type.matcher.v3 import ip_pb2

from control_plane.envoy.clusters import service_cluster
from control_plane.envoy.listeners import ListenerSpec, tcp_listener
from control_plane.envoy.rbac import http_rbac
from control_plane.envoy.udp import udp_listener
from control_plane.envoy.validation import (
    check_cluster,
    check_filter,
    check_listener,
    check_udp_listener,
)
from control_plane.errors import MessageError
from control_plane.model.entities import AppProtocol, Source
from control_plane.names import Address, AppGuid

SPEC = ListenerSpec(8080, 61443, AppProtocol.TCP)
SOURCES = ("10.0.0.1", "fd00::1")
APPS = (
    Source(AppGuid("a"), (Address("10.0.0.1"),)),
    Source(AppGuid("b"), (Address("fd00::1"),)),
)
LISTENER = "listener 'listener-8080-61443'"
UDP = "listener 'listener-udp-53'"
CHAIN = f"filter chain 'from-a' of {LISTENER}"
EVERYBODY = f"{LISTENER} is for everybody, and not meant to be"
FILTER = "filter 'allowed'"
POLICY = f"policy 'sources' of {FILTER}"
MORE = "which is more than one source"
PROXY = "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig"
CLUSTER = "cluster 'service-cluster-8080'"

Break = Callable[[Any], object]


def each_of(*rules: tuple[Break, str]) -> pytest.MarkDecorator:
    """Run a test with each way to break a message, and the sentence that says so."""
    numbered = [f"{number}: {sentence}" for number, (_, sentence) in enumerate(rules)]
    return pytest.mark.parametrize(("broken", "sentence"), rules, ids=numbered)


def admitted_by(listener: Any) -> Any:  # noqa: ANN401 - untyped upb
    """Return where a listener leads each address."""
    return listener.filter_chain_matcher.matcher_tree.exact_match_map.map


@each_of(
    (lambda it: it.ClearField("name"), "a listener has no name"),
    (lambda it: it.ClearField("address"), f"{LISTENER} has an address that is none: ''"),
    (
        lambda it: setattr(it.address.socket_address, "address", "localhost"),
        f"{LISTENER} has an address that is none: 'localhost'",
    ),
    (
        lambda it: setattr(it.address.socket_address, "port_value", 0),
        f"{LISTENER} has a port that is not from 1 to 65535: 0",
    ),
    (
        lambda it: setattr(it.address.socket_address, "port_value", 65536),
        f"{LISTENER} has a port that is not from 1 to 65535: 65536",
    ),
    (lambda it: it.ClearField("filter_chains"), f"{LISTENER} has no filter chain"),
    (
        lambda it: it.filter_chains[1].ClearField("name"),
        f"a filter chain of {LISTENER} has no name",
    ),
    (
        lambda it: setattr(it.filter_chains[1], "name", "from-a"),
        f"'from-a' is twice a filter chain of {LISTENER}",
    ),
    (lambda it: it.filter_chains[0].ClearField("filters"), f"{CHAIN} does nothing"),
    (lambda it: it.ClearField("filter_chain_matcher"), EVERYBODY),
    (lambda it: admitted_by(it).clear(), EVERYBODY),
    (
        lambda it: it.filter_chain_matcher.on_no_match.CopyFrom(admitted_by(it)["fd00::1"]),
        EVERYBODY,
    ),
    (lambda it: it.default_filter_chain.CopyFrom(it.filter_chains[0]), EVERYBODY),
    (
        lambda it: admitted_by(it)["10.0.0.0/8"].CopyFrom(admitted_by(it)["fd00::1"]),
        f"{LISTENER} names a source that is none: '10.0.0.0/8'",
    ),
    (
        lambda it: admitted_by(it)["fd00::1"].action.typed_config.Pack(route_pb2.Route()),
        f"{LISTENER} has something else than google.protobuf.StringValue",
    ),
    (
        lambda it: admitted_by(it)["fd00::1"].CopyFrom(admitted_by(it)["10.0.0.1"]),
        f"{LISTENER} leads to 'from-a', and has 'from-a', 'from-b'",
    ),
    (
        lambda it: setattr(it.filter_chains[0], "name", "from-c"),
        f"{LISTENER} leads to 'from-a', 'from-b', and has 'from-b', 'from-c'",
    ),
)
def test_a_listener_that_breaks_a_rule(broken: Break, sentence: str) -> None:
    """For nobody but the sources that it names, each of them one address with one chain."""
    body = tcp_listener(SPEC, "10.0.1.1", sources=APPS)
    listener = listener_pb2.Listener.FromString(body)
    check_listener(listener, is_open=False)
    broken(listener)

    with pytest.raises(MessageError) as refused:
        check_listener(listener, is_open=False)

    assert str(refused.value) == sentence


def test_a_listener_for_everybody_has_to_be_meant() -> None:
    """Without that, no message lets everybody in, whatever was forgotten."""
    body = tcp_listener(SPEC, "10.0.1.1", sources=None)
    listener = listener_pb2.Listener.FromString(body)
    check_listener(listener, is_open=True)

    with pytest.raises(MessageError, match="is for everybody, and not meant to be"):
        check_listener(listener, is_open=False)


def repacked(listener: listener_pb2.Listener, proxy: udp_proxy_pb2.UdpProxyConfig) -> None:
    """Put a proxy into a listener."""
    listener.listener_filters[0].typed_config.Pack(proxy)


def with_matched(what: Break) -> Break:
    """Return what breaks the addresses that a UDP listener matches."""

    def change(listener: listener_pb2.Listener) -> None:
        proxy, matched = udp_proxy_pb2.UdpProxyConfig(), ip_pb2.IPMatcher()
        listener.listener_filters[0].typed_config.Unpack(proxy)
        packed = proxy.matcher.matcher_tree.custom_match.typed_config
        packed.Unpack(matched)
        what(matched)
        packed.Pack(matched)
        repacked(listener, proxy)

    return change


def with_proxy(what: Break) -> Break:
    """Return what breaks the proxy of a UDP listener."""

    def change(listener: listener_pb2.Listener) -> None:
        proxy = udp_proxy_pb2.UdpProxyConfig()
        listener.listener_filters[0].typed_config.Unpack(proxy)
        what(proxy)
        repacked(listener, proxy)

    return change


@each_of(
    (lambda it: it.ClearField("name"), "a listener has no name"),
    (
        lambda it: setattr(it.address.socket_address, "protocol", address_pb2.SocketAddress.TCP),
        f"{UDP} is not for UDP",
    ),
    (
        lambda it: setattr(it.address.socket_address, "address", ""),
        f"{UDP} has an address that is none: ''",
    ),
    (
        lambda it: setattr(it.address.socket_address, "port_value", 0),
        f"{UDP} has a port that is not from 1 to 65535: 0",
    ),
    (lambda it: it.ClearField("listener_filters"), f"{UDP} has 0 filters, not one"),
    (
        lambda it: it.listener_filters[0].typed_config.Pack(route_pb2.Route()),
        f"{UDP} has something else than {PROXY}",
    ),
    (
        with_proxy(lambda it: setattr(it, "cluster", "service-cluster-53")),
        f"{UDP} is for everybody",
    ),
    (
        with_proxy(lambda it: it.matcher.on_no_match.action.SetInParent()),
        f"{UDP} is for everybody",
    ),
    (
        with_proxy(lambda it: it.matcher.ClearField("matcher_tree")),
        f"{UDP} has something else than xds.type.matcher.v3.IPMatcher",
    ),
    (with_matched(lambda it: it.ClearField("range_matchers")), f"{UDP} names no source"),
    (
        with_matched(lambda it: it.range_matchers[0].ClearField("ranges")),
        f"{UDP} names no source",
    ),
    (
        with_matched(lambda it: setattr(it.range_matchers[0].ranges[0].prefix_len, "value", 8)),
        f"{UDP} names 10.0.0.1/8, {MORE}",
    ),
    (
        with_matched(
            lambda it: it.range_matchers[0].on_match.action.typed_config.Pack(route_pb2.Route())
        ),
        f"a cluster of {UDP} has no name",
    ),
)
def test_a_udp_listener_that_breaks_a_rule(broken: Break, sentence: str) -> None:
    """Likewise, with one matcher on the source."""
    listener = listener_pb2.Listener.FromString(udp_listener(53, "10.0.1.1", sources=SOURCES))
    check_udp_listener(listener)
    broken(listener)

    with pytest.raises(MessageError) as refused:
        check_udp_listener(listener)

    assert str(refused.value) == sentence


def with_rules(what: Break) -> Break:
    """Return what breaks the rules of a filter."""

    def change(config: extension_pb2.TypedExtensionConfig) -> None:
        rbac = rbac_pb2.RBAC()
        config.typed_config.Unpack(rbac)
        what(rbac)
        config.typed_config.Pack(rbac)

    return change


def with_policy(what: Break) -> Break:
    """Return what breaks the policy of a filter."""
    return with_rules(lambda rbac: what(rbac.rules.policies["sources"]))


def renamed(rbac: rbac_pb2.RBAC) -> None:
    """Take the name of the policy away."""
    rbac.rules.policies[""].CopyFrom(rbac.rules.policies.pop("sources"))


@each_of(
    (lambda it: it.ClearField("name"), "a filter has no name"),
    (
        lambda it: it.typed_config.Pack(route_pb2.Route()),
        f"{FILTER} has something else than envoy.extensions.filters.http.rbac.v3.RBAC",
    ),
    (
        with_rules(lambda it: it.ClearField("rules")),
        f"{FILTER} allows everybody whom it does not name",
    ),
    (
        with_rules(lambda it: setattr(it.rules, "action", rules_pb2.RBAC.DENY)),
        f"{FILTER} allows everybody whom it does not name",
    ),
    (with_rules(renamed), "a policy has no name"),
    (
        with_policy(lambda it: it.ClearField("permissions")),
        f"{POLICY} lacks permissions or principals",
    ),
    (
        with_policy(lambda it: it.ClearField("principals")),
        f"{POLICY} lacks permissions or principals",
    ),
    (
        with_policy(lambda it: it.permissions[0].ClearField("any")),
        f"{POLICY} has an empty permission",
    ),
    (
        with_policy(lambda it: it.permissions.add()),
        f"{POLICY} has an empty permission",
    ),
    (
        with_policy(lambda it: setattr(it.principals[0], "any", True)),
        f"{POLICY} has a principal without the peer's own address",
    ),
    (
        with_policy(lambda it: it.principals.add()),
        f"{POLICY} has a principal without the peer's own address",
    ),
    (
        with_policy(lambda it: it.principals[0].direct_remote_ip.ClearField("prefix_len")),
        f"{POLICY} names 10.0.0.1/0, {MORE}",
    ),
    (
        with_policy(lambda it: setattr(it.principals[0].direct_remote_ip, "address_prefix", "a")),
        f"{POLICY} names a source that is none: 'a'",
    ),
    (
        with_policy(lambda it: it.principals[1].CopyFrom(it.principals[0])),
        f"'10.0.0.1' is twice a source of {POLICY}",
    ),
)
def test_a_filter_that_breaks_a_rule(broken: Break, sentence: str) -> None:
    """It allows, and only the peers that it names."""
    config = extension_pb2.TypedExtensionConfig.FromString(http_rbac("allowed", SOURCES))
    broken(config)

    with pytest.raises(MessageError) as refused:
        check_filter(config.SerializeToString())

    assert str(refused.value) == sentence


@each_of(
    (lambda it: it.ClearField("name"), "a cluster has no name"),
    (
        lambda it: setattr(it.load_assignment, "cluster_name", "service-cluster-1"),
        f"{CLUSTER} has the endpoints of another",
    ),
    (lambda it: it.load_assignment.ClearField("endpoints"), f"{CLUSTER} has no endpoint"),
    (
        lambda it: it.load_assignment.endpoints[0].lb_endpoints.add(),
        f"{CLUSTER} has an address that is none: ''",
    ),
)
def test_a_cluster_that_breaks_a_rule(broken: Break, sentence: str) -> None:
    """It has an endpoint of its own, with an address and a port."""
    body = service_cluster(8080, "127.0.0.1", AppProtocol.TCP)
    cluster = cluster_pb2.Cluster.FromString(body)
    broken(cluster)

    with pytest.raises(MessageError) as refused:
        check_cluster(cluster.SerializeToString())

    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "build",
    [
        lambda: tcp_listener(SPEC, "app-b", sources=APPS),
        lambda: tcp_listener(ListenerSpec(8080, 0, AppProtocol.HTTP1), "10.0.1.1", sources=None),
        lambda: udp_listener(0, "10.0.1.1", sources=SOURCES),
        lambda: udp_listener(53, "10.0.1.1", sources=()),
        lambda: http_rbac("", SOURCES),
        lambda: service_cluster(0, "127.0.0.1", AppProtocol.HTTP1),
        lambda: service_cluster(8080, "localhost", AppProtocol.HTTP2),
    ],
    ids=["listener", "open", "udp", "udp for nobody", "filter", "port", "address"],
)
def test_every_builder_looks_at_what_it_made(build: Callable[[], bytes]) -> None:
    """E5: so nobody gets hold of a message that breaks a rule."""
    with pytest.raises(MessageError):
        build()
