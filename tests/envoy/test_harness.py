"""The tools of these tests do what they say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from control_plane.envoy import bootstrap
from tests.envoy.harness import admin_socket, start_envoy, unique_address, until


def _nowhere(socket: Path) -> str:
    return bootstrap.render(
        "instance-1", xds_address="127.0.0.1", xds_port=1, admin_socket=socket, tls=None
    )


async def test_an_envoy_lives_as_long_as_its_block() -> None:
    """An Envoy answers inside the block and is gone, with its files, after it."""
    async with start_envoy(_nowhere) as envoy:
        assert (await envoy.server_info())["state"] == "PRE_INITIALIZING"
        assert await envoy.restart_epoch() == 0
        assert await envoy.stat("server.concurrency") == 1
        assert any("bootstrap" in config for config in await envoy.config_dump())

    assert not envoy.directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(envoy.pid, 0)


async def test_nothing_of_an_envoy_runs_once_it_is_paused() -> None:
    """A pause is over with every thread at a standstill, also where Envoy has no turn yet."""
    mine = os.sched_getaffinity(0)
    async with start_envoy(_nowhere) as envoy:
        try:
            # On one processor its main thread has none before this test waits for something.
            os.sched_setscheduler(envoy.pid, os.SCHED_BATCH, os.sched_param(0))
            for process in (0, envoy.pid):
                os.sched_setaffinity(process, {min(mine)})
            for _ in range(2):
                envoy.pause()
                threads = _threads(envoy.pid)
                envoy.resume()
                assert set(threads) == {"T"}
                assert (await envoy.server_info())["state"] == "PRE_INITIALIZING"
        finally:
            os.sched_setaffinity(0, mine)


def _threads(pid: int) -> list[str]:
    """Return the state of each thread of a process (proc_pid_stat(5))."""
    stats = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [each.rpartition(")")[2].split()[0] for each in stats]


async def test_the_admin_socket_is_for_its_owner_only() -> None:
    """Envoy's admin interface can be opened by the user who started it, and by nobody else."""
    async with start_envoy(_nowhere) as envoy:
        assert admin_socket(envoy.directory).stat().st_mode & 0o777 == 0o600


async def test_an_envoy_that_cannot_start_says_why() -> None:
    """A bootstrap that Envoy refuses fails the test with Envoy's own words."""
    with pytest.raises(AssertionError, match="ended before it started") as failure:
        async with start_envoy(lambda _: "node: {id: [}"):
            pass

    assert "yaml" in "".join(failure.value.__notes__).lower()


async def test_waiting_has_an_end() -> None:
    """A condition that never holds fails the test and says what was awaited."""

    async def never() -> bool:
        return False

    with pytest.raises(AssertionError, match="the impossible"):
        await until(never, what="the impossible", timeout=0.05)


def test_each_address_is_handed_out_once() -> None:
    """Two instances under test never share an address."""
    assert len({unique_address() for _ in range(50)}) == 50


def test_a_port_that_somebody_has_on_all_addresses_is_said() -> None:
    """Nobody looks without end for an address with a port that is taken everywhere."""
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        port = everywhere.getsockname()[1]

        with pytest.raises(AssertionError, match=f"who listens on 0.0.0.0:{port}"):
            unique_address(port)
