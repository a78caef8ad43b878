"""What the services look at that show operators how instances are."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import AsyncMock

from control_plane.reconciler.certificates.expiry import Expiry
from control_plane.reconciler.certificates.holdings import Holdings
from control_plane.reconciler.membership.status import Word
from control_plane.server.api.inspection_values import Inspected
from tests.unit.reconciler.proving import Scene


def inspected(scene: Scene, *, word: Word | None = None, has_identity: bool = False) -> Inspected:
    """Return what there is to see of a scene.

    Args:
        word: the last word of each sidecar; None if there is none.
        has_identity: whether each instance has one.
    """
    expiry = Expiry(
        lambda: scene.state,
        scene.nodes,
        Holdings(scene.ledger, ()),
        scene.custody,
        timedelta(hours=24),
        scene.clock,
    )
    return Inspected(
        state=lambda: scene.state,
        revision=lambda: 1,
        plan_failure=scene.reconciler.standing.plan_failure,
        behind=scene.reconciler.standing.behind,
        nodes=scene.nodes,
        ledger=scene.ledger,
        proof=scene.proof,
        attestation=scene.attestation,
        custody=scene.custody,
        expiry=expiry,
        word=lambda _: word,
        has_identity=lambda _: has_identity,
        absence=lambda: "",
        ca_rotation=AsyncMock(return_value=""),
        clock=scene.clock,
    )
