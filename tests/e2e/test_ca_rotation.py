"""The CA is replaced under traffic that verifies in full: nobody notices, whatever they trust."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from control_plane.settings.own_authority import ROTATION_FILE
from control_plane.settings.retired import CA_FILE, RETIRED_FILE
from tests.e2e import traffic
from tests.e2e.rotation import HOST, Cloud, Instance, cloud, count, only, own_ca
from tests.envoy.harness import until
from tests.promises import none_failed

MODIFIED = "listener_manager.listener_modified"
ENOUGH = 50
"""Calls that each client makes at the least, however fast the steps are."""
SLOW = 60.0
"""A step takes a second or two; a machine that is busy with other tests is given longer."""
SECONDS = f"{SLOW:.0f}s"


@asynccontextmanager
async def undisturbed(c: Cloud) -> AsyncIterator[tuple[Instance, Instance]]:
    """Run two instances whose Envoys are not restarted, and whose listeners nobody touches."""
    async with c.instance() as one, c.instance() as two:
        await c.until_issued_by((await c.authorities())["active"]["fingerprint"], 2)
        # Both sidecars have reported by then, so that one which stands still is told by name.
        await c.did("wait", HOST, "--for", "ready", "--instances", "2", "--timeout", SECONDS)
        before = [await each.sidecar.envoy.stat(MODIFIED) for each in (one, two)]
        yield one, two
        assert before == [await each.sidecar.envoy.stat(MODIFIED) for each in (one, two)]
        assert [len(each.sidecar.events("envoy.started")) for each in (one, two)] == [1, 1]


async def enough(*calls: traffic.Calls) -> None:
    """Let clients go on until each has made more than ``ENOUGH`` calls."""
    for each in calls:
        await each.more(ENOUGH - each.done)


@pytest.mark.parametrize("is_own", [False, True], ids=["by a new one", "by an intermediate"])
async def test_a_ca_is_replaced_and_no_call_fails(tmp_path: Path, *, is_own: bool) -> None:
    """From the first step to the last no call fails, by whatever CA the caller knows.

    The new CA is made by the control plane, or is an intermediate of an operator's own PKI. One
    client reloads its trust bundle, one loaded it before and never again, and one knows the new
    CA only. On the way the control plane is killed.
    """
    async with cloud(tmp_path) as c, undisturbed(c) as (one, two), AsyncExitStack() as s:
        old, old_ca = await c.bundle(), (await c.authorities())["active"]["fingerprint"]
        reloading = [await s.enter_async_context(c.calling(each)) for each in (one, two)]
        async with c.calling(one, old) as loaded_once:
            named = own_ca(tmp_path) if is_own else ()
            await c.did("ca", "prepare", *named, "--wait", "--timeout", SECONDS)
            await c.server.kill()
            await c.server.start()
            await c.did("ca", "activate", "--wait", "--timeout", SECONDS)
            new = only(await c.bundle(), without=old)
            await c.until_issued_by((await c.authorities())["active"]["fingerprint"], 2)
            knows_new = await s.enter_async_context(c.calling(two, new))
            for roots in (old, new):
                await c.verified_by_all(one, roots)
            await enough(loaded_once)
        await c.did("ca", "retire", "--wait", "--timeout", SECONDS)

        await until(lambda: c.trusted(new), what="all trust the new CA only", timeout=SLOW)
        await until(lambda: c.refuses(one, old), what="nothing leads to the old CA", timeout=SLOW)
        assert (await c.authorities()).keys() == {"active"}
        data = c.server.settings.data_dir
        assert not (data / ROTATION_FILE).exists()
        assert (data / RETIRED_FILE).read_text() == f"{old_ca}\n"
        assert new in (data / CA_FILE).read_text()
        more = ("map-route", "app-b", "apps.internal", "--hostname", "more")
        await c.did(*more, "--wait", "served", "--timeout", SECONDS)
        await enough(*reloading, knows_new)

    calls = [*reloading, loaded_once, knows_new]
    none_failed(*calls)
    assert min(each.done for each in calls) > ENOUGH
    assert count(new) == 1


async def test_each_step_is_taken_back_and_no_call_fails(tmp_path: Path) -> None:
    """Forward and back again, with the same clients; steps too early are refused with names.

    In the end the control plane is killed in the middle of the rotation, and goes on with it.
    """
    async with cloud(tmp_path) as c, undisturbed(c) as (one, two), AsyncExitStack() as s:
        old, old_ca = await c.bundle(), (await c.authorities())["active"]["fingerprint"]
        calls = [await s.enter_async_context(c.calling(one, each)) for each in ("", old)]
        assert "No CA is prepared" in await c.refused("ca", "activate")
        with two.stopped():
            await c.did("ca", "prepare")
            assert f"{two.name} (its sidecar has not taken" in await c.refused("ca", "activate")
        await c.did("ca", "prepare", "--undo")
        assert await c.bundle() == old

        await c.did("ca", "prepare", "--wait", "--timeout", SECONDS)
        with two.stopped():
            await c.did("ca", "activate")
            late = await c.refused("ca", "retire")
            assert f"{two.name} (its identity is still signed by the old CA" in late
        new = only(await c.bundle(), without=old)
        new_ca = (await c.authorities())["active"]["fingerprint"]
        await c.until_issued_by(new_ca, 2)
        calls.append(await s.enter_async_context(c.calling(two, new)))
        await c.did("ca", "activate", "--undo")
        await c.until_issued_by(old_ca, 2)
        for roots in (old, new):
            await c.verified_by_all(two, roots)

        await c.did("ca", "activate")
        await c.server.kill()
        await c.server.start()
        await c.until_issued_by(new_ca, 2)
        assert (await c.authorities()).keys() == {"active", "retiring"}
        await enough(*calls)

    none_failed(*calls)
    assert min(each.done for each in calls) > ENOUGH
