"""A message that breaks a rule: Envoy keeps what it had, and everybody who asks is told why."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.envoy import listeners
from tests.envoy.harness import unique_address
from tests.inspection.commands import c2c
from tests.inspection.world import APP, is_served, scene
from tests.security.world import enrol

STRANGER = "app-c"
EVERYBODY = "0.0.0.0/0"


async def test_an_allow_that_would_be_too_wide_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect makes a policy for one address one for all: the listener stays as it is."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        await here.until_served()
        await here.cf.create_app(STRANGER)
        await enrol(here.cf, STRANGER, unique_address())
        before = await envoy.stats("listener_manager")
        with monkeypatch.context() as defect:
            defect.setattr(listeners, "as_envoy_writes", lambda _: EVERYBODY)
            await here.cf.allow(STRANGER, APP)
            status = await here.until(lambda each: bool(each.alarms), what="an alarm")
            shown, why = await c2c(here.cf, "status", APP), await c2c(here.cf, "why", APP)

            assert await envoy.stats("listener_manager") == before
        await here.until(
            lambda each: is_served(each) and not each.alarms, what="the next plan is sound"
        )
        after = await envoy.stats("listener_manager")

    (alarm,) = status.alarms
    assert alarm.startswith("it goes on with what it had: listener 'listener-")
    assert alarm.endswith(f" names a source that is none: {EVERYBODY!r}")
    assert f"\n{APP}/0 ALARM: {alarm}\n" in shown.out
    assert f"MISSING  port         the Envoy of {APP}/0 goes on with what it had: " in why.out
    assert (
        after["listener_manager.listener_modified"] > before["listener_manager.listener_modified"]
    )
