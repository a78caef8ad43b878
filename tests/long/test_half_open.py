"""A connection that is half open: both ends have to find out by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.site import COMMITTED
from tests.envoy.harness import until
from tests.faults import proxy as network
from tests.faults.test_network import HOST, scene
from tests.long.test_rotations import IS_LONG

KEEPALIVE = 60.0
"""Both ends ask after 30 s of silence, and give up 10 s later."""


@pytest.mark.skipif(not IS_LONG, reason="keepalive takes 40 s: make test-long")
async def test_a_half_open_connection_is_given_up_by_both_ends(tmp_path: Path) -> None:
    """Nothing goes through and nothing is closed; the next connection has the change."""
    async with scene(tmp_path) as here:
        (old,) = here.cloud.core.nodes.all_streams()
        here.net.fault = network.swallow
        tries = here.net.accepted
        await here.cloud.map(HOST, "meanwhile", wait=COMMITTED)

        async def has_noticed() -> bool:
            return old not in here.cloud.core.nodes.all_streams()

        async def tries_again() -> bool:
            return here.net.accepted > tries

        await until(has_noticed, what="the control plane gives up", timeout=KEEPALIVE)
        await until(tries_again, what="Envoy gives up", timeout=KEEPALIVE)
        here.net.fault = network.none
        here.net.reset()
        await here.converges("meanwhile")
        assert here.streams() == 1
