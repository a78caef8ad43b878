"""Sight: who looks at an instance, and how long until the next look."""

from __future__ import annotations

import asyncio

import pytest

from control_plane.names import InstanceGuid
from control_plane.reconciler.served.attestation import REPORT_SECONDS, Attestation
from control_plane.reconciler.served.probe import Prober
from control_plane.reconciler.served.sight import Sight
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.clocks import ManualClock, settled

B0, NOBODY = InstanceGuid("b0"), InstanceGuid("nobody")
SOURCE = "10.9.9.9"


class Eyes(Prober):
    """Sees serial 7 wherever it looks, and remembers from where."""

    def __init__(self) -> None:
        """Start before the first look."""
        super().__init__()
        self.sources: list[str | None] = []

    async def served_serial(
        self,
        address: str,  # noqa: ARG002 - the prober's signature
        port: int,  # noqa: ARG002 - likewise
        *,
        source: str | None = None,
    ) -> int | str:
        """Return it."""
        self.sources.append(source)
        return 7


class Scene:
    """An instance that somebody may look at."""

    def __init__(self, address: str = "10.0.1.1", source: str | None = SOURCE) -> None:
        """Start with no sidecar that reports."""
        self.clock, self.eyes = ManualClock(), Eyes()
        self.attestation = Attestation(self.clock)
        state = register(world("b"), B0, B, address)
        self.sight = Sight(
            lambda: state, self.attestation, self.clock, prober=self.eyes, source=source
        )


async def test_the_control_plane_looks_where_no_sidecar_reports() -> None:
    """From the address that the listeners let in; what it saw is kept until it is forgotten."""
    scene = Scene()
    assert scene.sight.is_possible(B0)
    assert scene.sight.last(B0) is None
    assert await scene.sight.look(B0) == 7
    assert scene.eyes.sources == [SOURCE]
    assert scene.sight.last(B0) == 7
    scene.sight.forget(B0)
    assert scene.sight.last(B0) is None


async def test_a_sidecar_that_reports_is_believed() -> None:
    """Nobody connects from afar meanwhile; once it fell silent, the control plane looks again."""
    scene = Scene()
    scene.attestation.report(B0, 9, ())
    assert await scene.sight.look(B0) == scene.sight.last(B0) == 9
    scene.attestation.report(B0, None, ())
    assert await scene.sight.look(B0) == "its sidecar has no TLS handshake with port 61443"
    assert scene.eyes.sources == []

    await scene.clock.advance(3 * REPORT_SECONDS[0])
    assert await scene.sight.look(B0) == 7


@pytest.mark.parametrize(
    ("address", "source"), [("10.0.1.1", None), ("10.0.1.1", "fd00::1"), ("fd00::11", SOURCE)]
)
async def test_a_look_that_envoy_would_not_let_in_is_none(address: str, source: str | None) -> None:
    """A handshake that cannot succeed would say nothing of the certificate."""
    scene = Scene(address, source)
    assert not scene.sight.is_possible(B0)
    assert await scene.sight.look(B0) is None
    assert scene.eyes.sources == []


async def test_an_instance_that_nobody_knows_is_not_looked_at() -> None:
    """It may have been removed just now."""
    scene = Scene()
    assert not scene.sight.is_possible(NOBODY)
    assert await scene.sight.look(NOBODY) is None


async def test_looks_of_ones_own_follow_the_clock() -> None:
    """They are spaced as whoever looks says."""
    scene = Scene()
    pause = asyncio.create_task(scene.sight.pause(B0, 2.0, unheard=0.0))
    await scene.clock.advance(1.9)
    assert not pause.done()
    await scene.clock.advance(0.1)
    assert pause.done()


async def test_a_report_is_what_a_look_at_a_sidecar_waits_for() -> None:
    """To ask more often would tell nothing that was not told before."""
    scene = Scene()
    scene.attestation.report(B0, 9, ())
    pause = asyncio.create_task(scene.sight.pause(B0, 0.0, unheard=60.0))
    await settled()
    assert not pause.done()
    scene.attestation.report(B0, 9, ())
    await pause
