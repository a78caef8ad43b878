"""What the control plane hears of an instance, and what the log says to people."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from control_plane.names import InstanceGuid
from control_plane.sidecar.directory import ADMIN_SOCKET
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from tests.envoy.apps import http1, tcp_app
from tests.envoy.harness import until
from tests.sidecar.scene import Scene, scene


def _exposed(here: Scene) -> tuple[int, ...]:
    attestation = here.cf.running.core.attestation
    return attestation.exposed(InstanceGuid(here.instance_guid))


async def test_an_app_that_comes_and_goes_is_heard_of(tmp_path: Path) -> None:
    """Names lead to an instance while its app listens, which the sidecar finds out by itself."""
    async with scene(tmp_path, app=None) as here, here.instance() as instance:
        await instance.logged("envoy.started")
        await here.becomes("not_ready")
        async with tcp_app(http1(), port=here.port):
            await here.becomes("ready")
        await here.becomes("not_ready")

        assert [each["listening"] for each in instance.events("app.listening")] == [True, False]


async def test_an_envoy_that_hangs_is_heard_of(tmp_path: Path) -> None:
    """No name leads there soon, and not only once its connections have timed out."""

    async def is_served() -> bool:
        served = here.cf.running.core.attestation.served(InstanceGuid(here.instance_guid))
        return served is not None

    async def is_known() -> bool:
        return here.status == "not_ready"

    async with scene(tmp_path) as here, here.instance() as instance:
        await here.becomes("ready")
        await until(is_served, what="the sidecar saw its certificate")
        envoy = (await instance.logged("envoy.started"))["pid"]
        os.kill(envoy, signal.SIGSTOP)
        try:
            # Its connections count as open for 60 s, and it may come back for 30 s more.
            await until(is_known, what="the instance is not ready", timeout=35)
        finally:
            os.kill(envoy, signal.SIGCONT)
        await here.becomes("ready")
        await here.caller.reaches(here.address)


async def test_an_envoy_that_hangs_from_its_start_is_heard_of(tmp_path: Path) -> None:
    """Names lead to an instance that was ready before its sidecar was killed and started again."""

    async def admin_is_of(envoy: int) -> bool:
        with contextlib.suppress(OSError):
            return EnvoyAdmin(here.directory / ADMIN_SOCKET).pid() == envoy
        return False

    async def is_known() -> bool:
        return here.status == "not_ready"

    async with scene(tmp_path) as here:
        async with here.instance() as killed:
            await here.becomes("ready")
            killed.process.kill()
            await killed.ended()
        async with here.instance_without_token() as instance:
            envoy = (await instance.logged("envoy.started"))["pid"]
            await until(lambda: admin_is_of(envoy), what="Envoy has begun")
            os.kill(envoy, signal.SIGSTOP)
            try:
                assert here.status == "ready"
                await until(is_known, what="the instance is not ready", timeout=35)
            finally:
                os.kill(envoy, signal.SIGCONT)
            await here.becomes("ready")
            await here.caller.reaches(here.address)


async def test_an_app_on_every_address_is_called_out(tmp_path: Path) -> None:
    """An app that listens past Envoy is past every policy: the log and the control plane say so."""
    async with (
        scene(tmp_path, app=None) as here,
        tcp_app(http1(), address="0.0.0.0", port=here.port),
        here.instance() as instance,
    ):
        warned = await instance.logged("app.exposed")

        async def is_known() -> bool:
            return _exposed(here) == (here.port,)

        await until(is_known, what="the control plane knows the port")

        assert warned["level"] == "warning"
        assert warned["ports"] == [here.port]
        assert warned["reason"].startswith("the app can be reached by TCP past Envoy, ")
        assert "listen on 127.0.0.1 only" in warned["reason"]


async def test_an_app_on_loopback_is_not_called_out(tmp_path: Path) -> None:
    """An app that only its Envoy can reach is as it should be."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        await here.becomes("ready")

        assert instance.events("app.exposed") == []
        assert _exposed(here) == ()


async def test_envoys_own_listener_on_the_apps_port_is_no_exposure(tmp_path: Path) -> None:
    """With unproxied port mappings it is Envoy that listens there, and policies hold."""
    async with scene(tmp_path, unproxied=True) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        await here.becomes("ready")
        listeners = await instance.envoy.admin("/listeners")
        looked = here.app.connections

        async def looked_again() -> bool:
            return here.app.connections > looked + 1

        await until(looked_again, what="the sidecar looked again")

        assert f"{here.address}:{here.port}" in listeners
        assert instance.events("app.exposed") == []


async def test_a_sidecar_says_once_that_nobody_listens_to_it(tmp_path: Path) -> None:
    """A control plane that is away is no reason to fill the log, and its return is said too."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        await here.becomes("ready")
        await here.cf.stop()
        await instance.logged("report.failed")
        await here.cf.start()
        await instance.logged("report.accepted")

        assert len(instance.events("report.failed")) == 1
