"""What is refused before a byte of any message is read: the handshake, and what never gets so far.

Beside each of these there is a bystander, whose stream must go on and whose certificate must
still rotate when it is over.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from control_plane.app import ports
from control_plane.app.port_limits import shares
from control_plane.server.library import ResourceServer
from control_plane.server.limits import ServerLimits
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import DEADLINE
from tests.security.holders import (
    Holder,
    foreign_authority,
    identity_request,
    issued,
    nobody,
    operator_request,
)
from tests.security.sockets import client_context, connected, tls_ports
from tests.security.world import (
    C2C_SECRET,
    bystander,
    called,
    certificates_in,
    control_plane,
    enrol,
    refused,
    refused_stream,
    stream,
)
from tests.sidecar.platform import Platform
from tests.unit.ca.forge import made
from tests.xds_client import DeltaClient

HALF_OPEN = 100
"""Connections to each port that stop in the middle of the handshake."""

CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(20)
"""The first bytes of a TLS handshake, and not all of them."""

HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

NO_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""The frame by which a client says that it has none of its own."""

FILES = 512
"""What a server may open that has little."""

GARBAGE = {
    "random bytes": random.Random(1).randbytes(4096),
    "a web request": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 without TLS": HTTP2_PREFACE + b"\xff" * 4096,
    "half a ClientHello": CLIENT_HELLO,
    "zeros": bytes(65536),
}


async def ends(reader: asyncio.StreamReader) -> bool:
    """Tell whether the server closes a connection, whatever it says before."""
    with suppress(ConnectionError, ssl.SSLError):
        async with asyncio.timeout(DEADLINE):
            await reader.read(-1)
    return True


Attacker = Callable[[Platform, Holder], Holder]


def _self_signed(cf: Platform, victim: Holder) -> Holder:
    maker = made("c2c-control-plane CA")
    return Holder(victim.guid, maker.key, maker.pem, cf.trust_bundle)


OUTSIDERS: dict[str, Attacker] = {
    "no certificate": lambda cf, victim: nobody(cf, victim.guid),
    "a certificate of another CA with the same name": lambda cf, victim: issued(
        cf, identity_request(cf, victim), by=foreign_authority(), guid=victim.guid
    ),
    "a certificate that has expired": lambda cf, victim: issued(
        cf,
        identity_request(cf, victim),
        age=timedelta(seconds=6),
        lifetime=timedelta(seconds=4),
        guid=victim.guid,
    ),
    "an operator's certificate that has expired": lambda cf, _: issued(
        cf, operator_request(cf), age=timedelta(minutes=3), lifetime=timedelta(minutes=1)
    ),
    "a certificate that it signed itself": _self_signed,
}


@pytest.mark.parametrize("shown", OUTSIDERS)
async def test_an_outsider_is_refused_in_the_handshake(tmp_path: Path, shown: str) -> None:
    """Without a valid certificate of our CA nobody opens a stream, and no message is parsed."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        outsider = OUTSIDERS[shown](cf, there.holder)
        code, _ = await refused_stream(cf, outsider)
        admin = cf.running.ports.admin_address
        async with outsider.connect(admin) as channel:
            admin_code, _ = await refused(called(channel, "/c2c.v1.AppService/ListApps"))

        assert (code, admin_code) == (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
        assert len(cf.running.core.nodes.all_streams()) == 1
        assert not cf.running.ports.discovery.ended


async def test_nothing_is_served_without_tls(tmp_path: Path) -> None:
    """K4: on no port does a client get an answer in plaintext."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        for port in tls_ports(cf):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                async with DeltaClient(channel, there.holder.guid) as client:
                    code, _ = await client.status()
                call = called(channel, "/c2c.v1.EnrollmentService/Enroll")

                assert code is grpc.StatusCode.UNAVAILABLE
                assert (await refused(call))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_old_versions_of_tls_are_refused(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """TLS 1.0 and 1.1 are refused by the server on each port; the same client gets in by 1.2."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        for port in tls_ports(cf):
            tls = client_context(there.holder, tmp_path)
            tls.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL itself would not offer it
            with pytest.warns(DeprecationWarning, match="is deprecated"):
                tls.minimum_version = tls.maximum_version = version
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                async with connected(port, tls):
                    pass
            tls.maximum_version = ssl.TLSVersion.TLSv1_2
            async with connected(port, tls) as (_, writer):
                assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"


async def test_half_open_handshakes_hold_up_nobody(tmp_path: Path) -> None:
    """While hundreds of connections never finish theirs, others connect, enrol and rotate."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there, AsyncExitStack() as stack:
        for port in tls_ports(cf):
            for _ in range(HALF_OPEN):
                _, writer = await stack.enter_async_context(connected(port))
                writer.write(CLIENT_HELLO)
        await there.rotates()
        await cf.create_app("newcomer")
        async with asyncio.timeout(DEADLINE):
            newcomer = await enrol(cf, "newcomer", "127.0.0.2")
            async with stream(cf, newcomer) as client:
                await client.subscribe(SECRET, C2C_SECRET)

                assert certificates_in(await client.receive())


@pytest.mark.parametrize("is_tls_done", [False, True], ids=["in TLS", "after TLS"])
async def test_a_handshake_that_takes_too_long_is_cut_off(
    tmp_path: Path, *, is_tls_done: bool
) -> None:
    """Neither TLS nor the first frame of HTTP/2 is waited for longer than the limit says."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        credentials = cf.running.ports._certificate.credentials(client_certificates=True)
        limits = ServerLimits(handshake_seconds=0.3)
        async with ResourceServer("127.0.0.1:0", credentials=credentials, limits=limits) as server:
            port = int(server.address.rpartition(":")[2])
            tls = client_context(there.holder, tmp_path) if is_tls_done else None
            async with connected(port, tls) as (reader, writer):
                if not is_tls_done:
                    writer.write(CLIENT_HELLO)

                assert await ends(reader)


async def test_a_connection_on_which_nobody_calls_is_closed(tmp_path: Path) -> None:
    """Whoever may connect could else hold open files and memory for ever; streams go on."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        credentials = cf.running.ports._certificate.credentials(client_certificates=True)
        limits = ServerLimits(idle_seconds=0.3)
        async with (
            ResourceServer("127.0.0.1:0", credentials=credentials, limits=limits) as server,
            there.holder.connect(server.address) as channel,
            DeltaClient(channel, "somebody") as client,
        ):
            await client.subscribe(SECRET)
            tls = client_context(there.holder, tmp_path)
            async with connected(int(server.address.rpartition(":")[2]), tls) as (reader, writer):
                writer.write(HTTP2_PREFACE + NO_SETTINGS)

                assert await ends(reader)

            assert await client.is_silent()


async def test_a_port_that_is_full_leaves_others_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strangers fill the port for enrolment, and no more: instances and operators get in."""
    monkeypatch.setattr(ports, "open_files", lambda: FILES)
    async with control_plane(tmp_path) as cf, bystander(cf) as there, AsyncExitStack() as stack:
        await cf.create_app("newcomer")
        newcomer = await enrol(cf, "newcomer", "127.0.0.2")
        port = cf.running.enroll_address.port
        most = shares(FILES).enrollment
        readers = [(await stack.enter_async_context(connected(port)))[0] for _ in range(2 * most)]
        ending = [asyncio.create_task(ends(reader)) for reader in readers]
        for ended in itertools.islice(asyncio.as_completed(ending), most):
            assert await ended
        async with stream(cf, newcomer) as client:
            await client.subscribe(SECRET, C2C_SECRET)

            assert certificates_in(await client.receive())
        await there.rotates()

        assert sum(each.cancel() for each in ending) == most


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_harms_no_port(tmp_path: Path, kind: str) -> None:
    """Bytes that are no protocol at all end their own connection, before TLS and after it."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there, AsyncExitStack() as stack:
        for port in tls_ports(cf):
            tls = client_context(there.holder, tmp_path)
            for context in (None, tls):
                _, writer = await stack.enter_async_context(connected(port, context))
                writer.write(GARBAGE[kind])
                await writer.drain()
        _, writer = await asyncio.open_unix_connection(cf.running.admin_socket)
        writer.write(GARBAGE[kind])
        await there.rotates()
        writer.transport.abort()
        await cf.create_app("still-answered")
