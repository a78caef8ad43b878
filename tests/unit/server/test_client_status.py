"""CSDS: what is told of many clients is nobody else's trouble."""

from __future__ import annotations

from typing import cast

from envoy.service.status.v3 import csds_pb2

from control_plane.server.access.admission import Context
from control_plane.server.csds.client_status import AT_ONCE, ClientStatusService
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.worlds import World
from tests.unit.server.turns import counting

SLICES = 4


async def test_a_long_answer_gives_way_to_others() -> None:
    """Between two slices of the clients everybody else has a turn."""
    around = World(register(world("b"), "b0", B, "10.0.1.1"))
    for _ in range(SLICES * AT_ONCE):
        around.connect("b0").as_envoy()
    service = ClientStatusService(around.nodes, around.clock)
    no_context = cast("Context", None)
    asked = service.FetchClientStatus(csds_pb2.ClientStatusRequest(), no_context)
    answer, turns = await counting(asked)

    assert turns >= SLICES
    assert len(answer.config) == SLICES * AT_ONCE
