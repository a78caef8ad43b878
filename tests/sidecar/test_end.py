"""How an instance ends: the order of it, and whose exit code it has."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.names import InstanceGuid, shown
from tests.e2e.strangers import is_closed_at_accept
from tests.envoy.apps import App, banner
from tests.envoy.harness import unique_address, until
from tests.hangup import hangup
from tests.sidecar.platform import free_port
from tests.sidecar.process import Sidecar, living, sidecar
from tests.sidecar.scene import Scene, scene

PYTHON = sys.executable

SERVES = """
import http.server, os, signal, sys, time
def stop(*_): print("told to stop", time.monotonic(), flush=True); sys.exit({code})
signal.signal(signal.SIGTERM, stop)
class Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        print("began", flush=True)
        time.sleep({seconds})
        self.send_response(200); self.send_header("content-length", "4"); self.end_headers()
        self.wfile.write(b"done"); print("done", time.monotonic(), flush=True)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Slow)
print("ready", flush=True)
server.serve_forever()
"""


LISTENS_TO_SIGNALS = """
import signal, time
for each in (signal.SIGHUP, signal.SIGUSR1):
    signal.signal(each, lambda number, _: print("got", number, flush=True))
print("ready", flush=True)
while True: time.sleep(1)
"""

IGNORES_SIGTERM = """
trap '' TERM
(trap '' TERM; sleep 60) &
echo ready
while :; do sleep 1; done
"""


def _app(code: int = 0, seconds: float = 0) -> tuple[str, ...]:
    """Return the command of an app that takes so long for a request, and ends with that code."""
    return (PYTHON, "-c", SERVES.format(code=code, seconds=seconds))


async def _wrote(instance: Sidecar, text: str) -> None:
    async def probe() -> bool:
        return any(line.startswith(text) for line in instance.output)

    await until(probe, what=f"the app writes {text}; it wrote {instance.output}")


def _moment(instance: Sidecar, text: str) -> float:
    (line,) = [each for each in instance.output if each.startswith(text)]
    return float(line.split()[-1])


@pytest.mark.parametrize("code", [0, 7])
async def test_the_exit_code_of_an_app_that_ends_is_passed_on(tmp_path: Path, code: int) -> None:
    """An app that ends takes its Envoy with it, and the sidecar ends as the app did."""
    async with scene(tmp_path) as here:
        command = (PYTHON, "-c", f"import time; time.sleep(0.5); raise SystemExit({code})")
        async with here.instance(command=command) as instance:
            assert await instance.ended() == code

        envoy = instance.events("envoy.started")[0]["pid"]
        assert living(envoy) == []


async def test_an_app_that_a_signal_ended_gives_the_code_of_a_shell(tmp_path: Path) -> None:
    """128 and the number of the signal, as a shell reports it."""
    async with scene(tmp_path) as here:
        command = (PYTHON, "-c", "import os; os.kill(os.getpid(), 9)")
        async with here.instance(command=command) as instance:
            assert await instance.ended() == 128 + signal.SIGKILL


async def test_an_envoy_that_ends_takes_the_app_with_it(tmp_path: Path) -> None:
    """Envoy is never restarted in place: the app is told to stop, and Envoy gives the code."""
    async with scene(tmp_path) as here:
        command = (PYTHON, "-c", "import time; print('ready', flush=True); time.sleep(60)")
        async with here.instance(command=command) as instance:
            await _wrote(instance, "ready")
            app = (await instance.logged("app.started"))["pid"]
            os.kill((await instance.logged("envoy.started"))["pid"], signal.SIGKILL)

            assert await instance.ended() == 128 + signal.SIGKILL
            assert living(app) == []


async def test_without_an_app_the_exit_code_is_envoys(tmp_path: Path) -> None:
    """An Envoy that is told to quit ends with 0, and so does its sidecar."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        await instance.envoy.admin("/quitquitquit", method="POST")

        assert await instance.ended() == 0


async def _told_to_stop(here: Scene, instance: Sidecar) -> tuple[int, float]:
    """Stop an instance while it answers a slow request; return its code and how long it took."""

    async def call() -> bytes:
        async with here.caller.connect(here.address) as client:
            return (await client.request("/")).body

    calling = asyncio.create_task(call())
    await _wrote(instance, "began")
    started = time.monotonic()
    code = await instance.stop()
    taken = time.monotonic() - started
    assert await calling == b"done"
    return code, taken


async def test_a_request_that_is_under_way_is_answered_before_the_app_ends(
    tmp_path: Path,
) -> None:
    """Told to stop: say so, wait, drain, then the app and then Envoy; the code is the app's."""
    async with scene(tmp_path, app=None) as here:
        options = ("--offline-wait", "300ms", "--drain-time", "10s")
        async with here.instance(*options, command=_app(code=3, seconds=1.5)) as instance:
            await here.caller.reaches(here.address)
            await _wrote(instance, "done")
            instance.output.clear()
            code, taken = await _told_to_stop(here, instance)

        assert code == 3
        # Once nothing is under way, the rest of the drain time is not waited for.
        assert taken < 8
        assert _moment(instance, "done") < _moment(instance, "told to stop")
        assert instance.events("envoy.drained")[0]["in_flight"] == 0


async def test_a_long_directory_leaves_nothing_elsewhere_that_could_go(tmp_path: Path) -> None:
    """Envoy is drained by a socket of which the path would be too long, whoever cleans /tmp."""
    directory, temporary = tmp_path / ("long" * 20) / ("path" * 20), tmp_path / "tmp"
    temporary.mkdir()
    async with (
        scene(tmp_path, app=None) as here,
        here.instance(
            *("--dir", str(directory), "--app-port", str(here.port)),
            command=_app(),
            variables={"TMPDIR": str(temporary)},
        ) as instance,
    ):
        await here.caller.reaches(here.address)

        for each in temporary.iterdir():
            shutil.rmtree(each)
        await instance.stop()

    assert instance.events("envoy.drained")[0].get("in_flight") == 0


async def test_a_tcp_connection_has_the_drain_time(tmp_path: Path) -> None:
    """Nobody can tell a TCP client to go, so it may stay until the time is over, and no longer."""
    async with (
        scene(tmp_path, app=banner, protocol="tcp") as here,
        here.instance("--drain-time", "2s") as instance,
    ):
        await here.caller.shakes_hands(here.address)
        async with here.caller.connect(here.address) as client:
            assert await client.reader.readline() == b"220 ready\r\n"
            started = time.monotonic()
            instance.process.send_signal(signal.SIGTERM)
            await instance.logged("sidecar.stopping")
            client.writer.write(b"hello\n")
            assert await client.reader.readline() == b"echo hello\n"

            assert await instance.ended() == 0
            assert time.monotonic() - started >= 2

        assert instance.events("envoy.drained")[0]["in_flight"] == 1


async def test_no_name_leads_to_an_instance_that_is_about_to_stop(tmp_path: Path) -> None:
    """Names lead nowhere near it before the first connection is refused."""
    async with scene(tmp_path) as here, here.instance("--offline-wait", "20s") as instance:
        await here.caller.reaches(here.address)
        await here.becomes("ready")
        instance.process.send_signal(signal.SIGTERM)
        await here.becomes("not_ready")

        assert instance.events("envoy.drained") == []
        assert (await here.caller.call(here.address)).status == 200


async def test_an_app_may_call_others_until_it_has_ended(tmp_path: Path) -> None:
    """It may have to before it can answer its last callers; once it has ended it is let in no more.

    Its address may belong to somebody else by then.
    """
    command = ("sh", "-c", IGNORES_SIGTERM)
    async with scene(tmp_path) as here, here.instance():
        web = Scene(here.cf, unique_address(), App(port=free_port()), here.caller, tmp_path / "web")
        await here.cf.create_app("web", port=web.port)
        await here.cf.allow("web", "app-b")
        caller = replace(here.caller, source=web.address)
        told = ("--address", web.address, "--offline-wait", "0s", "--stop-time", "60s")
        ticket = await here.cf.ticket("web")
        async with sidecar(ticket, web.directory, *told, command=command) as instance:
            await _wrote(instance, "ready")
            await caller.reaches(here.address)
            instance.process.send_signal(signal.SIGTERM)
            await instance.logged("envoy.drained")
            assert web.status == "not_ready"
            assert (await caller.call(here.address)).status == 200

            instance.process.send_signal(signal.SIGTERM)
            await instance.ended()

        assert web.status == "gone"

        async def is_let_in_no_more() -> bool:
            return await is_closed_at_accept(here.address, web.address)

        await until(is_let_in_no_more, what="the address that is free is let in no more")


async def test_an_envoy_that_ends_before_its_app_does_no_wrong(tmp_path: Path) -> None:
    """It is told to, so nobody says that its certificate is not served, as long as the app ends."""
    command = ("sh", "-c", IGNORES_SIGTERM)
    options = ("--dns-address", f"127.0.0.1:{free_port()}", "--stop-time", "60s")
    async with scene(tmp_path) as here, here.instance(*options, command=command) as instance:
        core = here.cf.running.core
        await _wrote(instance, "ready")
        await here.becomes("ready")
        guid = InstanceGuid(here.instance_guid)

        async def is_served() -> bool:
            return core.observed.proof.is_seen(guid) is True

        async def shows_nothing() -> bool:
            return core.attestation.served(guid) is None

        await until(is_served, what="its sidecar sees the certificate")
        instance.process.send_signal(signal.SIGTERM)
        await until(shows_nothing, what="its sidecar sees none any more")
        await instance.logged("envoy.drained")

        assert core.nodes.streams(guid)
        assert await is_served()
        instance.process.send_signal(signal.SIGTERM)
        await instance.ended()


async def test_an_app_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    """Nothing holds up the end for longer than it was told, and no process is left."""
    command = ("sh", "-c", IGNORES_SIGTERM)
    async with (
        scene(tmp_path) as here,
        here.instance("--stop-time", "500ms", command=command) as instance,
    ):
        await _wrote(instance, "ready")
        app = (await instance.logged("app.started"))["pid"]

        assert await instance.stop() == 128 + signal.SIGKILL
        assert living(app) == []


async def test_a_second_signal_means_now(tmp_path: Path) -> None:
    """Whoever asks twice has no time for clients: no wait, no drain, no grace."""
    command = ("sh", "-c", IGNORES_SIGTERM)
    async with scene(tmp_path) as here:
        long = ("--offline-wait", "60s", "--drain-time", "60s", "--stop-time", "60s")
        async with here.instance(*long, command=command) as instance:
            await _wrote(instance, "ready")
            instance.process.send_signal(signal.SIGTERM)
            await instance.logged("sidecar.stopping")
            instance.process.send_signal(signal.SIGTERM)

            assert await instance.ended() == 128 + signal.SIGKILL


async def test_other_signals_reach_the_app(tmp_path: Path) -> None:
    """SIGHUP and SIGUSR1 mean something to apps, and nothing to a sidecar."""
    async with (
        scene(tmp_path) as here,
        here.instance(command=(PYTHON, "-c", LISTENS_TO_SIGNALS)) as instance,
    ):
        await _wrote(instance, "ready")
        for number in (signal.SIGHUP, signal.SIGUSR1):
            instance.process.send_signal(number)
            await _wrote(instance, f"got {int(number)}")

        assert instance.process.returncode is None


async def test_a_closed_terminal_ends_an_instance_without_an_app(tmp_path: Path) -> None:
    """SIGHUP ends it in order, with its Envoy; SIGUSR1 has nobody to go to, and ends nothing."""
    with hangup(signal.SIG_DFL):
        async with scene(tmp_path) as here, here.instance() as instance:
            await here.caller.reaches(here.address)
            envoy = (await instance.logged("envoy.started"))["pid"]
            instance.process.send_signal(signal.SIGUSR1)
            instance.process.send_signal(signal.SIGHUP)

            assert await instance.ended() == 0
            assert living(envoy) == []

    assert instance.events("sidecar.stopping")[0]["signal"] == "SIGHUP"


async def test_a_terminal_that_may_be_closed_ends_nothing(tmp_path: Path) -> None:
    """Under nohup SIGHUP is ignored, as it was before."""
    with hangup(signal.SIG_IGN):
        async with scene(tmp_path) as here, here.instance() as instance:
            await instance.logged("envoy.started")
            instance.process.send_signal(signal.SIGHUP)
            await here.caller.reaches(here.address)
            assert await instance.stop() == 0

    assert instance.events("sidecar.stopping")[0]["signal"] == "SIGTERM"


async def test_a_program_that_is_not_there_spends_no_token(tmp_path: Path) -> None:
    """The sentence names the program and what is wrong, before anybody is asked for an identity."""
    text = tmp_path / "app.txt"
    text.touch(0o644)
    absent = {str(tmp_path / "no-such-app"): "No such file or directory"}
    absent |= {"no-such-app": "No such file or directory", str(text): "Permission denied"}
    async with scene(tmp_path) as here:
        ticket = await here.cf.ticket("app-b")
        for program, why in absent.items():
            async with sidecar(
                ticket, here.directory, *here.options, command=(program,)
            ) as instance:
                assert await instance.ended() == 1
            assert instance.lines == [f"Program {shown(program)} cannot be run: {why}"]
        async with sidecar(ticket, here.directory, *here.options, "--envoy", str(text)) as instance:
            assert await instance.ended() == 1
        assert instance.lines == [f"Program {shown(str(text))} cannot be run: Permission denied"]
        async with sidecar(ticket, here.directory, *here.options) as instance:
            await instance.logged("sidecar.enrolled")


async def test_what_is_no_envoy_spends_no_token(tmp_path: Path) -> None:
    """Built for another machine, or another program: that is seen before anybody is asked."""
    foreign, other, silent = (tmp_path / each for each in ("foreign", "other", "silent"))
    foreign.write_bytes(b"\x7fELF and no more")
    other.write_text("#!/bin/sh\necho GNU bash, version 5.2\n")
    silent.write_text("#!/bin/sh\nexit 127\n")
    found = {
        foreign: "cannot be run: Exec format error",
        other: "is no Envoy: with --version it says 'GNU bash, version 5.2'",
        silent: "is no Envoy: with --version it says nothing, and ends with 127",
    }
    async with scene(tmp_path) as here:
        ticket = await here.cf.ticket("app-b")
        for binary, why in found.items():
            binary.chmod(0o755)
            named = ("--envoy", str(binary))
            async with sidecar(ticket, here.directory, *here.options, *named) as instance:
                assert await instance.ended() == 1
            assert instance.lines == [f"Program {shown(str(binary))} {why}"]
        async with sidecar(ticket, here.directory, *here.options) as instance:
            await instance.logged("sidecar.enrolled")


async def test_a_program_that_cannot_be_run_leaves_nothing_behind(tmp_path: Path) -> None:
    """The sentence names the program, and the Envoy that had started is gone."""
    async with scene(tmp_path) as here:
        script = tmp_path / "app.sh"
        script.write_text("#!/no/such/shell\n")
        script.chmod(0o755)
        command = (str(script),)
        async with here.instance(command=command) as instance:
            assert await instance.ended() == 1

        (envoy,) = instance.events("envoy.started")
        assert living(envoy["pid"]) == []
        problem = f"Program {shown(command[0])} cannot be run: No such file or directory"
        assert problem in instance.lines
