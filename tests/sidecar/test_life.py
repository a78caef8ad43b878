"""The life of an instance: it enrols, serves, goes, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shlex
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from control_plane.names import shown
from tests.envoy.harness import until
from tests.installed import C2C
from tests.needs import lacks, need_command
from tests.sidecar import process
from tests.sidecar.platform import Platform
from tests.sidecar.process import limited, living, sidecar
from tests.sidecar.scene import scene


async def _guids(cf: Platform) -> set[str]:
    return {each.guid for each in await cf.instances_of("app-b")}


async def test_an_instance_enrols_and_serves(tmp_path: Path) -> None:
    """A join token is all that an app needs to be reached over HTTPS by its route."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        answer = await here.caller.call(here.address)

        assert (answer.status, answer.body) == (200, b"hello")
        assert await instance.stop() == 0
        assert instance.events("envoy.logged") == []


async def test_envoy_may_have_as_many_clients_as_the_system_allows(tmp_path: Path) -> None:
    """The limit of open files is raised for Envoy as far as it goes, and for the app it stays.

    Envoy knows for how many connections that suffices.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    async with scene(tmp_path, app=None) as here:
        serves = (sys.executable, "-c", "import time; time.sleep(60)")
        with limited(resource.RLIMIT_NOFILE, 512):
            async with here.instance(command=serves) as instance:
                envoy = (await instance.logged("envoy.started"))["pid"]
                app = (await instance.logged("app.started"))["pid"]

                assert resource.prlimit(envoy, resource.RLIMIT_NOFILE) == (most, most)
                text = (instance.directory / "bootstrap.yaml").read_text()
                assert f"max_active_downstream_connections: {most * 7 // 16}\n" in text
                assert resource.prlimit(app, resource.RLIMIT_NOFILE) == (512, most)


@pytest.mark.parametrize(
    ("options", "octets"), [((), 512 << 20), (("--envoy-memory", "64MiB"), 64 << 20)]
)
async def test_envoy_has_the_memory_that_it_is_told(
    tmp_path: Path, options: tuple[str, ...], octets: int
) -> None:
    """What clients can make Envoy hold is bounded, by 512 MiB or by what the operator says."""
    async with scene(tmp_path) as here, here.instance(*options) as instance:
        await here.caller.reaches(here.address)

        text = (instance.directory / "bootstrap.yaml").read_text()
        assert f"max_heap_size_bytes: {octets}\n" in text


async def test_a_rotation_is_reported_as_served(tmp_path: Path) -> None:
    """The sidecar tells what it saw on 61443, so a caller who waits for it is answered."""
    async with scene(tmp_path) as here, here.instance():
        await here.caller.reaches(here.address)
        before = await here.caller.serial(here.address)

        assert await here.cf.map_route("app-b", "another")
        assert before != await here.caller.serial(here.address)


async def test_a_control_plane_that_is_down_is_waited_for(tmp_path: Path) -> None:
    """The sidecar starts first, says why it waits, and enrols once somebody answers."""
    async with scene(tmp_path) as here:
        ticket = await here.cf.ticket("app-b")
        await here.cf.stop()
        async with sidecar(ticket, here.directory, *here.options) as instance:
            waiting = await instance.logged("sidecar.retrying", times=2)
            await here.cf.start()
            await instance.logged("sidecar.enrolled")
            await here.caller.reaches(here.address)

    assert waiting["what"] == "enrol"


async def test_an_envoy_serves_on_when_the_control_plane_is_gone(tmp_path: Path) -> None:
    """Nothing that runs depends on the control plane for as long as certificates live."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        await here.cf.stop()
        await instance.logged("report.failed")

        answers = [await here.caller.call(here.address) for _ in range(20)]

        assert {each.status for each in answers} == {200}
        assert instance.process.returncode is None


async def test_a_restart_needs_no_new_token(tmp_path: Path) -> None:
    """The identity in the directory is accepted again, and it is the same instance."""
    async with scene(tmp_path) as here:
        async with here.instance() as first:
            await here.caller.reaches(here.address)
            known = await _guids(here.cf)
            await first.stop()
        async with here.instance_without_token() as second:
            await here.caller.reaches(here.address)

            assert second.events("sidecar.enrolled") == []
            assert await _guids(here.cf) == known


async def test_a_restart_at_another_address_moves_the_instance(tmp_path: Path) -> None:
    """The instance keeps its identity, and the control plane hears where it is now."""
    async with scene(tmp_path) as here:
        async with here.instance() as first:
            await here.caller.reaches(here.address)
            known = await _guids(here.cf)
            await first.stop()
        # Whoever moves has to come from there, and 127.0.0.1 is where loopback calls come from.
        async with here.instance_without_token("--address", "auto") as second:
            await second.logged("envoy.started")
            instances = await here.cf.instances_of("app-b")

            assert second.events("sidecar.enrolled") == []
            assert {(each.guid, each.address) for each in instances} == {(*known, "127.0.0.1")}


async def test_a_restart_without_control_plane_serves_once_it_is_back(tmp_path: Path) -> None:
    """A valid identity is not given up because nobody can be asked about it."""
    async with scene(tmp_path) as here:
        async with here.instance() as first:
            await here.caller.reaches(here.address)
            known = await _guids(here.cf)
            await first.stop()
        await here.cf.stop()
        async with here.instance_without_token() as second:
            await second.logged("envoy.started")
            await here.cf.start()
            await here.caller.reaches(here.address)

            assert await _guids(here.cf) == known


async def test_a_restart_while_the_control_plane_has_no_name_keeps_the_address(
    tmp_path: Path,
) -> None:
    """Where the route to the control plane is not known, the address is that of the identity."""
    async with scene(tmp_path) as here:
        async with here.instance() as first:
            await first.logged("envoy.started")
        unknown = ("--server", "no-such-host.invalid:18001", "--address", "auto")
        async with here.instance_without_token(*unknown) as second:
            await second.logged("envoy.started")


async def test_a_removed_instance_needs_a_token_to_come_back(tmp_path: Path) -> None:
    """Removal is for good: the old identity opens nothing, and a new token makes a new instance."""
    async with scene(tmp_path) as here:
        async with here.instance() as first:
            await here.caller.reaches(here.address)
            await first.stop()
        (removed,) = await _guids(here.cf)
        await here.cf.remove(removed)
        async with here.instance_without_token() as second:
            assert await second.ended() == 1
        async with here.instance() as third:
            await third.logged("sidecar.enrolled")
            await here.caller.reaches(here.address)

            assert removed not in await _guids(here.cf)

    (said,) = [line for line in second.lines if not line.startswith("{")]
    assert said == (
        f"Instance {removed} was removed: with a new token (c2c join-token) another can take its "
        "place"
    )


async def test_an_instance_that_is_removed_while_it_runs_keeps_its_app(tmp_path: Path) -> None:
    """The control plane takes away what Envoy serves, never the app; the log says what happened."""
    async with (
        scene(tmp_path, lifetime=timedelta(seconds=8)) as here,
        here.instance() as instance,
    ):
        await here.caller.reaches(here.address)
        await here.cf.remove(here.instance_guid)
        failed = await instance.logged("identity.renewal_failed")
        await instance.logged("report.failed")

        async def is_closed() -> bool:
            with contextlib.suppress(OSError):
                await here.caller.serial(here.address)
                return False
            return True

        await until(is_closed, what="61443 is closed")
        assert instance.process.returncode is None

    assert " was removed: with a new token " in failed["reason"]
    assert failed["level"] == "error"
    # What gRPC and asyncio say of tasks that nobody waited for.
    assert not [line for line in instance.lines if "Task was" in line or "generator" in line]


async def test_a_sidecar_that_was_killed_leaves_no_envoy_in_the_way(tmp_path: Path) -> None:
    """The next sidecar ends the Envoy of the last one, which would keep port 61443."""
    async with scene(tmp_path) as here, here.instance() as first:
        await here.caller.reaches(here.address)
        orphan = (await first.logged("envoy.started"))["pid"]
        first.process.kill()
        await first.ended()
        async with here.instance_without_token() as second:
            await second.logged("envoy.started")
            await here.caller.reaches(here.address)

            async def is_gone() -> bool:
                return not living(orphan)

            await until(is_gone, what="the old Envoy is gone")


async def test_an_envoy_that_hangs_in_the_way_is_said(tmp_path: Path) -> None:
    """An old Envoy that does not answer has the ports all the same: the next start is refused."""
    async with scene(tmp_path) as here, here.instance() as first:
        orphan = (await first.logged("envoy.started"))["pid"]
        await here.caller.reaches(here.address)
        first.process.kill()
        await first.ended()
        os.kill(orphan, signal.SIGSTOP)
        try:
            async with here.instance_without_token() as second:
                assert await second.ended() == 1
        finally:
            os.kill(orphan, signal.SIGKILL)

    assert second.events("envoy.started") == []
    assert second.lines[-1].endswith(
        f"in {shown(str(here.directory))} does not end: kill process {orphan}"
    )


SERVES = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), BaseHTTPRequestHandler).serve_forever()
"""

# What a test reads is closed once nobody has it any more.
UNREAD = ("sh", "-c", 'exec >/dev/null 2>&1; exec "$@"', "sh")
IGNORES_SIGTERM = ("sh", "-c", 'exec >/dev/null 2>&1; trap "" TERM; "$@" & wait; wait', "sh")


@pytest.mark.parametrize("wrap", [UNREAD, IGNORES_SIGTERM], ids=["plain", "stubborn"])
async def test_a_sidecar_that_was_killed_leaves_no_app_in_the_way(
    tmp_path: Path, wrap: tuple[str, ...]
) -> None:
    """The next sidecar ends the app of the last one, and all that it started, before its own."""
    command = (*wrap, sys.executable, "-c", SERVES)
    options = ("--stop-time", "500ms")
    async with scene(tmp_path, app=None) as here:
        async with here.instance(*options, command=command) as first:
            await first.logged("app.listening")
            orphan = (await first.logged("app.started"))["pid"]
            first.process.kill()
            await first.ended()
        try:
            assert living(orphan)
            async with here.instance_without_token(*options, command=command) as second:
                await second.logged("app.listening")

                assert living(orphan) == []
                assert second.events("app.left_over")[0]["pid"] == orphan
                assert second.process.returncode is None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(orphan, signal.SIGKILL)


async def test_an_app_that_ended_is_not_taken_for_left_over(tmp_path: Path) -> None:
    """Its number may be that of another process by now."""
    async with scene(tmp_path) as here:
        command = (sys.executable, "-c", "import time; time.sleep(60)")
        async with here.instance(command=command) as first:
            await first.logged("app.started")
            await first.stop()
        noted = here.directory / "app.json"
        other = await asyncio.create_subprocess_exec("sleep", "60", process_group=0)
        noted.write_text(json.dumps({**json.loads(noted.read_text()), "pid": other.pid}))
        async with here.instance_without_token(command=command) as second:
            await second.logged("app.started")
        assert second.events("app.left_over") == []
        assert other.returncode is None
        other.kill()
        await other.wait()


async def test_an_envoy_leaves_no_shared_memory(tmp_path: Path) -> None:
    """Nothing of an Envoy is in /dev/shm, where it would outlive each of its ends."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        envoy = (await instance.logged("envoy.started"))["pid"]

        assert "envoy_shared_memory" not in Path(f"/proc/{envoy}/maps").read_text()


async def test_a_directory_belongs_to_one_sidecar(tmp_path: Path) -> None:
    """A second sidecar in the same directory says who has it, and touches nothing."""
    async with scene(tmp_path) as here, here.instance() as first:
        await here.caller.reaches(here.address)
        async with here.instance_without_token() as second:
            assert await second.ended() == 1

        assert f"is in use by process {first.process.pid}" in second.lines[-1]
        assert (await here.caller.call(here.address)).status == 200


ORPHAN = """
(sleep 0.1 &)
sleep 0.5
until ! grep -qs "^State:.*zombie" /proc/[0-9]*/status; do sleep 0.1; done
exit 7
"""


async def test_the_first_process_of_a_container_leaves_no_zombie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It inherits whatever the app leaves behind, and each zombie keeps a number."""
    unshare = need_command("unshare", "util-linux")
    contained = tmp_path / "c2c"
    alone = (unshare, "--map-root-user", "--fork", "--pid", "--mount-proc", "--kill-child")
    contained.write_text(f'#!/bin/sh\nexec {shlex.join([*alone, C2C])} "$@"\n')
    contained.chmod(0o755)
    monkeypatch.setattr(process, "C2C", contained)
    async with scene(tmp_path) as here, here.instance(command=("sh", "-c", ORPHAN)) as instance:
        code = await instance.ended()
        if any("unshare" in line for line in instance.lines):
            lacks(f"this test needs process numbers of its own: {instance.lines}")

    assert code == 7
