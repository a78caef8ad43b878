"""Who looks at one space sees what is in it, and nothing of another."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    inspection_pb2,
    inspection_pb2_grpc,
)
from tests.envoy.harness import DEADLINE, until
from tests.inspection.commands import c2c, running
from tests.inspection.spaces import APPS, DEV, HERE, TEST, three_spaces, with_instances
from tests.inspection.world import Events, Operator


async def test_status_and_certificates_of_one_space(tmp_path: Path) -> None:
    """Without an app a request may be about one space; if it does not say so, about every one."""
    async with three_spaces(tmp_path) as cf, with_instances(cf), cf.operator() as channel:
        stub = inspection_pb2_grpc.InspectionServiceStub(channel)

        async def apps(org: str, space: str, app: str = "", *, in_space: bool = True) -> list[str]:
            status = inspection_pb2.GetStatusRequest(
                org=org, space=space, app=app, in_space=in_space
            )
            certs = inspection_pb2.ListCertificatesRequest(
                org=org, space=space, app=app, in_space=in_space
            )
            found = [each.app_guid for each in (await stub.GetStatus(status)).instances]
            listed = (await stub.ListCertificates(certs)).certificates
            assert list(dict.fromkeys(each.app_guid for each in listed)) == found
            return found

        assert await apps(*DEV) == ["b-dev"]
        assert await apps(*TEST) == ["web-test"]
        assert await apps(*HERE) == await apps("", "") == ["b-here"]
        assert await apps("acme", "") == await apps("acme", "nowhere") == []
        assert sorted(await apps(*DEV, in_space=False)) == sorted(APPS)
        # An app is where it is found: by its name there, by its GUID anywhere.
        assert await apps(*DEV, "app-b") == await apps(*TEST, "b-dev") == ["b-dev"]


async def test_events_of_one_space(tmp_path: Path) -> None:
    """They are those of its apps, policies from there and to there, and that it is everywhere."""
    async with three_spaces(tmp_path) as cf, cf.operator() as channel:
        operator = Operator(channel)
        async with (
            operator.events(in_space=DEV) as dev,
            operator.events(in_space=TEST) as test,
            operator.events(app="b-dev") as app,
            operator.events() as every,
        ):
            for guid in APPS:
                await cf.map_route(guid, guid)
            await cf.allow("web-test", "b-dev")
            await app_pb2_grpc.AppServiceStub(channel).DeleteApp(
                app_pb2.DeleteAppRequest(app="b-dev")
            )
            await every.until("settled", times=5)
            for each in (dev, test, app):
                await each.until("settled", times=3)

    policy = "tcp 61443 from web in org acme / space test to app-b is"
    allowed, forbidden = f"{policy} allowed", f"{policy} not allowed any more"
    unmapped = "b-dev.apps.internal leads to app-b no more"
    assert (
        _sentences(dev)
        == _sentences(app)
        == [
            "b-dev.apps.internal leads to app-b",
            allowed,
            unmapped,
            forbidden,
            "app app-b was deleted",
        ]
    )
    assert _sentences(test) == ["web-test.apps.internal leads to web", allowed, forbidden]
    for each in (dev, test, app):
        changes = {event.revision for event in each.heard if event.kind != "settled"}
        assert [e.revision for e in each.heard if e.kind == "settled"] == sorted(changes)
    assert len(_sentences(every)) == 7
    known = {(event.app, event.org, event.space) for event in every.heard if event.app_guid}
    assert known == set(APPS.values())


def _sentences(events: Events) -> list[str]:
    return [event.sentence for event in events.heard if event.kind != "settled"]


async def test_events_are_watched_in_the_space_of_the_other_commands(tmp_path: Path) -> None:
    """Those of the target space, without it being said; with --all those of every space, each."""
    async with three_spaces(tmp_path) as cf:
        feed = cf.running.core.observed.feed
        only = ("--kind", "mapped", "--count")
        async with (
            running(cf, "events", *only, "1") as here,
            running(cf, "-s", "dev", "-o", "acme", "events", *only, "1") as dev,
            running(cf, "events", "--all", *only, "3") as every,
            running(cf, "events", "--all", "--output", "json", *only, "3") as as_json,
            asyncio.timeout(DEADLINE),
        ):

            async def all_watch() -> bool:
                return feed.watchers == 4

            await until(all_watch, what="all of them watch")
            for guid in ("web-test", "b-dev", "b-here"):
                await cf.map_route(guid, guid)
            told = [(await each.communicate()) for each in (here, dev, every, as_json)]

    assert [err for _, err in told] == [b""] * 4
    lines = [
        [line.split("   ", 2)[2].strip() for line in out.decode().splitlines()[1:]]
        for out, _ in told[:3]
    ]
    assert lines == [
        ["b-here.apps.internal leads to app-b (revision 6)"],
        ["b-dev.apps.internal leads to app-b (revision 5)"],
        [
            "web-test.apps.internal leads to web in org acme / space test (revision 4)",
            "b-dev.apps.internal leads to app-b in org acme / space dev (revision 5)",
            "b-here.apps.internal leads to app-b in org default / space default (revision 6)",
        ],
    ]
    headings = [out.decode().splitlines()[0] for out, _ in told[:3]]
    assert headings == [
        "Watching events in org default / space default...",
        "Watching events in org acme / space dev...",
        "Watching all events...",
    ]
    places = [(each["org"], each["space"]) for each in map(json.loads, told[3][0].splitlines())]
    assert places == [TEST, DEV, HERE]


async def test_why_says_of_which_space_an_app_is_that_is_elsewhere(tmp_path: Path) -> None:
    """Of two apps of one name that have a route, and of one that is named by its GUID."""
    async with three_spaces(tmp_path) as cf:
        for guid in ("b-here", "b-dev"):
            await cf.map_route(guid, "shared")
        shared = await c2c(cf, "why", "app-b", "shared.apps.internal")
        as_json = await c2c(cf, "why", "app-b", "shared.apps.internal", "--output", "json")
        by_guid = await c2c(cf, "why", "web-test", "b-dev")
        here = await c2c(cf, "-s", "dev", "-o", "acme", "why", "app-b", "app-b")

    url = "to https://shared.apps.internal:61443"
    assert _headings(shared.out) == [
        f"app-b {url} of app-b in org acme / space dev",
        f"app-b {url} of app-b",
    ]
    assert [
        (
            each["source_org"],
            each["source_space"],
            each["destination_org"],
            each["destination_space"],
        )
        for each in as_json.json()
    ] == [(*HERE, *DEV), (*HERE, *HERE)]
    assert _headings(by_guid.out) == [
        f"web in org acme / space test {url} of app-b in org acme / space dev"
    ]
    assert _headings(here.out) == [f"app-b {url}"]


async def test_a_ca_rotation_says_of_which_space_they_are_whom_it_waits_for(tmp_path: Path) -> None:
    """It is about every space; an app of the default one is named as it is elsewhere."""
    async with three_spaces(tmp_path) as cf, with_instances(cf):
        shown = await c2c(cf, "ca", "prepare")
        found = (await c2c(cf, "ca", "list", "--output", "json")).json()
        refused = await c2c(cf, "ca", "activate", "--wait", "--timeout", "300ms")

    dev, test = "app-b/0 in org acme / space dev", "web/0 in org acme / space test"
    assert found[1]["waits_for"].endswith(f"; waiting for {dev}, {test}, app-b/0")
    waiting = [(each["app_guid"], each["org"], each["space"]) for each in found[1]["waiting"]]
    assert waiting == [("b-dev", *DEV), ("web-test", *TEST), ("b-here", *HERE)]
    why = "no sidecar reports for it"
    lines = [line.strip() for line in shown.out.splitlines() if why in line]
    assert lines == [f"{dev}: {why}", f"{test}: {why}", f"app-b/0: {why}"]
    assert f": {dev} ({why}); {test} ({why}); app-b/0 ({why}) " in refused.err


def _headings(out: str) -> list[str]:
    return [line for line in out.splitlines() if " to https://" in line]
