"""A connection that is half open: both ends have to find out by themselves.

``make test-long`` waits until both do; otherwise it is the control plane alone, which asks sooner
than it does by default.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from control_plane.server.limits import ServerLimits
from tests.e2e.site import COMMITTED
from tests.envoy.harness import until
from tests.faults import proxy as network
from tests.faults.test_network import HOST, scene
from tests.long.test_rotations import IS_LONG

SILENCE, PATIENCE = (20.0, 40.0) if IS_LONG else (1.0, 1.0)
"""After how many seconds the control plane asks, and how many later it gives up; Envoy always 30
and 10."""

GIVEN_UP = SILENCE + PATIENCE + 10.0
"""When it has, on a machine that may be busy."""


async def test_a_half_open_connection_is_given_up_by_both_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing goes through and nothing is closed; the next connection has the change."""
    limits = partial(ServerLimits, keepalive_seconds=SILENCE, keepalive_timeout_seconds=PATIENCE)
    monkeypatch.setattr("control_plane.app.port_limits.ServerLimits", limits)
    async with scene(tmp_path) as here:
        (old,) = here.cloud.core.nodes.all_streams()
        here.net.fault = network.swallow
        tries = here.net.accepted
        await here.cloud.map(HOST, "meanwhile", wait=COMMITTED)

        async def has_noticed() -> bool:
            return old not in here.cloud.core.nodes.all_streams()

        async def tries_again() -> bool:
            return here.net.accepted > tries

        await until(has_noticed, what="the control plane gives up", timeout=GIVEN_UP)
        if IS_LONG:
            await until(tries_again, what="Envoy gives up", timeout=GIVEN_UP)
        here.net.fault = network.none
        here.net.reset()
        await here.converges("meanwhile")
        assert here.streams() == 1
