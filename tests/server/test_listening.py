"""How servers begin to listen, and what is said where they cannot."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.app import ControlPlane, ports
from control_plane.errors import ConfigurationError
from control_plane.server.library import ResourceServer
from control_plane.server.listening import cannot_listen
from control_plane.settings import Settings, SocketAddress, admin_socket
from tests.xds_client import plaintext_channel

LOOPBACK = SocketAddress("127.0.0.1", 0)
ELSEWHERE = "192.0.2.1"
"""RFC 5737: an address that no machine has."""

ADDRESSES = ("xds_address", "enroll_address", "http_address", "admin_address")


def _settings(directory: Path, **addresses: SocketAddress) -> Settings:
    """Return settings for any ports of loopback, but for these addresses."""
    where = dict.fromkeys(ADDRESSES, LOOPBACK) | addresses
    return Settings(
        data_dir=directory,
        xds_address=where["xds_address"],
        enroll_address=where["enroll_address"],
        http_address=where["http_address"],
        admin_address=where["admin_address"],
    )


@contextmanager
def _taken() -> Iterator[SocketAddress]:
    """Listen on a port until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield SocketAddress("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize("name", ADDRESSES)
async def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path, name: str) -> None:
    """The operator reads which address, why, and which setting to change; not gRPC's own words."""
    with _taken() as address:
        settings = _settings(tmp_path, **{name: address})
        with pytest.raises(ConfigurationError) as refused:
            await ControlPlane(settings).__aenter__()

    (problem,) = refused.value.problems
    assert problem == (
        f"cannot listen on {address}: address already in use: end what listens there "
        f"('ss -lntp' shows it), or set another {name}"
    )
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_start_that_fails_listens_nowhere(tmp_path: Path) -> None:
    """The ports that it had by then are free again at once."""
    with _taken() as free:
        pass
    with _taken() as taken:
        plane = ControlPlane(_settings(tmp_path, xds_address=free, admin_address=taken))
        with pytest.raises(ConfigurationError, match="set another admin_address"):
            await plane.__aenter__()
    socket.create_server((free.host, free.port)).close()


async def test_a_start_that_fails_at_the_socket_leaves_nobody_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket on which a start began to listen is closed, whatever made the start fail."""

    async def broken(server: grpc.aio.Server) -> NoReturn:
        await server.start()
        raise RuntimeError("defect")

    monkeypatch.setattr(ports, "start", broken)
    settings = _settings(tmp_path)
    with pytest.raises(RuntimeError, match="defect"):
        await ControlPlane(settings).__aenter__()

    with socket.socket(socket.AF_UNIX) as client:
        gone = client.connect_ex(str(admin_socket(settings.data_dir)))
    assert gone in (errno.ENOENT, errno.ECONNREFUSED)


@pytest.mark.parametrize("name", ADDRESSES)
async def test_an_address_of_another_machine_is_said_with_what_to_do(
    tmp_path: Path, name: str
) -> None:
    """A typing error in an address is told apart from a port that is taken."""
    settings = _settings(tmp_path, **{name: SocketAddress(ELSEWHERE, 18000)})
    with pytest.raises(ConfigurationError) as refused:
        await ControlPlane(settings).__aenter__()

    (problem,) = refused.value.problems
    assert problem == (
        f"cannot listen on {ELSEWHERE}:18000: cannot assign requested address: set {name} to an "
        "address that this machine has, or to 0.0.0.0 for all of them"
    )


async def test_an_ipv6_address_of_another_machine_is_said_with_what_to_do() -> None:
    """Who wants IPv6 is not told to listen where only IPv4 comes."""
    assert (await _refusal("[2001:db8::1]:18000")).endswith(
        "set address to an address that this machine has, or to [::] for all of them"
    )


async def test_a_library_says_why_it_cannot_listen(tmp_path: Path) -> None:
    """IPv6, a name and a path are addresses too, and each has a reason if there is one."""
    with _taken() as address:
        assert await _refusal(str(address)) == (
            f"cannot listen on {address}: address already in use: end what listens there "
            "('ss -lntp' shows it), or set another address"
        )
    said = await _refusal("[2001:db8::1]:18000")
    assert said.startswith("cannot listen on [2001:db8::1]:18000: cannot assign requested address")
    for address_of_none in ("nowhere.invalid:1", f"unix:{tmp_path}/none/xds.sock"):
        assert await _refusal(address_of_none) == (
            f"cannot listen on {address_of_none}: it cannot be had: set another address"
        )


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "[::1]", "::1:18000", "127.0.0.1:99999", "localhost:http", ":18000"]
)
async def test_a_library_needs_a_host_and_a_port(address: str) -> None:
    """Without one of them gRPC would listen on port 443, or on another one, and not say so."""
    assert await _refusal(address) == (
        f"cannot listen on {address}: it is neither host:port nor unix:path"
    )


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            errno.EACCES,
            "permission denied: set address to a port from 1024 on, or allow CAP_NET_BIND_SERVICE",
        ),
        (errno.ENODEV, "no such device: set another address"),
        (None, "it cannot be had: set another address"),
    ],
    ids=["permission", "other", "unknown"],
)
def test_each_reason_is_said_with_what_to_do(number: int | None, sentence: str) -> None:
    """Each error number leads to advice, also those that no test here can bring about."""
    (problem,) = cannot_listen("127.0.0.1:443", number, "address").problems

    assert problem == f"cannot listen on 127.0.0.1:443: {sentence}"


async def _refusal(address: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        await ResourceServer(address).__aenter__()
    (problem,) = refused.value.problems
    return problem


@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_start_that_is_interrupted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Ctrl-C while a server starts: no port stays open, no task, and no error that nobody took."""
    starts: list[grpc.aio.Server] = []
    made = type(grpc.aio.server())
    original = made.start

    async def start(server: grpc.aio.Server) -> None:
        starts.append(server)
        if len(starts) == at:
            starting.cancel()
        await original(server)

    monkeypatch.setattr(made, "start", start)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
    plane = ControlPlane(_settings(tmp_path))
    starting = asyncio.ensure_future(plane.__aenter__())
    with pytest.raises(asyncio.CancelledError):
        await starting
    gc.collect()

    assert complaints == []
    assert len(starts) == at
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for address in (plane.xds_address, plane.enroll_address):
        if address.port:
            socket.create_server((address.host, address.port)).close()


async def test_a_stop_that_is_cancelled_cuts_its_calls_all_the_same() -> None:
    """Whoever leaves the block leaves nothing behind, be it in a hurry: not a call, not a task."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    may_leave = asyncio.Event()

    async def serve() -> None:
        async with ResourceServer() as server:
            address.set_result(server.address)
            await may_leave.wait()

    serving = asyncio.create_task(serve())
    async with plaintext_channel(await address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs lack the method
        call = health.Watch(health_pb2.HealthCheckRequest())
        assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        may_leave.set()
        assert (await call.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        serving.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
