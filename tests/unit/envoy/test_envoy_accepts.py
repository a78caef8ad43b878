"""What the builders return passes Envoy's own validation, rules on field values included."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.listener.v3 import listener_pb2

from control_plane.envoy import clusters, listeners
from control_plane.model.entities import AppProtocol, Source
from control_plane.names import Address, AppGuid
from tests.envoy.harness import envoy_binary, envoy_release

A = Source(AppGuid("a"), (Address("10.0.0.1"),))
B = Source(AppGuid("b"), (Address("10.0.0.2"), Address("fd00::1")))


@pytest.mark.skipif(
    envoy_release() < (1, 37), reason="a static field that is newer than Envoy is an error"
)
@pytest.mark.parametrize("protocol", AppProtocol)
def test_clusters_and_listeners_are_valid(tmp_path: Path, protocol: AppProtocol) -> None:
    """Envoy accepts every cluster and listener, for IPv4 and IPv6, with no field it warns about."""
    config = bootstrap_pb2.Bootstrap()
    config.node.id, config.node.cluster = "instance-1", "c2c"
    ads = config.dynamic_resources.ads_config
    ads.api_type = config_source_pb2.ApiConfigSource.DELTA_GRPC
    ads.grpc_services.add().envoy_grpc.cluster_name = "service-cluster-8080"
    for port, address in ((8080, "127.0.0.1"), (8081, "::1")):
        body = clusters.service_cluster(port, address, protocol)
        config.static_resources.clusters.append(cluster_pb2.Cluster.FromString(body))
        for offset, sources in enumerate((None, (), (A,), (A, B))):
            spec = listeners.ListenerSpec(port, 61443 + offset, protocol)
            built = listeners.tcp_listener(spec, address, sources=sources)
            config.static_resources.listeners.append(listener_pb2.Listener.FromString(built))
    path = tmp_path / "bootstrap.pb"
    path.write_bytes(config.SerializeToString())

    result = subprocess.run(
        [envoy_binary(), "--mode", "validate", "--config-path", path],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert "work-in-progress" not in result.stderr
    assert "deprecated" not in result.stderr.lower()
