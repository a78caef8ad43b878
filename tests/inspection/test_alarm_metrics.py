"""Gauges of trouble: there while it lasts, and zero again once it is over."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.envoy import listeners
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import unique_address
from tests.inspection.test_metrics import once, values
from tests.inspection.world import APP, C2C_SECRET, is_served, scene
from tests.security.world import enrol, stream

BEHIND = "c2c_instances_behind"
EXPOSED = "c2c_instances_exposed"
PLAN_FAILED = "c2c_instance_alarms{kind=plan_failed}"
STRANGER = "app-c"


async def test_who_refused_something_is_behind_until_it_took_the_next(tmp_path: Path) -> None:
    """The counter of NACKs says that there was one, and not whether it is over."""
    async with scene(tmp_path) as here, stream(here.cf, here.holder) as client:
        await client.subscribe(SECRET, C2C_SECRET)
        await client.nack(await client.receive(), "no")
        await once(here.cf, lambda now: now["c2c_xds_nacks_total{type=SDS}"] == 1, what="the NACK")
        refused = await values(here.cf)
        await here.map_route("second")
        await client.ack(await client.receive())
        after = await once(here.cf, lambda now: now[BEHIND] == 0, what="it is in step")

    assert refused[BEHIND] == 1
    assert after["c2c_xds_nacks_total{type=SDS}"] == 1


async def test_a_plan_that_fails_is_an_alarm_until_the_next_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such an instance is behind too, though its Envoy ACKed all that it was sent."""
    async with scene(tmp_path) as here, here.envoy():
        before = await here.until_served()
        assert not before.alarms
        quiet = await values(here.cf)
        await here.cf.create_app(STRANGER)
        await enrol(here.cf, STRANGER, unique_address())
        with monkeypatch.context() as defect:
            defect.setattr(listeners, "as_envoy_writes", lambda _: "0.0.0.0/0")
            await here.cf.allow(STRANGER, APP)
            await here.until(lambda each: bool(each.alarms), what="an alarm")
            failed = await values(here.cf)
        await here.until(lambda each: is_served(each) and not each.alarms, what="the next plan")
        after = await values(here.cf)

    assert [(each[PLAN_FAILED], each[BEHIND]) for each in (quiet, failed, after)] == [
        (0, 0),
        (1, 1),
        (0, 0),
    ]


async def test_an_app_that_is_reached_past_envoy_is_counted_while_it_is_there(
    tmp_path: Path,
) -> None:
    """Policies do not hold for it; that of an instance that left was stopped, and is not shown."""
    async with scene(tmp_path) as here:
        async with here.envoy():
            await here.until_served()
            await here.report(listening=True, exposed_ports=[8080])
            exposed = await values(here.cf)
            shown = list((await here.status()).exposed_ports)
            await here.report(listening=True)
            closed = await values(here.cf)
            await here.report(listening=True, exposed_ports=[8080])
        await here.report(leaving=True, exposed_ports=[8080])
        left = await once(
            here.cf, lambda now: now["c2c_instances{status=gone}"] == 1, what="it left"
        )
        afterwards = list((await here.status()).exposed_ports)

    assert [each[EXPOSED] for each in (exposed, closed, left)] == [1, 0, 0]
    assert (shown, afterwards) == ([8080], [])
