"""The life of an instance: it enrols, serves, and goes."""

from __future__ import annotations

from pathlib import Path

from tests.envoy.apps import http1, tcp_app
from tests.envoy.harness import unique_address
from tests.sidecar.world import Caller, platform, sidecar


async def test_an_instance_enrols_and_serves(tmp_path: Path) -> None:
    """A join token is all that an app needs to be reached over HTTPS by its route."""
    address = unique_address()
    async with platform(tmp_path) as cf, tcp_app(http1()) as app:
        await cf.create_app("app-b", port=app.port)
        await cf.map_route("app-b", "app-b")
        caller = Caller(await cf.caller_of("app-b"), cf.trust_bundle, "app-b.apps.internal")
        options = ("--address", address, "--app-port", str(app.port))
        async with sidecar(await cf.ticket("app-b"), tmp_path / "sidecar", *options) as instance:
            await caller.reaches(address)
            answer = await caller.call(address)

            assert (answer.status, answer.body) == (200, b"hello")
            assert await instance.stop() == 0
