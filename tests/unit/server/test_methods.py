"""The table of methods, compared with the services' own definitions."""

from __future__ import annotations

import importlib

import pytest

from control_plane.nodes import Variant
from control_plane.server.discovery.methods import SERVICES, DiscoveryMethods
from control_plane.xds.resource_type import VIRTUAL_HOST

MODULES = {
    "AggregatedDiscoveryService": "envoy.service.discovery.v3.ads_pb2",
    "ClusterDiscoveryService": "envoy.service.cluster.v3.cds_pb2",
    "EndpointDiscoveryService": "envoy.service.endpoint.v3.eds_pb2",
    "LocalityEndpointDiscoveryService": "envoy.service.endpoint.v3.leds_pb2",
    "ListenerDiscoveryService": "envoy.service.listener.v3.lds_pb2",
    "RouteDiscoveryService": "envoy.service.route.v3.rds_pb2",
    "ScopedRoutesDiscoveryService": "envoy.service.route.v3.srds_pb2",
    "SecretDiscoveryService": "envoy.service.secret.v3.sds_pb2",
    "ExtensionConfigDiscoveryService": "envoy.service.extension.v3.config_discovery_pb2",
    "RuntimeDiscoveryService": "envoy.service.runtime.v3.rtds_pb2",
}


COMPARED = [each for each in SERVICES if each.only != VIRTUAL_HOST]


@pytest.mark.parametrize("methods", COMPARED, ids=lambda each: each.noun)
def test_every_method_of_every_service_is_in_the_table(methods: DiscoveryMethods) -> None:
    """Names and number of the methods are those of the definition, and so is the type (V2, V3)."""
    module = importlib.import_module(MODULES[methods.service.rpartition(".")[2]])
    name = methods.service.rpartition(".")[2]
    service = module.DESCRIPTOR.services_by_name[name]
    ours = {*methods.streaming, *([methods.polled] if methods.polled else [])}

    assert service.full_name == methods.service
    assert {each.name for each in service.methods} == ours
    if methods.only is not None:
        annotation = service.GetOptions().ListFields()
        resource_type = next(value.type for field, value in annotation if field.name == "resource")
        assert methods.only == f"type.googleapis.com/{resource_type}"


def test_every_service_of_the_table_is_one_that_was_compared() -> None:
    """The comparison above leaves none out."""
    assert {each.service.rpartition(".")[2] for each in COMPARED} == MODULES.keys()


def test_virtual_hosts_are_served_by_delta_only() -> None:
    """V2: their service has one method. xds-protos has no definition of it; Envoy calls it so."""
    (methods,) = (each for each in SERVICES if each.only == VIRTUAL_HOST)
    assert methods.service == "envoy.service.route.v3.VirtualHostDiscoveryService"
    assert methods.streaming == {"DeltaVirtualHosts": Variant.DELTA}
    assert methods.polled is None
