"""An instance that is told to stop before it runs: nothing is started, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.envoy.harness import until
from tests.faults.proxy import Pipe, Proxy, proxy
from tests.sidecar.platform import free_port
from tests.sidecar.process import Sidecar, Ticket, living, sidecar
from tests.sidecar.scene import Scene, scene

APP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_who_waits_for_the_control_plane_ends_at_once(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Enrolment is given up; the code is that of the signal, and the token is as good as before."""
    async with scene(tmp_path) as here:
        ticket = await here.cf.ticket("app-b")
        await here.cf.stop()
        async with sidecar(ticket, here.directory, *here.options, command=APP) as instance:
            await instance.logged("sidecar.retrying")
            instance.process.send_signal(number)
            assert await instance.ended() == 128 + number
        await here.cf.start()
        assert instance.events("sidecar.stopping")[0]["signal"] == number.name
        assert instance.events("envoy.started") == []
        async with sidecar(ticket, here.directory, *here.options) as again:
            await again.logged("sidecar.enrolled")


@dataclass(frozen=True, slots=True)
class _Enrolment:
    """One of which the token is spent, and the answer on its way."""

    here: Scene
    proxy: Proxy
    sidecar: Sidecar
    may_answer: asyncio.Event


@asynccontextmanager
async def _enrolling(directory: Path) -> AsyncIterator[_Enrolment]:
    """Start an instance, and hold the answer of the control plane up."""
    may_answer = asyncio.Event()
    async with scene(directory) as here, proxy(here.cf.settings.enroll_address) as between:

        async def hold(pipe: Pipe, data: bytes) -> None:
            if pipe.is_down and here.instance_guid:
                await may_answer.wait()
            await pipe.send(data)

        async def is_registered() -> bool:
            return bool(here.instance_guid)

        between.fault = hold
        given = await here.cf.ticket("app-b")
        ticket = Ticket(str(between.address), given.token, given.fingerprint)
        async with sidecar(ticket, here.directory, *here.options, command=APP) as first:
            await until(is_registered, what="the control plane has spent the token")
            first.process.send_signal(signal.SIGTERM)
            await first.logged("sidecar.stopping")
            yield _Enrolment(here, between, first, may_answer)


async def test_an_identity_that_is_on_its_way_is_kept(tmp_path: Path) -> None:
    """Who is told to stop while it enrols waits for the answer, since the token is spent by it."""
    async with _enrolling(tmp_path) as at:
        at.may_answer.set()
        assert await at.sidecar.ended() == 128 + signal.SIGTERM
        assert at.sidecar.events("envoy.started") == []
        enrolled = at.sidecar.events("sidecar.enrolled")[0]["instance"]
        async with at.here.instance_without_token() as second:
            await at.here.caller.reaches(at.here.address)
            assert at.here.instance_guid == enrolled
            assert await second.stop() == 0


@pytest.mark.parametrize("is_hurried", [True, False])
async def test_an_answer_that_does_not_come_holds_up_no_end(
    tmp_path: Path, *, is_hurried: bool
) -> None:
    """A second signal means now, here too; and a call that fails then is not repeated."""
    async with _enrolling(tmp_path) as at:
        if is_hurried:
            at.sidecar.process.send_signal(signal.SIGTERM)
        else:
            at.proxy.reset()
        assert await at.sidecar.ended() == 128 + signal.SIGTERM
        assert at.sidecar.events("sidecar.retrying") == []


async def test_who_waits_for_what_envoy_says_of_itself_leaves_no_process(tmp_path: Path) -> None:
    """A disk that hangs keeps it from its version; who is told to stop does not wait for that."""
    script, started = tmp_path / "envoy", tmp_path / "started"
    script.write_text(f"#!/bin/sh\necho $$ > {started}.new\nmv {started}.new {started}\nsleep 60\n")
    script.chmod(0o700)
    ticket = Ticket("127.0.0.1:1", "a", f"sha256:{'0' * 64}")
    options = ("--address", "127.0.0.1", "--envoy", str(script))

    async def has_started() -> bool:
        return started.exists()

    async with sidecar(ticket, tmp_path / "c2c", *options) as instance:
        await until(has_started, what="it is asked for its version")
        instance.process.send_signal(signal.SIGTERM)
        assert await instance.ended() == 128 + signal.SIGTERM

    assert living(int(started.read_text())) == []
    assert instance.events("sidecar.stopping")[0]["signal"] == "SIGTERM"
    assert not (tmp_path / "c2c").exists()


async def test_who_waits_for_a_leftover_starts_nothing(tmp_path: Path) -> None:
    """The identity is there already, and neither Envoy nor the app is started after the signal."""
    async with scene(tmp_path) as here, here.instance() as first:
        orphan = (await first.logged("envoy.started"))["pid"]
        first.process.kill()
        await first.ended()
        await here.cf.stop()
        os.kill(orphan, signal.SIGSTOP)
        try:
            async with here.instance_without_token(command=APP) as second:
                await second.logged("identity.renewal_failed")
                second.process.send_signal(signal.SIGTERM)
                assert await second.ended() == 128 + signal.SIGTERM
        finally:
            os.kill(orphan, signal.SIGKILL)

    assert second.events("envoy.started") == []


async def test_an_app_that_waits_for_its_names_is_not_started(tmp_path: Path) -> None:
    """Envoy runs by then and is ended; the app would only be started to be stopped."""
    async with scene(tmp_path) as here:
        async with here.instance() as first:
            await first.logged("envoy.started")
            await first.stop()
        await here.cf.stop()
        options = ("--dns-address", f"127.0.0.1:{free_port()}", "--dns-upstream", "127.0.0.1:1")
        async with here.instance_without_token(*options, command=APP) as second:
            envoy = (await second.logged("envoy.started"))["pid"]
            await second.logged("dns.started")
            second.process.send_signal(signal.SIGTERM)
            assert await second.ended() == 128 + signal.SIGTERM

        assert second.events("app.started") == []
        assert living(envoy) == []
