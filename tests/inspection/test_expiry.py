"""Certificates that end soon, as an operator and a monitoring system see it."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from pathlib import Path

from control_plane.reconciler.certificates.expiry import Kind
from tests.envoy.harness import until
from tests.inspection.commands import c2c
from tests.inspection.test_metrics import values
from tests.inspection.world import scene
from tests.security.world import ShiftedClock


async def test_a_ca_that_cannot_sign_is_told_of_long_before_certificates_end(
    tmp_path: Path,
) -> None:
    """Status, metric and API say it hours before; once it can sign, certificates are renewed."""
    clock = ShiftedClock()
    async with scene(tmp_path, clock) as here, here.envoy():
        await here.until_served()
        core, server = here.cf.running.core, here.cf.running.ports._certificate
        able, able_server = core.custody._custodian, server._new_serial
        core.custody._custodian = dataclasses.replace(able, new_serial=lambda: 0)
        server._new_serial = lambda: 0
        clock.shift = timedelta(hours=19)
        status = await here.until(
            lambda status: any("serial" in each for each in status.alarms), what="an alarm"
        )
        await core.expiry.look()
        alarmed, shown = await values(here.cf), await c2c(here.cf, "status")
        printed = (await c2c(here.cf, "status", "--output", "json")).json()
        elsewhere = await c2c(here.cf, "status", "-s", "elsewhere", "--output", "json")
        core.custody._custodian, server._new_serial = able, able_server

        async def renewed() -> bool:
            await core.expiry.look()
            left = {alarm.kind for alarm in core.expiry.alarms}
            return left == {Kind.IDENTITY}  # it is the sidecar's to renew, and there is none

        await until(renewed, what="certificates are renewed")
        cleared = await values(here.cf)

    assert {each.split(" ", 1)[0] for each in status.alarms} == {
        "c2c-cert-and-key",
        "id-cert-and-key",
        "identity",
    }
    assert printed[0]["alarms"] == list(status.alarms)
    (own,) = printed[0]["control_plane_alarms"]
    assert own.startswith("the control plane's own certificate ends at ")
    assert f"\nALARM: {own}\n" in shown.out
    assert (elsewhere.out, elsewhere.err) == ("[]\n", f"ALARM: {own}\n")
    assert "\napp-b/0 ALARM: c2c-cert-and-key ends at " in shown.out
    kinds = ("c2c", "id", "identity", "server", "ca")
    assert [alarmed[f"c2c_certificates_expiring{{kind={each}}}"] for each in kinds] == [
        *[1, 1, 1, 1],
        0,
    ]
    assert [cleared[f"c2c_certificates_expiring{{kind={each}}}"] for each in kinds] == [
        *[0, 0, 1, 0],
        0,
    ]
