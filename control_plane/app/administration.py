"""The operator's API, put together.

The rule of this module: it is only wiring.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import grpc
from envoy.service.status.v3 import csds_pb2_grpc
from grpc_health.v1 import health_pb2_grpc

from control_plane.api.v1 import (
    app_pb2_grpc,
    instance_pb2_grpc,
    join_token_pb2_grpc,
    network_policy_pb2_grpc,
    route_pb2_grpc,
)
from control_plane.app.core import Core, new_guid
from control_plane.app.inspected import add_inspection
from control_plane.app.trust import add_trust
from control_plane.log_events import JOIN_TOKEN_PREFIX
from control_plane.server.api.apps import AppService
from control_plane.server.api.instances import InstanceService
from control_plane.server.api.join_tokens import EnrollmentServer, JoinTokenService
from control_plane.server.api.network_policies import NetworkPolicyService
from control_plane.server.api.policy_notes import Opening
from control_plane.server.api.routes import RouteService
from control_plane.server.csds import client_status
from control_plane.server.health import Health
from control_plane.server.observability.type_names import PLANNED_TYPES
from control_plane.server.reflection import add_reflection
from control_plane.xds.resource_type import SECRET

_API = "c2c.v1."

ADMIN_SERVICES = (
    _API + "AppService",
    _API + "RouteService",
    _API + "InstanceService",
    _API + "NetworkPolicyService",
    _API + "JoinTokenService",
    _API + "OperatorService",
    _API + "TrustService",
    _API + "InspectionService",
    _API + "CertificateAuthorityService",
    client_status.SERVICE,
)
"""The services that an operator may call."""

_HEALTH_SERVICE = "grpc.health.v1.Health"

_TOKEN_OCTETS = 32

_OPEN_TYPES = frozenset(PLANNED_TYPES.values()) - {SECRET}
"""The planned types except Secret, because only Secrets contain secrets."""


def add_administration(
    server: grpc.aio.Server,
    core: Core,
    health: Health,
    enrollment_server: Callable[[], EnrollmentServer],
    xds_server: Callable[[], str],
) -> None:
    """Add the services of the operator's API to a server.

    Args:
        server: a server that only operators can reach.
        core: the part of the control plane that the services work on.
        health: tells the health of the services.
        enrollment_server: returns where to enrol, at the time of the call.
        xds_server: returns where Envoys connect, at the time of the call.
    """
    settings, registry = core.settings, core.registry
    app_pb2_grpc.add_AppServiceServicer_to_server(AppService(registry, new_guid), server)
    route_pb2_grpc.add_RouteServiceServicer_to_server(
        RouteService(registry, core.convergence, core.budget, settings.internal_domains), server
    )
    instance_pb2_grpc.add_InstanceServiceServicer_to_server(
        InstanceService(registry, core.reconciler.is_connected, core.budget, new_guid), server
    )
    network_policy_pb2_grpc.add_NetworkPolicyServiceServicer_to_server(
        NetworkPolicyService(
            registry,
            core.convergence,
            opening=Opening(settings.unproxied_port_mappings, settings.router_ca is not None),
            limit=settings.policies_per_source,
        ),
        server,
    )
    join_token_pb2_grpc.add_JoinTokenServiceServicer_to_server(
        JoinTokenService(registry, core.clock, _new_token, new_guid, enrollment_server), server
    )
    add_trust(server, core, xds_server)
    csds_pb2_grpc.add_ClientStatusDiscoveryServiceServicer_to_server(
        client_status.ClientStatusService(core.nodes, core.clock, open_types=_OPEN_TYPES), server
    )
    add_inspection(server, core)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection(server, (*ADMIN_SERVICES, _HEALTH_SERVICE))


def _new_token() -> str:
    return JOIN_TOKEN_PREFIX + secrets.token_urlsafe(_TOKEN_OCTETS)
