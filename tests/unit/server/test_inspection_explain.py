"""Explain: what is asked of a large app is nobody else's trouble."""

from __future__ import annotations

from control_plane.api.v1 import inspection_pb2
from control_plane.names import Domain
from control_plane.server.api.inspection_explain import Explainer
from control_plane.server.api.inspection_values import AT_ONCE
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.proving import Scene
from tests.unit.server.inspected import inspected
from tests.unit.server.turns import counting

SLICES = 4


async def test_a_long_answer_gives_way_to_others() -> None:
    """Between two slices of the instances everybody else has a turn."""
    state = world("b")
    for number in range(SLICES * AT_ONCE):
        state = register(state, f"b{number}", B, f"10.0.{number // 200}.{number % 200 + 1}")
    scene = Scene(state)
    names = scene.reconciler.publication
    explainer = Explainer(
        inspected(scene), names.published, names.uncertified, (Domain("apps.internal"),)
    )
    asked = explainer.chains(inspection_pb2.ExplainRequest(destination="b"))
    answer, turns = await counting(asked)

    assert turns >= SLICES
    assert [each.destination for each in answer] == ["b"]
