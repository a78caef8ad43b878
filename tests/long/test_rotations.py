"""The long one: a rotation each second under new connections, and a thousand under kept ones.

``make test-long`` runs it at full length; otherwise it takes a few seconds.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.e2e.site import Instance, Site, site
from tests.e2e.traffic import Calls
from tests.envoy.harness import until
from tests.promises import CallFailed, none_failed

IS_LONG = bool(os.environ.get("C2C_TEST_LONG"))

HOST = "app-b"
SECONDS = 90 if IS_LONG else 5
INTERVAL = 0.02
ROTATIONS = 1_000 if IS_LONG else 20
REQUESTS = 100_000 if IS_LONG else 500
CONNECTIONS = 4
KEPT_SECONDS = 40.0
"""How long a connection is kept: for hundreds of rotations."""

MODIFIED = "listener_manager.listener_modified"


async def rotate(cloud: Site, turn: int) -> None:
    """Have the certificate replaced, and wait until the new one is served."""
    change = cloud.unmap if turn % 2 else cloud.map
    assert (await change(HOST, "other")).complete


async def connect_each(seconds: float, instance: Instance, source: str) -> Calls:
    """Open a verifying connection every 20 ms, whatever becomes of the others."""
    seen = Calls()

    async def call() -> None:
        try:
            async with asyncio.timeout(10):
                status = await instance.get(HOST, source)
                assert status == 200, status
            seen.done += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            seen.failures.append(repr(error))

    start = time.monotonic()
    tasks: list[asyncio.Task[None]] = []
    for number in range(int(seconds / INTERVAL)):
        await asyncio.sleep(start + number * INTERVAL - time.monotonic())
        tasks.append(asyncio.create_task(call()))
    await asyncio.gather(*tasks)
    return seen


async def test_no_new_connection_fails_while_a_certificate_rotates_each_second(
    tmp_path: Path,
) -> None:
    """A verified handshake and a request every 20 ms: none fails, and no listener is touched."""
    async with site(tmp_path) as cloud, cloud.run(HOST) as b:
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)
        modified = await b.envoy.stat(MODIFIED)
        connecting = asyncio.create_task(connect_each(SECONDS, b, source))
        serials, turn, start = set(), 0, time.monotonic()
        while not connecting.done():
            await rotate(cloud, turn)
            serials.add((await b.serves()).serial)
            turn += 1
            await asyncio.sleep(max(0.0, start + turn - time.monotonic()))
        calls = await connecting

        none_failed(calls)
        assert calls.done >= SECONDS / INTERVAL
        assert len(serials) == turn
        assert turn >= SECONDS * 0.9
        assert await b.envoy.stat(MODIFIED) == modified
        assert await b.envoy.restart_epoch() == 0


async def test_no_kept_connection_fails_across_many_rotations(tmp_path: Path) -> None:
    """Requests on connections that stay open: none fails, and none of the connections is closed.

    Both last equally long, and requests are answered while certificates rotate.
    """
    async with site(tmp_path) as cloud, cloud.run(HOST) as b:
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)
        accepted = await b.envoy.stat("listener_manager.listener_create_success")
        modified = await b.envoy.stat(MODIFIED)
        kept = Kept()
        async with asyncio.TaskGroup() as tasks:
            rotating = tasks.create_task(kept.rotate_often(cloud))
            for _ in range(CONNECTIONS):
                tasks.create_task(kept.request(b, source, rotating))

        assert kept.done >= REQUESTS
        assert rotating.result() >= REQUESTS * 0.9
        assert kept.during >= ROTATIONS * 0.9
        assert await b.envoy.stat("listener_manager.listener_create_success") == accepted
        assert await b.envoy.stat(MODIFIED) == modified


@dataclass(slots=True)
class Kept:
    """Requests on kept connections, and rotations at the same pace.

    Attributes:
        done: how many requests were answered.
        during: how many rotations there were during which one was.
    """

    done: int = 0
    during: int = 0

    async def rotate_often(self, cloud: Site) -> int:
        """Rotate each time that its share of requests was answered; return how many were then."""
        for turn in range(ROTATIONS):
            await until(partial(self._has_done, turn * REQUESTS // ROTATIONS), what="more requests")
            before = self.done
            await rotate(cloud, turn)
            self.during += self.done > before
        return self.done

    async def request(self, instance: Instance, source: str, rotating: asyncio.Task[int]) -> None:
        """Send one request after another over a kept connection, until there were enough."""

        def is_enough() -> bool:
            return rotating.done() and self.done >= REQUESTS

        while not is_enough():
            end = time.monotonic() + KEPT_SECONDS
            async with instance.connect(HOST, source) as connection:
                while not is_enough() and time.monotonic() < end:
                    try:
                        answer = await connection.request()
                        assert answer.status == 200, answer.status
                        assert answer.header("connection") is None
                    except Exception as error:
                        raise CallFailed(repr(error)) from error
                    self.done += 1

    async def _has_done(self, number: int) -> bool:
        return self.done >= number
