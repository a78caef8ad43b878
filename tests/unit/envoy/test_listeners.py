"""The listener of an instance, read back with protobuf's own classes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoy_data_plane.envoy.config.listener.v3 import Listener

from control_plane.envoy import listeners
from control_plane.model.entities import AppProtocol
from control_plane.names import C2C_PORT

HTTP = [AppProtocol.HTTP1, AppProtocol.HTTP2]


def _built(
    protocol: AppProtocol = AppProtocol.HTTP1,
    *,
    address: str = "10.0.0.7",
    sources: tuple[str, ...] | None = None,
) -> bytes:
    spec = listeners.ListenerSpec(8080, C2C_PORT, protocol)
    return listeners.tcp_listener(spec, address, sources=sources)


def _listener(
    protocol: AppProtocol = AppProtocol.HTTP1,
    *,
    address: str = "10.0.0.7",
    sources: tuple[str, ...] | None = None,
) -> Any:  # noqa: ANN401 untyped upb
    body = _built(protocol, address=address, sources=sources)
    return listener_pb2.Listener.FromString(body)


def _unpacked(packed: Any, message: Any) -> Any:  # noqa: ANN401 untyped upb
    assert packed.Unpack(message)
    return message


def _manager(listener: Any) -> Any:  # noqa: ANN401 untyped upb
    (network_filter,) = listener.filter_chains[0].filters
    return _unpacked(network_filter.typed_config, hcm_pb2.HttpConnectionManager())


def _tls(listener: Any) -> Any:  # noqa: ANN401 untyped upb
    socket = listener.filter_chains[0].transport_socket
    return _unpacked(socket.typed_config, tls_pb2.DownstreamTlsContext())


@pytest.mark.parametrize("protocol", AppProtocol)
def test_name_and_address(protocol: AppProtocol) -> None:
    """The listener is named as Cloud Foundry names it and bound to the instance's address."""
    listener = _listener(protocol)

    assert listener.name == "listener-8080-61443" == listeners.listener_name(8080, 61443)
    address = listener.address.socket_address
    assert (address.address, address.port_value) == ("10.0.0.7", 61443)
    assert listener.enable_reuse_port.value is False
    assert listener.HasField("enable_reuse_port")


def test_clients_that_vanish_are_found() -> None:
    """Since no timeout finds a client that is gone without a word, TCP keepalive does."""
    keepalive = Listener.parse(
        _built(AppProtocol.TCP)
    ).tcp_keepalive  # newer than protobuf's class of the message

    assert keepalive is not None
    assert keepalive.keepalive_time == 300


@pytest.mark.parametrize("protocol", AppProtocol)
def test_tls_names_its_secret_and_leaves_ciphers_to_envoy(protocol: AppProtocol) -> None:
    """TLS 1.2 or newer, one SDS secret over ADS that is waited for, no cipher list, one-way."""
    context = _tls(_listener(protocol))

    common = context.common_tls_context
    (secret,) = common.tls_certificate_sds_secret_configs
    assert secret.name == "c2c-cert-and-key"
    assert secret.sds_config.WhichOneof("config_source_specifier") == "ads"
    assert secret.sds_config.HasField("initial_fetch_timeout")
    assert secret.sds_config.initial_fetch_timeout.ToNanoseconds() == 0
    assert common.tls_params.tls_minimum_protocol_version == common_pb2.TlsParameters.TLSv1_2
    assert not common.tls_params.cipher_suites
    assert not context.require_client_certificate.value
    assert not common.HasField("validation_context_sds_secret_config")


@pytest.mark.parametrize("protocol", HTTP)
def test_http_apps_offer_both_versions(protocol: AppProtocol) -> None:
    """ALPN has two entries, not Cloud Foundry's one entry with a comma in it."""
    assert list(_tls(_listener(protocol)).common_tls_context.alpn_protocols) == ["h2", "http/1.1"]


def test_tcp_apps_offer_no_version() -> None:
    """A tcp app has no ALPN, and a connection that is idle for an hour stays open."""
    listener = _listener(AppProtocol.TCP)

    assert not _tls(listener).common_tls_context.alpn_protocols
    proxy = _unpacked(listener.filter_chains[0].filters[0].typed_config, tcp_proxy_pb2.TcpProxy())
    assert proxy.cluster == "service-cluster-8080"
    assert proxy.HasField("idle_timeout")
    assert proxy.idle_timeout.ToNanoseconds() == 0


@pytest.mark.parametrize("protocol", HTTP)
def test_nothing_runs_out_of_time(protocol: AppProtocol) -> None:
    """Neither the route nor an idle stream has a timeout; both are set, and set to zero."""
    manager = _manager(_listener(protocol))

    ((route,),) = (host.routes for host in manager.route_config.virtual_hosts)
    for message, name in ((manager, "stream_idle_timeout"), (route.route, "timeout")):
        assert message.HasField(name)
        assert getattr(message, name).ToNanoseconds() == 0
    assert not manager.HasField("request_timeout")


def test_a_port_that_is_open_to_everybody_has_one_chain_without_a_match() -> None:
    """Without sources there is no restriction, and no filter that waits for one."""
    listener = _listener(sources=None)

    (chain,) = listener.filter_chains
    assert not chain.HasField("filter_chain_match")
    assert [each.name for each in _manager(listener).http_filters] == ["envoy.filters.http.router"]


def test_each_source_has_a_chain_of_its_own() -> None:
    """IPv4 sources match as /32 and IPv6 sources as /128, each in one chain, in order."""
    listener = _listener(sources=("fd00::1", "10.0.0.10", "10.0.0.9", "10.0.0.9"))

    ranges = []
    for chain in listener.filter_chains:
        (allowed,) = chain.filter_chain_match.source_prefix_ranges
        ranges.append((chain.name, allowed.address_prefix, allowed.prefix_len.value))
    assert ranges == [
        ("from-10.0.0.9", "10.0.0.9", 32),
        ("from-10.0.0.10", "10.0.0.10", 32),
        ("from-fd00::1", "fd00::1", 128),
    ]


def test_a_chain_does_not_depend_on_the_others() -> None:
    """Envoy drains the chains whose bytes change: a source's are the same in company."""
    alone = _listener(sources=("10.0.0.9",)).filter_chains
    together = _listener(sources=("10.0.0.8", "10.0.0.9", "10.0.0.10")).filter_chains

    assert alone[0].SerializeToString() == together[1].SerializeToString()


@pytest.mark.parametrize("protocol", AppProtocol)
def test_no_source_is_an_address_that_nobody_has(protocol: AppProtocol) -> None:
    """An empty set of sources is a chain that no connection matches, and still names the secret."""
    listener = _listener(protocol, sources=())

    (chain,) = listener.filter_chains
    (allowed,) = chain.filter_chain_match.source_prefix_ranges
    assert (allowed.address_prefix, allowed.prefix_len.value) == ("255.255.255.255", 32)
    assert _tls(listener).common_tls_context.tls_certificate_sds_secret_configs


@pytest.mark.parametrize("protocol", HTTP)
def test_a_restricted_http_port_denies_until_told(protocol: AppProtocol) -> None:
    """The filter comes over ECDS; the listener waits for it, and without it denies everything."""
    first, router = _manager(_listener(protocol, sources=("10.0.0.9",))).http_filters

    assert first.name == "allowed-sources-61443"
    discovery = first.config_discovery
    assert discovery.config_source.WhichOneof("config_source_specifier") == "ads"
    assert not discovery.apply_default_config_without_warming
    assert discovery.default_config.type_url == discovery.type_urls[0]
    assert router.name == "envoy.filters.http.router"


def test_the_same_plan_has_the_same_bytes() -> None:
    """Neither the order of the sources nor what was built before reaches the bytes."""
    sources = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    built = {_built(sources=order) for order in itertools.permutations(sources)}

    assert len(built) == 1
