"""What an operator sees after the control plane was away: the truth, as soon as it is known."""

from __future__ import annotations

from pathlib import Path

from control_plane.api.v1 import inspection_pb2
from tests.envoy.harness import until
from tests.inspection.world import Operator, is_synced
from tests.sidecar.scene import Scene, scene

SERVED = inspection_pb2.CERTIFICATE_STATE_SERVED


async def served(here: Scene) -> inspection_pb2.InstanceStatus:
    """Wait until the one instance of app-b is ready and serves, and return its status."""

    async def probe() -> inspection_pb2.InstanceStatus | None:
        async with here.cf.operator() as channel:
            statuses = await Operator(channel).statuses(app="app-b")
        if not statuses:
            return None
        status = statuses[0]
        is_there = is_synced(status) and (status.certificate, status.status) == (SERVED, "ready")
        return status if is_there else None

    status = await until(probe, what="app-b serves")
    assert status is not None
    return status


async def test_after_a_restart_the_same_certificate_is_found_served(tmp_path: Path) -> None:
    """Nothing was issued anew, since its key is gone; what is served is known by its serial."""
    async with scene(tmp_path) as here, here.instance():
        before = await served(here)
        await here.cf.stop()
        await here.cf.start()
        async with here.cf.operator() as channel:
            at_once = (await Operator(channel).certificates("app-b"))[0]
        after = await served(here)

        assert at_once.serial == before.served_serial
        assert after.served_serial == before.served_serial == after.wanted_serial
        assert after.connected_since.ToDatetime() > before.connected_since.ToDatetime()
