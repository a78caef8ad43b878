"""Measurements with a real Envoy: from a change to the moment at which other containers see it.

The rule of this module: what is timed is what another container sees, a fresh TLS handshake with
full verification from its own address. The floor is the same Envoy, the same handshake, and a
server that pushes a certificate which was issued in advance.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from cryptography import x509
from figures import Figures, milliseconds
from fleet import USUAL_SIZE, Fleet, Member, prepare, write_floor
from processes import Server, Talker, control_plane, end, talker

from control_plane.api.v1 import (
    network_policy_pb2,
    network_policy_pb2_grpc,
    route_pb2,
    route_pb2_grpc,
)
from control_plane.ca.spiffe import DEFAULT_TRUST_DOMAIN, spiffe_id
from control_plane.envoy.bootstrap import XdsIdentity, identity_file, render, trust_file
from control_plane.names import C2C_PORT
from control_plane.sidecar.processes.envoy_process import find_envoy

DEADLINE = 30.0


class Caller:
    """Another container, which connects from its own address and verifies in full."""

    def __init__(self, fleet: Fleet, member: Member, to: Member) -> None:
        """Connect as one member to another one."""
        self._context = ssl.create_default_context(cadata=fleet.authority.trust_bundle_pem.decode())
        self._from, self._to = member, to
        self._name = f"{to.app}.apps.internal"

    @asynccontextmanager
    async def _connected(
        self,
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            self._to.address,
            C2C_PORT,
            ssl=self._context,
            server_hostname=self._name,
            local_addr=(self._from.address, 0),
        )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def shown(self) -> x509.Certificate:
        """Return the certificate that a fresh handshake shows."""
        async with self._connected() as (_, writer):
            tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")

    async def is_reachable(self) -> bool:
        """Tell whether a handshake succeeds."""
        return bool(await self.shown())

    async def is_refused(self) -> bool:
        """Tell whether a request on a fresh connection is not answered."""
        return not await self.is_answered()

    async def is_answered(self) -> bool:
        """Tell whether a request on a fresh connection is answered with 200."""
        with suppress(OSError, asyncio.IncompleteReadError):
            async with self._connected() as (reader, writer):
                head = f"GET / HTTP/1.1\r\nhost: {self._name}\r\nconnection: close\r\n\r\n"
                writer.write(head.encode())
                return b" 200 " in await reader.readline()
        return False


async def until(probe: Callable[[], Awaitable[bool]]) -> float:
    """Return the moment at which a probe that first succeeded had ended."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                if await probe():
                    return time.monotonic()
            await asyncio.sleep(0.001)  # constant probing would keep the others from working


def _write_bootstrap(directory: Path, fleet: Fleet, member: Member, xds_port: int) -> Path:
    directory.mkdir()
    identity = XdsIdentity(
        directory / "identity.json",
        directory / "trust.json",
        spiffe_id(DEFAULT_TRUST_DOMAIN, "control-plane"),
    )
    pem = member.certificate.decode(), fleet.key.private_pem().decode()
    identity.identity_file.write_text(identity_file(*pem))
    identity.trust_file.write_text(trust_file(fleet.authority.trust_bundle_pem.decode()))
    config = directory / "bootstrap.yaml"
    text = render(
        member.guid,
        xds_address="127.0.0.1",
        xds_port=xds_port,
        admin_socket=directory / "admin.sock",
        tls=identity,
    )
    config.write_text(text)
    return config


@asynccontextmanager
async def envoy(
    directory: Path, fleet: Fleet, member: Member, xds_port: int
) -> AsyncIterator[None]:
    """Run an Envoy as that of a member, with some xDS server, until the block ends."""
    config = _write_bootstrap(directory, fleet, member, xds_port)
    with (directory / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(str(find_envoy(None)), "--config-path", str(config), "--concurrency", "1"),
            *("--use-dynamic-base-id", "--log-level", "warning", "--drain-time-s", "1"),
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        await end(process)


async def change_to_served(directory: Path, *, quick: bool) -> Figures:
    """Time a route mapping until a fresh handshake shows it, beside the push of a ready secret."""
    rounds = 20 if quick else 200
    fleet = await prepare(directory, 30, place=_loopback)
    mine, other = [each for each in fleet.members if each.app == "app-0"][:2]
    write_floor(directory / "floor", fleet, other, rounds)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(control_plane(fleet.data_dir))
        floor = await stack.enter_async_context(talker("floor.py", directory / "floor"))
        floor_port = int((await floor.hear("ready"))[0])
        await stack.enter_async_context(envoy(directory / "a", fleet, mine, server.xds.port))
        await stack.enter_async_context(envoy(directory / "b", fleet, other, floor_port))
        source = fleet.of_app("app-2")
        served, floor_served = Caller(fleet, source, mine), Caller(fleet, source, other)
        for each in (served, floor_served):
            await until(each.is_reachable)
        handshakes = [await _timed(served.shown) for _ in range(rounds)]
        commits = [await _timed(partial(_map, server, "app-1", f"c{n}")) for n in range(rounds)]
        times, floors = [], []
        for number in range(rounds):
            shows_it = partial(_shows, served, f"h{number}.apps.internal")
            times.append(await _until(shows_it, _map(server, "app-0", f"h{number}")))
            floors.append(await _until_new(floor_served, partial(_push, floor)))
    return {
        "name": "change_to_served",
        "rounds": rounds,
        **milliseconds("", times),
        **milliseconds("floor", floors),
        **milliseconds("commit", commits),
        **milliseconds("handshake", handshakes),
    }


async def policy(directory: Path, *, quick: bool) -> Figures:
    """Time a policy until the first request that it allows, and its removal until the last one.

    The app that it admits has ten instances, and then many.
    """
    rounds, big = (10, 20) if quick else (100, 200)
    few = await _policy(directory / "few", USUAL_SIZE, rounds)
    many = await _policy(directory / "many", big, rounds)
    return {
        "name": "policy",
        "rounds": rounds,
        **few,
        "big_source": big,
        **{f"big_{name}": figure for name, figure in many.items()},
    }


async def _policy(directory: Path, size: int, rounds: int) -> Figures:
    fleet = await prepare(directory, 3 * size, place=_loopback, size=size)
    mine, source = fleet.of_app("app-0"), fleet.of_app("app-1")
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(control_plane(fleet.data_dir))
        await stack.enter_async_context(envoy(directory / "a", fleet, mine, server.xds.port))
        await stack.enter_async_context(_app(mine.address))
        allowed = Caller(fleet, fleet.of_app("app-2"), mine)
        await until(allowed.is_answered)
        requests = [await _timed(allowed.is_answered) for _ in range(rounds)]
        caller = Caller(fleet, source, mine)
        added, removed = [], []
        for _ in range(rounds):
            added.append(await _until(caller.is_answered, _change_policy(server, add=True)))
            removed.append(await _until(caller.is_refused, _change_policy(server, add=False)))
    return {
        **milliseconds("add_to_allowed", added),
        **milliseconds("remove_to_refused", removed),
        **milliseconds("request", requests),
    }


async def _shows(caller: Caller, name: str) -> bool:
    """Tell whether the certificate of a fresh handshake has a name."""
    names = (await caller.shown()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return name in names.value.get_values_for_type(x509.DNSName)


async def _until_new(caller: Caller, change: Callable[[], Awaitable[None]]) -> float:
    """Return the seconds from a change to the first handshake with another certificate."""
    before = (await caller.shown()).serial_number

    async def is_new() -> bool:
        return (await caller.shown()).serial_number != before

    return await _until(is_new, change())


async def _until(probe: Callable[[], Awaitable[bool]], change: Awaitable[None]) -> float:
    start = time.monotonic()
    changing = asyncio.ensure_future(change)
    done = await until(probe)
    await changing
    return done - start


async def _timed(what: Callable[[], Awaitable[object]]) -> float:
    start = time.monotonic()
    await what()
    return time.monotonic() - start


async def _map(server: Server, app: str, host: str) -> None:
    request = route_pb2.MapRouteRequest(app=app, hostname=host)
    await route_pb2_grpc.RouteServiceStub(server.operator).MapRoute(request)


async def _push(floor: Talker) -> None:
    floor.tell("push")


async def _change_policy(server: Server, *, add: bool) -> None:
    pb, stub = network_policy_pb2, network_policy_pb2_grpc.NetworkPolicyServiceStub(server.operator)
    changed = pb.NetworkPolicy(
        source="app-1", destination="app-0", protocol="tcp", start_port=61443, end_port=61443
    )
    if add:
        await stub.AddNetworkPolicies(pb.AddNetworkPoliciesRequest(policies=[changed]))
    else:
        await stub.RemoveNetworkPolicies(pb.RemoveNetworkPoliciesRequest(policies=[changed]))


@asynccontextmanager
async def _app(address: str) -> AsyncIterator[None]:
    """Run an app that answers every GET, until the block ends."""
    listen = ("--listen", f"{address}:8080")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "control_plane.demo.hello"),
        *listen,
        stderr=asyncio.subprocess.DEVNULL,  # it complains about clients that reset connections
    )
    try:
        yield
    finally:
        await end(process)


def _loopback(number: int) -> str:
    """Give each instance an address of its own, in a range of this process."""
    pid = os.getpid()
    return f"127.{pid % 100 + 100}.{number >> 7}.{number % 128 + 1}"
