"""Two hundred changes under load: what may pass passes, and what may not does not."""

from __future__ import annotations

from pathlib import Path

from tests.e2e import strangers, traffic
from tests.e2e.site import site
from tests.promises import none_failed

CHANGES = 200
MANAGER = "listener_manager"


async def test_changes_do_what_they_say_and_nothing_else(tmp_path: Path) -> None:
    """Policies of one app come and go, and routes of the other, while a third one calls it.

    The third one's requests never fail, over one connection and over new ones. When a call that
    allows is answered, the next request passes; when one that forbids is, neither a new connection
    nor a request on an old one does. No listener is ever drained.
    """
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        steady = await cloud.caller("app-b")
        await cloud.create_app("app-a")
        _, source = await cloud.register("app-a")
        async with (
            traffic.kept_alive(b, "app-b", steady) as kept,
            traffic.fresh_requests(b, "app-b", steady) as fresh,
        ):
            for number in range(CHANGES // 4):
                assert (await cloud.map("app-b", f"host-{number}")).complete
                await cloud.allow("app-a", "app-b")
                async with b.connect(f"host-{number}", source) as connection:
                    assert (await connection.request()).status == 200

                    await cloud.forbid("app-a", "app-b")

                    assert (await connection.request()).status == 403
                assert not await strangers.sees_certificate(b.address, source)
                assert (await cloud.unmap("app-b", f"host-{number}")).complete

        none_failed(kept, fresh)
        assert min(kept.done, fresh.done) >= CHANGES // 4
        assert await b.envoy.stat(f"{MANAGER}.total_listeners_draining") == 0
        assert await b.envoy.stat(f"{MANAGER}.lds.update_rejected") == 0
        assert (await b.serves()).names[1:] == ("0.app-b.apps.internal", "app-b.apps.internal")


async def test_a_policy_takes_effect_for_many_instances_at_once(tmp_path: Path) -> None:
    """The answer to a call comes when every instance of the destination lets the source in."""
    async with (
        site(tmp_path) as cloud,
        cloud.run("app-b") as first,
        cloud.start("app-b", first.app) as second,
    ):
        await cloud.map("app-b", "app-b")
        await cloud.create_app("app-a")
        _, source = await cloud.register("app-a")
        for _ in range(5):
            await cloud.allow("app-a", "app-b")
            assert [await each.get("app-b", source) for each in (first, second)] == [200, 200]
            await cloud.forbid("app-a", "app-b")
            for each in (first, second):
                assert not await strangers.sees_certificate(each.address, source)
