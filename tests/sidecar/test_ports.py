"""A sidecar looks where the app should listen, which the control plane knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.names import InstanceGuid
from control_plane.reconciler.served import attestation
from tests.envoy.apps import http1, tcp_app
from tests.envoy.harness import until
from tests.inspection.commands import c2c
from tests.sidecar.platform import free_port
from tests.sidecar.process import Sidecar
from tests.sidecar.scene import Scene, scene


async def _wrote(instance: Sidecar, line: str) -> None:
    async def probe() -> bool:
        return line in instance.output

    await until(probe, what=f"the app writes {line}; it wrote {instance.output}")


def _tried(here: Scene) -> dict[int, bool]:
    """Return what the sidecar told of each port of the app."""
    ports = here.cf.running.core.attestation.app_ports(InstanceGuid(here.instance_guid))
    return dict(ports or {})


async def _all_told(here: Scene) -> None:
    """Wait until the sidecar has told of the certificate too, after which it has nothing to say."""

    async def probe() -> bool:
        served = here.cf.running.core.attestation.served(InstanceGuid(here.instance_guid))
        return served is not None

    await until(probe, what="the sidecar tells of the certificate")


async def test_an_app_on_a_port_of_its_own_becomes_ready(tmp_path: Path) -> None:
    """Whoever said it to create-app need not say it to the sidecar too."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.caller.reaches(here.address)
        await here.becomes("ready")

        assert here.port != 8080
        assert _tried(here) == {here.port: True}
        assert instance.events("app.ports_learned") == []  # it enrolled with them


async def test_an_app_that_moves_to_another_port_is_followed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is restarted: it is not ready until it listens there, and then it is called there."""
    # Nobody is asked to report again, so that only the news can bring the sidecar to it.
    monkeypatch.setattr(attestation, "REPORT_SECONDS", (1000.0, 1000.0))
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.becomes("ready")
        await _all_told(here)
        port = free_port()
        await here.cf.use_ports("app-b", port)
        await here.becomes("not_ready")
        learned = await instance.logged("app.ports_learned")
        assert (learned["ports"], learned["c2c_port"]) == ([port], port)

        async with tcp_app(http1(), port=port) as moved:
            await here.becomes("ready")
            await here.caller.reaches(here.address)
            before = moved.connections
            assert (await here.caller.call(here.address)).status == 200
            assert moved.connections > before
        assert len(instance.events("envoy.started")) == 1


async def test_an_app_that_only_calls_is_ready_while_it_runs(tmp_path: Path) -> None:
    """It listens nowhere, so whoever waits for it has to say what its health is."""
    async with scene(tmp_path) as here, here.instance():
        await here.cf.use_ports("app-b", free_port())
        await here.becomes("not_ready")
        waited = await c2c(here.cf, "wait", "app-b", "--timeout", "100ms")
        assert waited.code != 0

        command = ("update-app", "app-b", "--health-check-type")
        assert (await c2c(here.cf, *command, "process")).code == 0
        assert (await c2c(here.cf, "wait", "app-b")).code == 0
        assert here.status == "ready"
        assert (await c2c(here.cf, *command, "port")).code == 0
        await here.becomes("not_ready")


async def test_a_port_that_61443_does_not_lead_to_holds_up_nobody(tmp_path: Path) -> None:
    """One that is added before the app listens there is reported, and no name is withdrawn."""
    async with scene(tmp_path) as here, here.instance() as instance:
        await here.becomes("ready")
        port = free_port()
        await here.cf.use_ports("app-b", here.port, port)
        await instance.logged("app.ports_learned")

        async def is_told() -> bool:
            return _tried(here) == {here.port: True, port: False}

        await until(is_told, what="the closed port is reported")
        await here.caller.reaches(here.address)
        why = await c2c(here.cf, "why", "caller-of-app-b", "app-b")
        assert (here.status, why.code, why.err) == ("ready", 0, "")


async def test_another_port_of_the_same_is_followed_too(tmp_path: Path) -> None:
    """It is enough that 61443 leads to another of them."""
    async with (
        scene(tmp_path) as here,
        tcp_app(http1()) as other,
        here.instance() as instance,
    ):
        await here.becomes("ready")
        await here.cf.use_ports("app-b", here.port, other.port)
        await instance.logged("app.ports_learned")
        await here.cf.use_ports("app-b", other.port, here.port)
        learned = await instance.logged("app.ports_learned", times=2)

        assert learned["c2c_port"] == other.port
        await here.becomes("ready")


async def test_ports_that_people_named_are_kept(tmp_path: Path) -> None:
    """--app-port counts, whatever the control plane says, and all of them have to be open."""
    port = free_port()
    async with (
        scene(tmp_path) as here,
        here.instance("--app-port", f"{here.port},{port}") as instance,
    ):
        await here.becomes("not_ready")
        async with tcp_app(http1(), port=port):
            await here.becomes("ready")
            await here.cf.use_ports("app-b", free_port())
        await here.becomes("not_ready")

        assert _tried(here) == {here.port: True, port: False}
        assert instance.events("app.ports_learned") == []


async def test_a_start_without_the_control_plane_knows_the_ports(tmp_path: Path) -> None:
    """They are kept with the identity, so the app is told the right PORT."""
    async with scene(tmp_path) as here:
        port = free_port()
        async with here.instance() as instance:
            await here.becomes("ready")
            await here.cf.use_ports("app-b", port)
            await instance.logged("app.ports_learned")
            await instance.stop()
        await here.cf.stop()
        command = ("sh", "-c", "echo port $PORT; exec sleep 60")
        async with here.instance_without_token(command=command) as instance:
            await _wrote(instance, f"port {port}")
