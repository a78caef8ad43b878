"""InspectionService over the objects of the core.

The rule of this module: it is only wiring.
"""

from __future__ import annotations

import grpc

from control_plane.api.v1 import inspection_pb2_grpc
from control_plane.app.core import Core
from control_plane.server.api.inspection import InspectionService
from control_plane.server.api.inspection_explain import Explainer
from control_plane.server.api.inspection_values import Inspected


def add_inspection(server: grpc.aio.Server, core: Core) -> None:
    """Have a server show the state of everything, and stream events."""
    inspected = Inspected(
        state=lambda: core.registry.state,
        revision=lambda: core.registry.revision,
        plan_failure=core.reconciler.standing.plan_failure,
        behind=core.reconciler.standing.behind,
        nodes=core.nodes,
        ledger=core.observed.ledger,
        proof=core.observed.proof,
        attestation=core.attestation,
        custody=core.custody,
        expiry=core.expiry,
        word=core.presence.word,
        has_identity=lambda instance: core.holdings.identity_ends(instance) is not None,
        absence=core.presence.alarm,
        ca_rotation=core.rotation.summary,
        clock=core.clock,
    )
    names = core.reconciler.publication
    explainer = Explainer(
        inspected, names.published, names.uncertified, core.settings.internal_domains
    )
    service = InspectionService(inspected, explainer, core.observed.feed)
    inspection_pb2_grpc.add_InspectionServiceServicer_to_server(service, server)
