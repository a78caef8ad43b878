"""What is told of an instance was tried just now."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext

import pytest

from control_plane.names import Address, Port
from control_plane.reconciler.served.probe import Prober
from control_plane.sidecar.processes import envoy_admin
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.reports import readiness
from control_plane.sidecar.reports.app_ports import AppPorts
from control_plane.sidecar.reports.readiness import (
    NOT_SERVING_SECONDS,
    InstanceObserver,
    Observation,
)
from tests.envoy.harness import unique_address
from tests.unit.reconciler.clocks import ManualClock

APP = Address("127.0.0.1")

Place = tuple[str, int]


@asynccontextmanager
async def listening(address: str = APP) -> AsyncIterator[Port]:
    """Have somebody accept connections there until the block ends."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), address, 0)
    async with server:
        yield Port(server.sockets[0].getsockname()[1])


async def _seen(directory: Path, ports: AppPorts, address: str = "") -> Observation:
    """Look at an instance without an Envoy."""
    admin, at = EnvoyAdmin(directory / "admin.sock"), Address(address or unique_address())
    return await InstanceObserver(lambda: at, APP, lambda: ports, admin, ManualClock()).observe()


async def test_only_the_port_that_61443_leads_to_has_to_be_open(tmp_path: Path) -> None:
    """Of the others it is told which are open and which are not."""
    async with listening() as open_, listening() as other:
        async with listening() as closed:
            pass
        ready = await _seen(tmp_path, AppPorts((closed, open_, other), open_))
        not_ready = await _seen(tmp_path, AppPorts((closed, open_, other), closed))

    assert (ready.listening, ready.c2c_port) == (True, open_)
    assert (not_ready.listening, not_ready.c2c_port) == (False, closed)
    assert ready.open_ports == not_ready.open_ports == (open_, other)
    assert ready.closed_ports == not_ready.closed_ports == (closed,)


async def test_each_of_the_ports_that_people_named_has_to_be_open(tmp_path: Path) -> None:
    """Who names two ports means both of them."""
    async with listening() as open_:
        async with listening() as closed:
            pass
        seen = [await _seen(tmp_path, AppPorts(each)) for each in ((open_,), (open_, closed))]

    assert [each.listening for each in seen] == [True, False]


async def test_a_port_at_the_address_of_the_instance_is_exposed(tmp_path: Path) -> None:
    """Also one that is not open where Envoy reaches the app."""
    address = unique_address()
    async with listening() as hidden, listening(address) as exposed:
        seen = await _seen(tmp_path, AppPorts((hidden, exposed), hidden), address)

    assert (seen.open_ports, seen.exposed_ports) == ((hidden,), (exposed,))


async def test_a_silent_envoy_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is busy for a moment makes an app neither exposed nor safe."""
    monkeypatch.setattr(envoy_admin, "ANSWER_SECONDS", 0.2)
    address, elsewhere, silent = Address(unique_address()), "10.255.0.1", ""
    said = silent

    calls = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(asyncio.current_task())
        await reader.readuntil(b"\r\n\r\n")
        if said == silent:
            await reader.read()
        place = {"socket_address": {"address": said, "port_value": port}}
        body = json.dumps({"listener_statuses": [{"name": "a", "local_address": place}]})
        writer.write(f"HTTP/1.1 200 OK\r\n\r\n{body}".encode())
        writer.close()

    admin = tmp_path / "admin.sock"
    async with await asyncio.start_unix_server(accept, admin), listening(address) as port:
        ports = AppPorts((port,), port)
        observer = InstanceObserver(
            lambda: address, APP, lambda: ports, EnvoyAdmin(admin), ManualClock()
        )

        async def exposed(says: str) -> tuple[Port, ...]:
            nonlocal said
            said = says
            return (await observer.observe()).exposed_ports

        seen = [await exposed(each) for each in (silent, address, silent, elsewhere, silent)]
        await asyncio.gather(*filter(None, calls))

    assert seen == [(), (), (), (port,), (port,)]


async def test_a_connection_to_itself_is_no_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system takes the port that it connects to for its own end once in some 20,000 times."""
    async with listening() as closed:
        pass
    connect = asyncio.open_connection

    async def from_itself(
        address: str, port: int, *, ssl: SSLContext | None = None, local_addr: Place | None = None
    ) -> object:
        return await connect(address, port, ssl=ssl, local_addr=local_addr or (address, port))

    monkeypatch.setattr(asyncio, "open_connection", from_itself)
    seen = await _seen(tmp_path, AppPorts((closed,)))

    assert (seen.listening, seen.open_ports, seen.exposed_ports) == (False, (), ())


async def test_an_app_that_is_too_busy_to_accept_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux answers nobody once the queue of a port is full, and its callers wait."""
    monkeypatch.setattr(readiness, "CONNECT_SECONDS", 0.2)
    with ExitStack() as waiting, socket.create_server((APP, 0), backlog=0) as app:
        port = Port(app.getsockname()[1])
        with suppress(TimeoutError):
            while True:
                waiting.enter_context(socket.create_connection((APP, port), timeout=0.2))
        busy = await _seen(tmp_path, AppPorts((port,)))
    gone = await _seen(tmp_path, AppPorts((port,)))

    assert (busy.listening, busy.open_ports) == (True, (port,))
    assert (gone.listening, gone.closed_ports) == (False, (port,))


async def test_another_machine_that_does_not_answer_has_no_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be gone, and says nothing of its ports then."""

    async def answer_nothing(*_: object, ssl: SSLContext | None = None, **__: object) -> object:
        if ssl is not None:  # for port 61443, with which others have patience
            raise ConnectionRefusedError
        return await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(readiness, "CONNECT_SECONDS", 0.01)
    monkeypatch.setattr(asyncio, "open_connection", answer_nothing)
    observer = InstanceObserver(
        lambda: Address("203.0.113.1"),
        Address("203.0.113.2"),
        lambda: AppPorts((Port(8080),)),
        EnvoyAdmin(tmp_path / "admin.sock"),
        ManualClock(),
    )
    seen = await observer.observe()

    assert (seen.listening, seen.closed_ports, seen.exposed_ports) == (False, (8080,), ())


async def test_who_showed_a_certificate_and_shows_none_for_a_while_serves_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One handshake may fail on a busy machine, and an Envoy that never served may be starting."""
    clock, serial = ManualClock(), 0

    async def served_serial(_prober: Prober, *_: object, **__: object) -> int | str:
        return serial or "no TLS handshake"

    monkeypatch.setattr(Prober, "served_serial", served_serial)
    observer = InstanceObserver(
        lambda: Address("127.0.0.1"),
        APP,
        lambda: AppPorts(()),
        EnvoyAdmin(tmp_path / "admin.sock"),
        clock,
    )

    async def seen(shown: int, after: float) -> bool:
        nonlocal serial
        serial = shown
        await clock.advance(after)
        return (await observer.observe()).not_serving

    assert not await seen(0, 60)
    assert not await seen(0, 60)
    assert not await seen(7, 0)
    assert not await seen(0, NOT_SERVING_SECONDS - 0.1)
    assert await seen(0, 0.1)
    assert not await seen(8, 60)
    assert not await seen(0, 1)
    assert not await seen(9, 0)
    # Nobody looked meanwhile, as where the sidecar stood still.
    assert not await seen(0, 60)
    assert await seen(0, 0)


async def test_an_envoy_that_never_answered_serves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that answers, or is not running yet, may have nothing to serve."""
    monkeypatch.setattr(envoy_admin, "ANSWER_SECONDS", 0.2)
    clock, answers, path = ManualClock(), True, tmp_path / "admin.sock"

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answers:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n11.104")
        else:
            await reader.read()
        writer.close()

    address = Address(unique_address())
    observer = InstanceObserver(lambda: address, APP, lambda: AppPorts(()), EnvoyAdmin(path), clock)

    async def hangs(*, says: bool, after: float) -> bool:
        nonlocal answers
        answers = says
        await clock.advance(after)
        return (await observer.observe()).not_serving

    assert not await hangs(says=False, after=60)
    async with await asyncio.start_unix_server(accept, path):
        assert not await hangs(says=True, after=60)
        assert not await hangs(says=False, after=NOT_SERVING_SECONDS - 0.1)
        assert await hangs(says=False, after=0.1)
        assert not await hangs(says=True, after=60)
