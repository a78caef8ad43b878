"""The services about signing and trust, over the objects of the core.

The rule of this module: it is only wiring.
"""

from __future__ import annotations

from collections.abc import Callable

import grpc

from control_plane.api.v1 import (
    certificate_authority_pb2_grpc,
    operator_pb2_grpc,
    trust_pb2_grpc,
)
from control_plane.app.core import Core, new_serial
from control_plane.server.api.certificate_authorities import CertificateAuthorityService
from control_plane.server.api.operators import OperatorService
from control_plane.server.api.trust import TrustService


def add_trust(server: grpc.aio.Server, core: Core, xds_server: Callable[[], str]) -> None:
    """Have a server show the CAs, rotate them, and issue and revoke operators' certificates.

    Args:
        server: a server that only operators can reach.
        core: the part of the control plane that has the CAs.
        xds_server: returns where Envoys find the control plane, at the time of the call.
    """
    authorities, trust_domain = core.authorities, core.settings.trust_domain
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(
        OperatorService(core.registry, core.validity, authorities.current, new_serial=new_serial),
        server,
    )
    trust_pb2_grpc.add_TrustServiceServicer_to_server(
        TrustService(authorities.trust_bundle_pem, trust_domain, xds_server), server
    )
    certificate_authority_pb2_grpc.add_CertificateAuthorityServiceServicer_to_server(
        CertificateAuthorityService(core.rotation, core.clock), server
    )
