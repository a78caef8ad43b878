"""The CA is replaced under traffic that verifies in full: nobody notices, whatever they trust."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from pathlib import Path

from control_plane.app.authority import CA_FILE, RETIRED_FILE, ROTATION_FILE
from tests.e2e.rotation import cloud, count, only
from tests.envoy.harness import until

SLOW = 60.0
"""Sidecars report every 10 s; a machine that is busy with other tests is given longer."""


async def test_a_ca_is_replaced_and_no_call_fails(tmp_path: Path) -> None:
    """From the first step to the last no call fails, by whatever CA the caller knows.

    One client reloads its trust bundle, one loaded it before and never again, and one knows the new
    CA only. On the way each step is taken back once, and the control plane is killed twice.
    """
    async with (
        cloud(tmp_path) as c,
        c.instance() as one,
        c.instance() as two,
        AsyncExitStack() as s,
    ):
        old_ca = (await c.authorities())["active"]["fingerprint"]
        old = await c.bundle()
        await c.until_issued_by(old_ca, 2)
        reloading = [await s.enter_async_context(c.calling(each)) for each in (one, two)]
        steady = AsyncExitStack()
        await s.enter_async_context(steady)
        loaded_once = await steady.enter_async_context(c.calling(one, old))

        assert "No CA is prepared" in await c.refused("ca", "activate")
        two.sidecar.process.send_signal(signal.SIGSTOP)
        await c.did("ca", "prepare")
        assert "app-b/1 (its sidecar has not taken" in await c.refused("ca", "activate")
        two.sidecar.process.send_signal(signal.SIGCONT)
        await c.did("ca", "prepare", "--undo")
        assert await c.bundle() == old

        await c.did("ca", "prepare")
        await c.server.kill()
        await c.server.start()
        await c.did("ca", "activate", "--wait", "--timeout", "60s")
        new = only(await c.bundle(), without=old)
        new_ca = (await c.authorities())["active"]["fingerprint"]
        await c.until_issued_by(new_ca, 2)
        knows_new = await s.enter_async_context(c.calling(two, new))
        for roots in (old, new):
            await c.verified_by_all(one, roots)

        await c.did("ca", "activate", "--undo")
        await c.until_issued_by(old_ca, 2)
        for roots in (old, new):
            await c.verified_by_all(two, roots)
        two.sidecar.process.send_signal(signal.SIGSTOP)
        await c.did("ca", "activate")
        assert "app-b/1 (its identity is of the CA" in await c.refused("ca", "retire")
        two.sidecar.process.send_signal(signal.SIGCONT)
        await c.server.kill()
        await c.server.start()
        await c.until_issued_by(new_ca, 2)

        await loaded_once.more()
        await steady.aclose()
        await c.did("ca", "retire", "--wait", "--timeout", "60s")

        async def settled() -> bool:
            return all(each.bundle == new for each in (one, two))

        await until(settled, what="every sidecar trusts the new CA only", timeout=SLOW)
        assert (await c.authorities()).keys() == {"active"}
        assert not (c.server.data / ROTATION_FILE).exists()
        assert (c.server.data / RETIRED_FILE).read_text() == f"{old_ca}\n"
        assert new in (c.server.data / CA_FILE).read_text()
        await until(lambda: c.refuses(one, old), what="nothing leads to the old CA", timeout=SLOW)
        await c.did("map-route", "app-b", "apps.internal", "--hostname", "more", "--wait", "served")

    calls = [*reloading, loaded_once, knows_new]
    assert [each.failures for each in calls] == [[], [], [], []]
    assert min(each.done for each in calls) > 50
    assert count(new) == 1
