"""A call can wait until the data plane has followed, and is OK also if it has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.progress import Behind, Stage
from tests.api.world import Fields, control_plane
from tests.unit.model.refusals import SETUP

B = AppGuid("guid-b")
WHOSE = {"app_guid": "guid-b", "space": "default", "org": "default", "stopping": False}
POLICY = {
    "source": "app-a",
    "destination": "app-b",
    "protocol": "tcp",
    "start_port": 61001,
    "end_port": 61001,
}
CALLS: tuple[tuple[str, Fields, frozenset[AppGuid]], ...] = (
    ("MapRoute", {"app": "app-b", "hostname": "shop"}, frozenset({B})),
    ("MapRoute", {"app": "app-b", "hostname": "app-b"}, frozenset({B})),
    ("UnmapRoute", {"app": "app-b", "hostname": "app-b"}, frozenset({B})),
    ("UnmapRoute", {"app": "app-b", "hostname": "shop"}, frozenset({B})),
    ("AddNetworkPolicies", {"policies": [POLICY]}, frozenset({AppGuid("guid-a"), B})),
    ("RemoveNetworkPolicies", {"policies": [POLICY]}, frozenset({AppGuid("guid-a"), B})),
)
IDS = ["map", "map-again", "unmap", "unmap-again", "add-policies", "remove-policies"]


@pytest.mark.parametrize(("method", "request_", "apps"), CALLS, ids=IDS)
async def test_a_call_waits_for_the_instances_that_it_concerns(
    tmp_path: Path, method: str, request_: Fields, apps: frozenset[AppGuid]
) -> None:
    """The wait is for the apps of the request, at the stage it names, and also for no change."""
    waiting = {"wait": "WAIT_SERVED", "timeout": "1.5s"}
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        answer = await plane.call(method, {**request_, **waiting})

    assert plane.progress.asked == [(apps, Stage.SERVED, 1.5)]
    assert (answer["complete"], answer["behind"]) == (True, [])


@pytest.mark.parametrize(("method", "request_", "apps"), CALLS, ids=IDS)
async def test_a_wait_that_runs_out_is_ok_and_names_who_is_behind(
    tmp_path: Path, method: str, request_: Fields, apps: frozenset[AppGuid]
) -> None:
    """The answer is OK and not complete, with stage and reason of each instance, sorted."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        plane.progress.behind = (
            Behind(InstanceGuid("inst-b1"), B, 1, Stage.COMMITTED, "it has not answered"),
            Behind(
                InstanceGuid("inst-b0"),
                B,
                0,
                Stage.ACKED,
                "its last TLS handshake showed serial 1f",
            ),
        )
        answer = await plane.call(method, {**request_, "wait": "WAIT_SERVED"})

    assert answer["complete"] is False
    assert answer["behind"] == [
        {
            "instance_guid": "inst-b0",
            "app": "app-b",
            "stage": "STAGE_ACKED",
            "reason": "its last TLS handshake showed serial 1f",
            "index": 0,
            **WHOSE,
        },
        {
            "instance_guid": "inst-b1",
            "app": "app-b",
            "stage": "STAGE_COMMITTED",
            "reason": "it has not answered",
            "index": 1,
            **WHOSE,
        },
    ]
    assert plane.progress.asked[0][0] == apps


async def test_who_came_during_the_wait_is_named_too(tmp_path: Path) -> None:
    """It may hold up a name's end, and its app is not among those that the change knew."""
    c = AppGuid("guid-c")
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        plane.progress.behind = (Behind(InstanceGuid("inst-c0"), c, 0, Stage.COMMITTED, "away"),)
        request = {"app": "app-b", "hostname": "app-b", "wait": "WAIT_ACKED"}
        answer = await plane.call("UnmapRoute", request)

    (behind,) = answer["behind"]
    assert (behind["app"], behind["app_guid"], behind["space"]) == ("guid-c", "guid-c", "")


async def test_a_change_stays_also_if_somebody_is_behind(tmp_path: Path) -> None:
    """What a wait was for is made before it begins, and the end of the wait takes nothing back."""
    request = {"app": "app-b", "hostname": "shop", "wait": "WAIT_ACKED", "timeout": "0s"}
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        plane.progress.behind = (Behind(InstanceGuid("inst-b0"), B, 0, Stage.COMMITTED, "slow"),)
        await plane.call("MapRoute", request)
        mapped = await plane.call("ListRoutes")

    assert [each["hostname"] for each in mapped["routes"]] == ["app-b", "shop"]


async def test_nothing_is_waited_for_unless_asked(tmp_path: Path) -> None:
    """A call that names no wait is answered once its change is durable."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        plane.progress.behind = (Behind(InstanceGuid("inst-b0"), B, 0, Stage.COMMITTED, "slow"),)
        answer = await plane.call("MapRoute", {"app": "app-b", "hostname": "shop"})

    assert plane.progress.asked == []
    assert (answer["complete"], answer["behind"]) == (True, [])


SHOP = {"app": "app-b", "hostname": "app-b", "wait": "WAIT_ACKED"}


async def test_a_wait_ends_before_the_deadline_of_its_call(tmp_path: Path) -> None:
    """A caller whose call has less time than the wait still gets to know who is behind."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        plane.progress.behind = (Behind(InstanceGuid("inst-b0"), B, 0, Stage.COMMITTED, "slow"),)
        plane.progress.takes_its_time = True
        answer = await plane.call("MapRoute", SHOP, timeout=1.0)

    assert [each["instance_guid"] for each in answer["behind"]] == ["inst-b0"]


async def test_a_later_deadline_of_the_call_changes_nothing(tmp_path: Path) -> None:
    """With time to spare, or no deadline at all, the wait is as long as it says."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        await plane.call("MapRoute", SHOP, timeout=60.0)
        await plane.call("MapRoute", SHOP)

    assert [seconds for _, _, seconds in plane.progress.asked] == [30.0, 30.0]
