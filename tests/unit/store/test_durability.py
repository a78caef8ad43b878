"""``kill -9`` at any moment: every change that was answered is there, and none is there by half."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

from control_plane.model.state import State
from control_plane.names import AppGuid
from control_plane.store.sqlite import SqliteStore

WRITER = """
import asyncio, sys
from pathlib import Path
from control_plane.model.apps import create_app
from control_plane.model.routes import map_route, unmap_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.registry import Registry
from control_plane.store.sqlite import SqliteStore

DOMAINS = ["apps.internal"]

def say(what, host):
    print(what, host, flush=True)

async def work(registry, worker):
    app = f"app-{worker}"
    await registry.execute(lambda state: create_app(state, app, AppSpec(app)))
    number, previous = 0, None
    while True:
        host = f"{sys.argv[2]}-{worker}-{number}"
        await registry.execute(
            lambda state: map_route(state, app, host, DOMAINS[0], DOMAINS)
        )
        say("mapped", host)
        if previous is not None:
            say("unmapping", previous)
            await registry.execute(lambda state: unmap_route(state, app, previous, DOMAINS[0]))
            say("unmapped", previous)
        number, previous = number + 1, host

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    registry = Registry(State.of(await store.load()), store)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(registry.run())
        for worker in range(8):
            tasks.create_task(work(registry, worker))

asyncio.run(main())
"""
"""Eight callers that map and unmap routes, and say each answer as soon as they have it."""

ROUNDS = 6


def answers_until_killed(path: Path, number: int, lines: int) -> list[tuple[str, str]]:
    """Return what the writer said before it was killed, which is after that many lines."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(number)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as writer:
        assert writer.stdout is not None
        try:
            said = [writer.stdout.readline() for _ in range(lines)]
        finally:  # also if pytest interrupts: who leaves the block waits for its end
            writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
        assert writer.wait() == -signal.SIGKILL, "the writer ended by itself"
    whole = (line.split() for line in said if line.endswith("\n"))
    return [(what, f"{host}.apps.internal") for what, host in whole]


async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    """After each of several kills, with eight commands in flight, no answer was a lie.

    The next process gets the lock of the one that was killed, and goes on where it ended.
    """
    path = tmp_path / "state.db"
    walk = random.Random(4)
    said: dict[str, set[str]] = {"mapped": set(), "unmapping": set(), "unmapped": set()}
    for number in range(ROUNDS):
        for what, hostname in answers_until_killed(path, number, walk.randrange(1, 300)):
            said[what].add(hostname)

        store = await SqliteStore.open(path)
        state = State.of(await store.load())
        await store.close()
        found = set(state.apps_by_hostname)
        assert said["mapped"] - said["unmapping"] <= found
        assert not said["unmapped"] & found
        assert len(state.hostnames_of(AppGuid("app-0"))) <= 3 * (number + 1)
    assert len(said["unmapped"]) > ROUNDS
