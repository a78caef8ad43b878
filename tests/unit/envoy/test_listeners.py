"""The listener of an instance, read back with protobuf's own classes."""

from __future__ import annotations

import itertools
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

import pytest
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2
from envoy_data_plane.envoy.config.listener.v3 import Listener
from google.protobuf.wrappers_pb2 import StringValue

from control_plane.envoy import listeners
from control_plane.model.entities import AppProtocol, Source
from control_plane.names import C2C_PORT, Address, AppGuid

HTTP = [AppProtocol.HTTP1, AppProtocol.HTTP2]


def _source(app: str, *addresses: str) -> Source:
    return Source(AppGuid(app), tuple(map(Address, addresses)))


def _led(listener: Any) -> dict[str, str]:  # noqa: ANN401 untyped upb
    """Return which filter chain each address is led to."""
    matched = listener.filter_chain_matcher.matcher_tree.exact_match_map.map
    return {
        address: _unpacked(match.action.typed_config, StringValue()).value
        for address, match in matched.items()
    }


def _built(
    protocol: AppProtocol = AppProtocol.HTTP1,
    *,
    address: str = "10.0.0.7",
    sources: tuple[Source, ...] | None = None,
) -> bytes:
    spec = listeners.ListenerSpec(8080, C2C_PORT, protocol)
    return listeners.tcp_listener(spec, address, sources=sources)


def _listener(
    protocol: AppProtocol = AppProtocol.HTTP1,
    *,
    address: str = "10.0.0.7",
    sources: tuple[Source, ...] | None = None,
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
    """The route's timeout is set, and set to zero; that of an idle stream to a year."""
    manager = _manager(_listener(protocol))

    ((route,),) = (host.routes for host in manager.route_config.virtual_hosts)
    assert route.route.HasField("timeout")
    assert route.route.timeout.ToNanoseconds() == 0
    assert manager.stream_idle_timeout.ToTimedelta().days == 365
    assert not manager.HasField("request_timeout")


def test_a_port_that_is_open_to_everybody_has_one_chain_without_a_match() -> None:
    """Without sources there is no restriction, and no filter that waits for one."""
    listener = _listener(sources=None)

    (chain,) = listener.filter_chains
    assert not listener.HasField("filter_chain_matcher")
    assert not chain.HasField("filter_chain_match")
    assert [each.name for each in _manager(listener).http_filters] == ["envoy.filters.http.router"]


def test_each_app_has_a_chain_of_its_own() -> None:
    """Its addresses, IPv4 and IPv6, are led there and no others anywhere."""
    listener = _listener(
        sources=(_source("b", "fd00::1", "10.0.0.10"), _source("a", "10.0.0.9")),
    )

    assert [each.name for each in listener.filter_chains] == ["from-a", "from-b"]
    assert _led(listener) == {"10.0.0.9": "from-a", "10.0.0.10": "from-b", "fd00::1": "from-b"}
    assert not listener.filter_chain_matcher.HasField("on_no_match")
    assert not listener.HasField("default_filter_chain")


def test_an_address_is_written_as_envoy_writes_it() -> None:
    """It compares texts, and they are those of ``inet_ntop``."""
    addresses = ("FD00:0::0:1", "fd00:0:0:1::", "::102:304", "::1:0", "::ffff", "::1", "10.0.0.1")

    led = _led(_listener(sources=(_source("a", *addresses),)))

    families = [AF_INET6 if ":" in each else AF_INET for each in addresses]
    written = [
        inet_ntop(family, inet_pton(family, each))
        for family, each in zip(families, addresses, strict=True)
    ]
    assert sorted(led) == sorted(written)


def test_a_chain_depends_on_nothing_but_its_app() -> None:
    """Envoy drains the chains whose bytes change: an app's are the same wherever it calls from."""
    (alone,) = _listener(sources=(_source("b", "10.0.0.9"),)).filter_chains
    together = _listener(
        sources=(_source("a", "10.0.0.8"), _source("b", "10.0.0.9", "10.0.0.10"))
    ).filter_chains

    assert alone.SerializeToString() == together[1].SerializeToString()


@pytest.mark.parametrize("protocol", AppProtocol)
def test_no_source_is_an_address_that_nobody_has(protocol: AppProtocol) -> None:
    """An empty set of sources is a chain that no connection matches, and still names the secret."""
    listener = _listener(protocol, sources=())

    assert [each.name for each in listener.filter_chains] == ["nobody"]
    assert _led(listener) == {"255.255.255.255": "nobody"}
    assert _tls(listener).common_tls_context.tls_certificate_sds_secret_configs


@pytest.mark.parametrize("protocol", HTTP)
def test_a_restricted_http_port_denies_until_told(protocol: AppProtocol) -> None:
    """The filter comes over ECDS; the listener waits for it, and without it denies everything."""
    first, router = _manager(_listener(protocol, sources=(_source("a", "10.0.0.9"),))).http_filters

    assert first.name == "allowed-sources-61443-a"
    discovery = first.config_discovery
    assert discovery.config_source.WhichOneof("config_source_specifier") == "ads"
    assert not discovery.apply_default_config_without_warming
    assert discovery.default_config.type_url == discovery.type_urls[0]
    assert router.name == "envoy.filters.http.router"


def test_the_same_plan_has_the_same_bytes() -> None:
    """Neither the order of the sources nor what was built before reaches the bytes."""
    built = {
        _built(
            sources=tuple(_source(app, *(f"10.{app}.0.{each}" for each in few)) for app in order)
        )
        for order in itertools.permutations("123")
        for few in itertools.permutations((1, 2, 3))
    }

    assert len(built) == 1
