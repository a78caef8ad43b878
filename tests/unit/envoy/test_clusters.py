"""The cluster in front of an app, read back with protobuf's own classes."""

from __future__ import annotations

from typing import Any

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.extensions.http.header_formatters.preserve_case.v3 import preserve_case_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from control_plane.envoy import clusters
from control_plane.model.entities import AppProtocol


def _cluster(protocol: AppProtocol, address: str = "127.0.0.1") -> Any:  # noqa: ANN401 untyped upb
    return cluster_pb2.Cluster.FromString(clusters.service_cluster(8080, address, protocol))


def _http_options(protocol: AppProtocol) -> Any:  # noqa: ANN401 untyped upb
    (packed,) = _cluster(protocol).typed_extension_protocol_options.values()
    options = http_protocol_options_pb2.HttpProtocolOptions()
    assert packed.Unpack(options)
    return options


@pytest.mark.parametrize("protocol", AppProtocol)
def test_the_cluster_has_the_app_as_its_only_endpoint(protocol: AppProtocol) -> None:
    """Name, address and port are as Cloud Foundry has them."""
    cluster = _cluster(protocol, "10.0.0.7")

    assert cluster.name == "service-cluster-8080" == clusters.service_cluster_name(8080)
    assert cluster.type == cluster_pb2.Cluster.STATIC
    assert cluster.load_assignment.cluster_name == cluster.name
    ((endpoint,),) = (each.lb_endpoints for each in cluster.load_assignment.endpoints)
    address = endpoint.endpoint.address.socket_address
    assert (address.address, address.port_value) == ("10.0.0.7", 8080)


@pytest.mark.parametrize("protocol", AppProtocol)
def test_each_priority_has_one_entry_with_every_limit(protocol: AppProtocol) -> None:
    """Envoy reads one entry for each priority, so all limits are in it, at their largest."""
    default, high = _cluster(protocol).circuit_breakers.thresholds

    assert (default.priority, high.priority) == (0, 1)
    for entry in (default, high):
        limits = (
            entry.max_connections,
            entry.max_pending_requests,
            entry.max_requests,
            entry.max_retries,
        )
        assert [limit.value for limit in limits] == [2**32 - 1] * 4


def test_an_http1_app_gets_one_request_for_each_connection() -> None:
    """HTTP/1.1 upstream: no keep-alive, trailers kept, header names and reason phrase kept."""
    options = _http_options(AppProtocol.HTTP1)

    http1 = options.explicit_http_config.http_protocol_options
    assert options.common_http_protocol_options.max_requests_per_connection.value == 1
    assert http1.enable_trailers
    formatter = preserve_case_pb2.PreserveCaseFormatterConfig()
    assert http1.header_key_format.stateful_formatter.typed_config.Unpack(formatter)
    assert formatter.forward_reason_phrase


def test_an_http2_app_gets_http2_on_connections_that_stay() -> None:
    """HTTP/2 upstream is explicit, and its connections serve any number of requests."""
    options = _http_options(AppProtocol.HTTP2)

    config = options.explicit_http_config
    assert config.WhichOneof("protocol_config") == "http2_protocol_options"
    assert not options.common_http_protocol_options.HasField("max_requests_per_connection")


@pytest.mark.parametrize("protocol", [AppProtocol.HTTP1, AppProtocol.HTTP2])
def test_responses_may_have_large_headers(protocol: AppProtocol) -> None:
    """The limits for response headers are above what apps send."""
    common = _http_options(protocol).common_http_protocol_options

    assert common.max_response_headers_kb.value == 1024
    assert common.max_headers_count.value == 10_000


def test_a_tcp_app_has_no_http_options() -> None:
    """For a tcp app Envoy knows nothing of HTTP."""
    assert not _cluster(AppProtocol.TCP).typed_extension_protocol_options


def test_datagrams_have_a_cluster_with_a_bound() -> None:
    """It is another than that of connections, and leads to the same port of the app."""
    cluster = cluster_pb2.Cluster.FromString(clusters.datagram_cluster(53, "127.0.0.1"))

    assert cluster.name == "service-cluster-udp-53" == clusters.datagram_cluster_name(53)
    ((endpoint,),) = (each.lb_endpoints for each in cluster.load_assignment.endpoints)
    address = endpoint.endpoint.address.socket_address
    assert (address.address, address.port_value) == ("127.0.0.1", 53)
    (bound,) = cluster.circuit_breakers.thresholds
    assert (bound.priority, bound.max_connections.value) == (0, 8192)
