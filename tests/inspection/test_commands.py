"""``c2c status``, ``certs``, ``wait`` and ``events`` on real Envoys, for people and programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
from asyncio.subprocess import Process
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from control_plane.api.v1 import inspection_pb2
from control_plane.cli.main import INTERRUPTED
from control_plane.server.access.admission import Context
from control_plane.server.api.inspection import InspectionService
from tests.envoy.harness import DEADLINE, unique_address, until
from tests.inspection.commands import Screen, c2c, running
from tests.inspection.world import APP, C2C_SECRET, NAME, Scene, scene, words
from tests.waiting import eventually

HEADINGS = "instance, address, status, connected, CDS, LDS, SDS, ECDS, NAMES, certificate"


async def test_status_is_a_line_for_each_instance(tmp_path: Path) -> None:
    """One word for each type, as people know it; and nothing below it while all is well."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        ran = await c2c(here.cf, "status")
        lines = ran.out.splitlines()

        assert (ran.code, ran.err) == (0, "")
        assert ", ".join(re.split(r" {3,}", lines[2])) == HEADINGS
        assert re.split(r" {3,}", lines[3].strip())[:3] == ["app-b/0", here.address, "ready"]
        # Nobody may call it, and it has no resolver: it asks for no filters and no names.
        assert lines[3].split()[-6:] == ["SYNCED"] * 3 + ["-", "-", "served"]
        assert len(lines) == 4


async def test_status_and_certs_fit_a_narrow_terminal(tmp_path: Path) -> None:
    """One word stands for all types, a serial is cut, and names stand below; JSON has it all."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        served = await here.until_served()
        status = await c2c(here.cf, "status", columns=80)
        certs = await c2c(here.cf, "certs", columns=80)
        wide = await c2c(here.cf, "certs")
        printed = (await c2c(here.cf, "certs", "--output", "json", columns=80)).json()
        envoy.pause()
        await here.map_route("second")
        await here.until(lambda status: words(status)["SDS"] == "STALE", what="it is on its way")
        late = await c2c(here.cf, "status", columns=80)
        envoy.resume()

    for ran in (status, certs, late):
        assert max(map(len, ran.out.splitlines())) <= 80
    assert status.out.splitlines()[2].split()[-2:] == ["xDS", "certificate"]
    assert status.out.splitlines()[3].split()[-2:] == ["SYNCED", "served"]
    assert late.out.splitlines()[3].split()[-3:] == ["SDS", "STALE", "issued"]
    assert f"  {served.served_serial[:8]}" in certs.out
    assert served.served_serial not in certs.out
    assert f"\n   0.{NAME}, {NAME}, {here.address}\n" in certs.out
    assert certs.out.endswith(f"\n   {here.address}\n")
    assert wide.out.splitlines()[-1].endswith(f"  {here.address}")
    assert printed[1]["names"] == [here.holder.guid, here.address]


async def test_apps_of_one_name_are_told_apart_by_their_spaces(tmp_path: Path) -> None:
    """Status and certificates of all spaces say which each row is of, as the other lists do."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        await c2c(here.cf, "create-app", APP, "-s", "s2", "-o", "o2")
        other = ("register-instance", APP, "-s", "s2", "-o", "o2", "--address", unique_address())
        assert (await c2c(here.cf, *other)).code == 0
        wide, narrow = [
            (await c2c(here.cf, "status", "--all", columns=columns)).out.splitlines()
            for columns in (200, 80)
        ]
        certs = (await c2c(here.cf, "certs", "--all")).out.splitlines()

    assert [line.split()[0] for line in wide[3:]] == [f"{APP}/0"] * 2
    assert [line.split()[-2:] for line in wide[2:]] == [
        ["space", "org"],
        ["default", "default"],
        ["s2", "o2"],
    ]
    assert narrow[4::2] == ["   in org default / space default", "   in org o2 / space s2"]
    assert "   default   default   0.app-b.apps.internal, " in certs[3]


async def test_one_instance_is_shown_alone(tmp_path: Path) -> None:
    """Named by its app and index, it is shown and waited for without the others of its app."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        await c2c(here.cf, "register-instance", APP, "--address", unique_address())
        name = f"{APP}/0"
        printed = [
            (await c2c(here.cf, command, name, "--output", "json")).json()
            for command in ("status", "certs", "wait")
        ]
        (listed,) = (await c2c(here.cf, "instances", name, "--output", "json")).json()
        line = ("events", name, "--kind", "served", "--output", "json", "--count", "1")
        async with running(here.cf, *line) as watching, asyncio.timeout(DEADLINE):
            await _is_watched(here)
            await here.map_route("more")
            event = json.loads((await watching.communicate())[0])

    assert listed["guid"] == event["instance_guid"] == here.holder.guid
    assert {each["instance_guid"] for found in printed for each in found} == {here.holder.guid}
    assert [len(each) for each in printed] == [1, 2, 1]


async def test_status_says_why_not(tmp_path: Path) -> None:
    """Below the table stands what is not as it should be; as JSON it is a field."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        await here.until_served()
        envoy.pause()
        await here.map_route("second")
        await here.until(lambda status: words(status)["SDS"] == "STALE", what="it is on its way")
        ran = await c2c(here.cf, "status", APP)
        certs = await c2c(here.cf, "certs", APP)
        (printed,) = (await c2c(here.cf, "status", APP, "--output", "json")).json()
        envoy.resume()

        assert ran.out.endswith(f"\n\napp-b/0 SDS: sent and not answered yet: {C2C_SECRET}\n")
        assert printed["instance_guid"] == here.holder.guid
        assert [each["status"] for each in printed["types"]] == [
            "CONFIG_STATUS_SYNCED",
            "CONFIG_STATUS_SYNCED",
            "CONFIG_STATUS_STALE",
            "CONFIG_STATUS_NOT_ASKED",
            "CONFIG_STATUS_NOT_ASKED",
        ]
        assert printed["certificate"] == "CERTIFICATE_STATE_ISSUED"
        assert f"\n\n{APP}/0 {C2C_SECRET}: sent and not answered yet" in certs.out


async def test_status_can_be_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reads along gets one line whenever something changed, and no other."""
    looks: list[object] = []
    get_status = InspectionService.GetStatus

    async def noted(
        service: InspectionService, request: inspection_pb2.GetStatusRequest, context: Context
    ) -> inspection_pb2.GetStatusResponse:
        looks.append(request)
        return await get_status(service, request, context)

    monkeypatch.setattr(InspectionService, "GetStatus", noted)
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        async with (
            running(here.cf, "status", "--watch", "--output", "json") as watching,
            asyncio.timeout(DEADLINE),
        ):
            assert watching.stdout is not None
            (first,) = json.loads(await watching.stdout.readline())
            await here.map_route("second")
            told = [first, *json.loads(await watching.stdout.readline())]
            before = len(looks)
            await eventually(lambda: len(looks) > before + 2, "it looks twice and sees nothing new")
            await c2c(here.cf, "update-app", "app-b", "--name", "app-c")
            while told[-1]["app"] == "app-b":
                told += json.loads(await watching.stdout.readline())

        assert first["wanted_serial"] == first["served_serial"]
        assert told[1]["wanted_serial"] != first["wanted_serial"]
        changes = [_without_ages(each) for each in told]
        assert [each for each, last in pairwise(changes) if each == last] == []


async def test_status_is_watched_in_place_on_a_terminal(tmp_path: Path) -> None:
    """A person sees the table again and again, on a screen that was cleared before."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        await here.until_served()
        with contextlib.closing(Screen()) as screen:
            async with running(here.cf, "status", "--watch", terminal=screen.theirs):
                await screen.until_it_shows("served")
                screen.clear()
                envoy.pause()
                await here.map_route("second")
                await screen.until_it_shows("STALE")
                assert screen.shows("\x1b[2J")
                await screen.until_it_shows(f"app-b/0 SDS: sent and not answered yet: {C2C_SECRET}")
                envoy.resume()
                screen.clear()
                await screen.until_it_shows("served")


async def test_status_is_watched_line_by_line_where_nothing_can_be_in_place(tmp_path: Path) -> None:
    """A terminal that cannot be cleared gets the table when it changed, as a file does."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        with contextlib.closing(Screen()) as screen:
            async with running(here.cf, "status", "--watch", terminal=screen.theirs, term="dumb"):
                await screen.until_it_shows("served")
                screen.clear()
                await here.map_route("second")
                await screen.until_it_shows("served")

            assert not screen.shows("\x1b")


async def test_whoever_waits_sees_for_whom(tmp_path: Path) -> None:
    """How many are there already is shown while a person waits."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        with contextlib.closing(Screen()) as screen:
            line = ("wait", APP, "--instances", "3")
            async with running(here.cf, *line, terminal=screen.theirs):
                await screen.until_it_shows("Waiting until they are ready: 1 of 3 are")


async def test_whoever_waits_bears_that_the_server_is_away(tmp_path: Path) -> None:
    """It is said once, and the wait goes on when the server is back."""
    async with scene(tmp_path) as here:
        with contextlib.closing(Screen()) as screen:
            async with running(here.cf, "wait", APP, terminal=screen.theirs) as waiting:
                await screen.until_it_shows("Waiting until they are ready: 0 of 1 are")
                await here.cf.stop()
                # What is said has a line of its own, above that of who waits.
                await screen.until_it_shows("\x1b[2KNo server answers at")
                await screen.until_it_shows("Waiting until the server answers")
                await here.cf.start()
                async with here.envoy(), asyncio.timeout(DEADLINE):
                    await waiting.wait()
                await screen.until_it_shows("1 instance is ready.")

            assert waiting.returncode == 0
            assert screen.count("(trying again)") == 1


async def test_whoever_waits_for_nobody_is_told_what_to_do(tmp_path: Path) -> None:
    """Without an instance, and with one that never came, the next step is named."""
    async with scene(tmp_path) as here:
        absent = await c2c(here.cf, "wait", APP, "--timeout", "10ms")
        elsewhere = await c2c(here.cf, "wait", "--timeout", "10ms", "-s", "s2")
        await c2c(here.cf, "remove-instance", f"{APP}/0")
        nobody = await c2c(here.cf, "wait", "--timeout", "10ms")
        of_app = await c2c(here.cf, "wait", APP, "--timeout", "10ms")

    none = "0 of 1 instances are ready after 10ms: "
    assert absent.err == f"{none}none is connected, and 'c2c status app-b' shows how each is\n"
    makes = "makes a token with which one can enrol"
    token = "c2c join-token APP -s s2 -o default"
    assert elsewhere.err == f"{none}there are none, and '{token}' {makes}\n"
    assert nobody.err == f"{none}there are none, and 'c2c join-token APP' {makes}\n"
    assert of_app.err == f"{none}there are none, and 'c2c join-token app-b' {makes}\n"


async def test_a_wait_ends_although_the_server_is_away(tmp_path: Path) -> None:
    """When the time is up it says that nobody answers, and fails."""
    async with scene(tmp_path) as here:
        with contextlib.closing(Screen()) as screen:
            line = ("wait", APP, "--timeout", "2s")
            async with running(here.cf, *line, terminal=screen.theirs) as waiting:
                await screen.until_it_shows("Waiting until they are ready: 0 of 1 are")
                await here.cf.stop()
                async with asyncio.timeout(DEADLINE):
                    await waiting.wait()
                await screen.until_it_shows("FAILED")

            assert waiting.returncode == 1
            assert screen.count("No server answers at") == 2


async def test_a_server_that_comes_back_is_watched_again(tmp_path: Path) -> None:
    """It is said once that it is away and that it is back, and what it shows then is shown."""
    async with scene(tmp_path) as here:
        async with (
            running(here.cf, "status", "--watch", "--output", "json") as watching,
            asyncio.timeout(DEADLINE),
        ):
            assert watching.stdout is not None
            assert watching.stderr is not None
            (first,) = json.loads(await watching.stdout.readline())
            await here.cf.stop()
            away = (await watching.stderr.readline()).decode()
            await here.cf.start()
            async with here.envoy():
                (second,) = json.loads(await watching.stdout.readline())
            watching.terminate()
            rest = await watching.stderr.read()

        assert (first["connected"], second["connected"]) == (False, True)
        assert away.startswith(f"No server answers at {here.cf.settings.data_dir}/admin.sock: ")
        assert away.endswith(" (trying again)\n")
        assert rest == b"The server answers again\n"


async def test_certs_lists_what_instances_have(tmp_path: Path) -> None:
    """Serial, names, expiry and state of each, as the handshake shows them."""
    async with scene(tmp_path) as here, here.envoy():
        status = await here.until_served()
        ran = await c2c(here.cf, "certs", APP)
        routes, identity = (await c2c(here.cf, "certs", "--output", "json")).json()

        assert (ran.code, ran.err) == (0, "")
        # A serial that begins with zeros is shorter than the column.
        assert re.search(f"   {C2C_SECRET}   {status.served_serial} {{3,}}served \\(", ran.out)
        assert "in 23h" in ran.out
        assert f"0.{NAME}, {NAME}, {here.address}\n" in ran.out
        assert (routes["secret"], identity["secret"]) == (C2C_SECRET, "id-cert-and-key")
        assert routes["serial"] == status.served_serial
        assert routes["names"] == [here.holder.guid, f"0.{NAME}", NAME, here.address]
        assert routes["state"] == "CERTIFICATE_STATE_SERVED"
        assert identity["state"] == "CERTIFICATE_STATE_ACKED"
        assert routes["not_before"] < routes["renew_at"] < routes["not_after"]
        assert routes["issuer"] == here.cf.running.core.authority.fingerprint


async def test_wait_returns_when_everybody_is_there(tmp_path: Path) -> None:
    """It waits for an Envoy that is still to start, and for the certificate that it serves."""
    async with scene(tmp_path) as here:
        waiting = asyncio.create_task(c2c(here.cf, "wait", APP))
        async with here.envoy():
            ran = await waiting
            status = await here.status()

            assert (ran.code, ran.err) == (0, "")
            assert ran.out.endswith("\n1 instance is ready.\nOK\n")
            assert (status.status, status.wanted_serial) == ("ready", status.served_serial)


async def test_wait_says_who_is_not_there(tmp_path: Path) -> None:
    """When the time is up it fails, with the reason that status shows."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        await here.until_served()
        too_few = await c2c(here.cf, "wait", APP, "--instances", "2", "--timeout", "100ms")
        envoy.pause()
        await here.map_route("second")
        ran = await c2c(here.cf, "wait", APP, "--for", "acked", "--timeout", "300ms")
        envoy.resume()

        assert too_few.err == (
            "1 of 2 instances is ready after 100ms: 'c2c status app-b' shows these, and 'c2c "
            "join-token app-b' makes a token with which another can enrol\n"
        )
        assert ran.code == too_few.code == 1
        assert ran.err == (
            "0 of 1 instances are acked after 300ms: "
            f"app-b/0 SDS: sent and not answered yet: {C2C_SECRET} (see 'c2c status app-b')\n"
        )
        assert ran.out.endswith("\nFAILED\n")


async def test_a_change_can_be_followed_by_its_revision(tmp_path: Path) -> None:
    """From mapped to settled: one number leads from the call to the last ACK and the handshake."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        async with here.operator.events() as events:
            ran = await c2c(
                here.cf, "map-route", APP, "apps.internal", "-n", "second", "--output", "json"
            )
            settled = await events.until("settled")
        (printed,) = ran.json()
        (mapped,) = [each for each in events.heard if each.kind == "mapped"]
        kinds = [each for each in events.kinds() if each in ("mapped", "issued", "sent", "acked")]

        assert mapped.revision == settled.revision == int(printed["revision"])
        assert mapped.sentence == "second.apps.internal leads to app-b"
        assert re.fullmatch(
            rf"every instance follows revision {mapped.revision}, after \d+ ms", settled.sentence
        )
        assert kinds == ["mapped", "issued", "sent", "acked"]
        assert events.kinds()[-2:] == ["served", "settled"]


async def test_events_are_printed_while_they_happen(tmp_path: Path) -> None:
    """A line for each; those of a kind or an app only, if that is what somebody wants."""
    async with scene(tmp_path) as here:
        kinds = ("--kind", "connected", "--kind", "issued", "--kind", "served")
        line = ("events", APP, *kinds, "--count", "4")
        async with running(here.cf, *line) as watching, asyncio.timeout(DEADLINE):
            await _is_watched(here)
            await here.cf.create_app("another")
            async with here.envoy():
                out, err = await watching.communicate()
        lines = [line.split("   ", 2) for line in out.decode().splitlines()[1:]]

        assert (watching.returncode, err) == (0, b"")
        assert sorted(line[1].strip() for line in lines) == ["connected", *["issued"] * 2, "served"]
        for at, _, sentence in lines:
            assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}Z", at)
            assert sentence.strip().startswith("app-b/0 ")


async def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """With those that there are."""
    async with scene(tmp_path) as here:
        ran = await c2c(here.cf, "events", "--kind", "moved-on")

    assert ran.code == 1
    assert ran.err.startswith("Unknown kind of event 'moved-on', known are: created, updated, ")


async def test_events_as_json(tmp_path: Path) -> None:
    """One object a line, with every field."""
    line = ("events", "--output", "json", "--count", "1")
    async with scene(tmp_path) as here, running(here.cf, *line) as watching:
        await _is_watched(here)
        await here.cf.create_app("another")
        async with asyncio.timeout(DEADLINE):
            out, _ = await watching.communicate()
        event = json.loads(out)

    assert (event["kind"], event["app"]) == ("created", "another")
    assert event["sentence"] == "app another was created"
    assert (event["lost"], event["gap"]) == (0, False)
    assert (event["resources"], event["serial"]) == ([], "")
    assert event["revision"] > 0


async def test_events_go_on_when_the_server_is_back(tmp_path: Path) -> None:
    """That what happened meanwhile is not known is said, to programs too; nothing is repeated."""
    line = ("events", "--kind", "created", "--output", "json", "--count", "3")
    async with scene(tmp_path) as here:
        place = ("--data-dir", str(here.cf.settings.data_dir))
        async with running(here.cf, *line, *place) as watching:
            first = await _told(here, watching, "before")
            await here.cf.stop()
            await here.cf.start()
            await _is_watched(here)
            await here.cf.create_app("after")
            await here.cf.create_app("later")
            async with asyncio.timeout(DEADLINE):
                out, err = await watching.communicate()
    events = [json.loads(line) for line in (first, *out.splitlines())]
    away, back = err.decode().splitlines()

    assert watching.returncode == 0
    assert [each["app"] for each in events] == ["before", "after", "later"]
    assert [each["gap"] for each in events] == [False, True, False]
    assert away.endswith(" cannot do this now: the server is shutting down (trying again)")
    assert re.fullmatch(
        r"Watching again since \d\d:\d\d:\d\dZ: what happened after the last event is not known "
        rf"\('c2c status {re.escape(' '.join(place))}' shows how everything is now\)",
        back,
    )


async def test_who_watches_a_server_that_is_away_ends_at_once(tmp_path: Path) -> None:
    """Ctrl-C is heard in a pause too, and the code is the same."""
    async with scene(tmp_path) as here, running(here.cf, "events") as watching:
        await _told(here, watching, "before")
        await here.cf.stop()
        assert watching.stderr is not None
        async with asyncio.timeout(DEADLINE):
            assert (await watching.stderr.readline()).endswith(b" (trying again)\n")
            watching.send_signal(signal.SIGINT)
            await watching.wait()

    assert watching.returncode == INTERRUPTED


async def test_events_of_a_server_that_was_never_there(tmp_path: Path) -> None:
    """That is a sentence, as for any other command."""
    async with scene(tmp_path) as here:
        await here.cf.stop()
        ran = await c2c(here.cf, "events")

    assert ran.code == 1
    assert ran.err.startswith("No server answers at ")
    assert "trying again" not in ran.err


def _without_ages(instance: dict[str, Any]) -> dict[str, Any]:
    """Return what was printed of an instance, without the times that are others in each answer."""
    return {**instance, "types": [{**each, "since": ""} for each in instance["types"]]}


async def _is_watched(here: Scene) -> None:
    async def probe() -> bool:
        return here.cf.running.core.observed.feed.watchers > 0

    await until(probe, what="somebody watches")


async def _told(here: Scene, watching: Process, app: str) -> bytes:
    """Create an app, and return the line that tells of it.

    Whoever is told knows of the server; a server that has a watcher may be gone before that one
    has heard so.
    """
    await _is_watched(here)
    await here.cf.create_app(app)
    assert watching.stdout is not None
    async with asyncio.timeout(DEADLINE):
        while app.encode() not in (line := await watching.stdout.readline()):
            assert line
        return line
