"""Explain: what is asked of a large app is nobody else's trouble."""

from __future__ import annotations

from typing import cast
from unittest.mock import AsyncMock

from control_plane.api.v1 import inspection_pb2
from control_plane.names import Domain
from control_plane.reconciler.certificates.expiry import Expiry
from control_plane.server.api.inspection_explain import Explainer
from control_plane.server.api.inspection_values import AT_ONCE, Inspected
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.test_proof import Scene
from tests.unit.server.turns import counting

SLICES = 4


async def test_a_long_answer_gives_way_to_others() -> None:
    """Between two slices of the instances everybody else has a turn."""
    state = world("b")
    for number in range(SLICES * AT_ONCE):
        state = register(state, f"b{number}", B, f"10.0.{number // 200}.{number % 200 + 1}")
    scene = Scene(state)
    inspected = Inspected(
        state=lambda: state,
        revision=lambda: 1,
        plan_failure=scene.reconciler.standing.plan_failure,
        behind=scene.reconciler.standing.behind,
        nodes=scene.nodes,
        ledger=scene.ledger,
        proof=scene.proof,
        attestation=scene.attestation,
        custody=scene.custody,
        expiry=cast("Expiry", None),
        word=lambda _: None,
        has_identity=lambda _: False,
        absence=lambda: "",
        ca_rotation=AsyncMock(return_value=""),
        clock=scene.clock,
    )
    names = scene.reconciler.publication
    explainer = Explainer(inspected, names.published, names.uncertified, (Domain("apps.internal"),))
    asked = explainer.chains(inspection_pb2.ExplainRequest(destination="b"))
    answer, turns = await counting(asked)

    assert turns >= SLICES
    assert [each.destination for each in answer] == ["b"]
