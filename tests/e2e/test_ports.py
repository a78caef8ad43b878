"""Ports other than 61443: 61001 and up, SSH, routers, and the app's own ports without TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e import strangers
from tests.e2e.site import CALLER, Instance, site
from tests.envoy import apps, tls_client
from tests.envoy.certificates import Authority
from tests.envoy.harness import unique_address, until

ROUTER = "gorouter.service.internal"


async def test_61001_shows_the_instances_own_certificate(tmp_path: Path) -> None:
    """GUID and address and no route, to whom a policy for this port admits."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b", ports="61001")

        async with b.connect("", source, port=61001) as connection:
            assert (await connection.request()).status == 200
            assert connection.leaf.names == (b.guid,)
            assert connection.leaf.addresses == (b.address,)
        with pytest.raises(ssl.SSLCertVerificationError):
            await b.get("app-b", source, port=61001)
        assert not await strangers.sees_certificate(b.address, source, 61443)


async def test_ssh_is_reached_over_tls_on_its_proxy_port(tmp_path: Path) -> None:
    """The port after those of the app leads to 2222, as bytes, whatever the app speaks."""
    address = unique_address(8080)
    async with (
        site(tmp_path) as cloud,
        apps.tcp_app(apps.http1(), address=address, port=8080) as app,
        apps.tcp_app(apps.banner, address=address, port=2222),
    ):
        await cloud.create_app("app-b", ssh=True)
        async with cloud.start("app-b", app) as b:
            source = await cloud.caller("app-b", ports="61002")

            async with b.connect("", source, port=61002) as connection:
                assert await connection.reader.readline() == b"220 ready\r\n"
                connection.writer.write(b"ls\n")
                assert await connection.reader.readline() == b"echo ls\n"
            assert not await strangers.sees_certificate(b.address, source, 61001)


@pytest.fixture
def routers(tmp_path: Path) -> Authority:
    """Return the CA of the routers, which is in a file."""
    authority = Authority("router CA")
    (tmp_path / "routers.pem").write_bytes(authority.pem)
    return authority


def showing(b: Instance, chain: bytes, key: bytes, directory: Path) -> ssl.SSLContext:
    """Return a context that trusts the instance, and shows this certificate."""
    file = directory / "shown.pem"
    file.write_bytes(chain + key)
    context = tls_client.context(b.trust)
    context.load_cert_chain(file)
    return context


def showing_name(b: Instance, by: Authority, name: str, directory: Path) -> ssl.SSLContext:
    """Return one that shows a certificate with this name."""
    pair = by.issue(name)
    return showing(b, pair.chain, pair.key, directory)


def showing_identity(b: Instance, directory: Path) -> ssl.SSLContext:
    """Return one that shows the instance's own certificate, by which the control plane knows it."""
    (secret,) = json.loads(b.ticket.identity.identity_file.read_text())["resources"]
    chain, key = (
        secret["tls_certificate"][part]["inline_string"].encode()
        for part in ("certificate_chain", "private_key")
    )
    return showing(b, chain, key, directory)


async def asked_with(context: ssl.SSLContext, b: Instance, source: str, port: int) -> int | None:
    """Return the status of a request with this context; None if TLS or TCP came to nothing."""
    try:
        async with tls_client.connect(
            b.address, b.guid, context, port=port, source=source
        ) as connection:
            return (await connection.request()).status
    except (OSError, asyncio.IncompleteReadError):
        return None


async def test_routers_are_admitted_by_their_certificate(
    tmp_path: Path, routers: Authority
) -> None:
    """Of the operator's CA and with a name that the operator named; from any address.

    No other certificate opens the port, an app's own neither, and a policy does not either. On
    61443 the certificate of a router opens nothing.
    """
    settings = {"router_ca": tmp_path / "routers.pem", "router_sans": (ROUTER,)}
    async with site(tmp_path, **settings) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b", ports="61001")
        anywhere = unique_address()
        contexts = {
            "router": showing_name(b, routers, ROUTER, tmp_path),
            "other name": showing_name(b, routers, "cell.service.internal", tmp_path),
            "other CA": showing_name(b, Authority(), ROUTER, tmp_path),
            "an app's": showing_identity(b, tmp_path),
            "none": tls_client.context(b.trust),
        }

        answers = {
            who: await asked_with(context, b, source, 61001) for who, context in contexts.items()
        }

        assert answers == {**dict.fromkeys(contexts), "router": 200}
        assert await asked_with(contexts["router"], b, anywhere, 61001) == 200
        assert await asked_with(contexts["router"], b, anywhere, 61443) is None
        async with tls_client.connect(
            b.address, b.guid, contexts["router"], port=61001, source=anywhere
        ) as connection:
            assert connection.leaf.names == (b.guid,)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_router_shows_its_certificate_in_each_handshake(
    tmp_path: Path, routers: Authority, version: ssl.TLSVersion
) -> None:
    """No session is resumed where a certificate is asked for: it may have ended meanwhile."""
    settings = {"router_ca": tmp_path / "routers.pem", "router_sans": (ROUTER,)}
    async with site(tmp_path, **settings) as cloud, cloud.run("app-b") as b:
        context = showing_name(b, routers, ROUTER, tmp_path)
        context.minimum_version = context.maximum_version = version

        def ask(session: ssl.SSLSession | None = None) -> tuple[ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection((b.address, 61001), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname=b.guid, session=session) as tls,
            ):
                tls.sendall(b"GET / HTTP/1.1\r\nHost: app-b\r\n\r\n")
                assert tls.recv(1 << 16)
                return tls.session, tls.session_reused

        session, _ = await asyncio.to_thread(ask)
        _, is_resumed = await asyncio.to_thread(ask, session)

        assert is_resumed is False


async def test_the_apps_own_port_is_closed_unless_the_operator_opens_it(tmp_path: Path) -> None:
    """Nothing listens on the instance's address and 8080, whatever policies say."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        source = await cloud.caller("app-b", ports="8080")

        with pytest.raises(ConnectionRefusedError):
            await strangers.is_closed_at_accept(b.address, source, 8080)


async def test_with_unproxied_ports_an_app_is_reached_in_plaintext(tmp_path: Path) -> None:
    """On its own port, by whom a policy names, and by nobody without or after it."""
    async with (
        site(tmp_path, unproxied_port_mappings=True) as cloud,
        cloud.run("app-b") as b,
    ):
        await cloud.create_app(CALLER)
        _, source = await cloud.register(CALLER)
        assert await strangers.is_closed_at_accept(b.address, source, 8080)
        assert b.app.connections == 0

        await cloud.allow(CALLER, "app-b", "8080")
        reader, writer = await asyncio.open_connection(b.address, 8080, local_addr=(source, 0))
        connection = tls_client.Connection(reader, writer)
        try:
            assert (await connection.request()).body == b"hello"
            assert not await strangers.sees_certificate(b.address, source, 61443)

            await cloud.forbid(CALLER, "app-b", "8080")
            assert await strangers.is_closed_at_accept(b.address, source, 8080)
            assert await strangers.ends(connection, 5)
        finally:
            writer.close()


@dataclass(slots=True)
class Datagrams(asyncio.DatagramProtocol):
    """One end of UDP: keeps what comes, and answers it if it is an app."""

    is_app: bool = False
    received: list[bytes] = field(default_factory=list)
    transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # always of datagrams
        """Remember where to answer."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Note it, and echo it."""
        self.received.append(data)
        if self.is_app and self.transport is not None:
            self.transport.sendto(b"echo " + data, addr)


@contextlib.asynccontextmanager
async def bound(address: str, port: int = 0, *, is_app: bool = False) -> AsyncIterator[Datagrams]:
    """Bind a UDP socket until the block ends."""
    loop = asyncio.get_running_loop()
    transport, end = await loop.create_datagram_endpoint(
        lambda: Datagrams(is_app), local_addr=(address, port)
    )
    try:
        yield end
    finally:
        transport.close()


async def test_udp_reaches_an_app_from_whom_a_policy_names(tmp_path: Path) -> None:
    """Both ways, however large, and nothing of anybody else, also after the policy is gone."""
    address = unique_address(8080)
    async with (
        site(tmp_path, unproxied_port_mappings=True) as cloud,
        apps.tcp_app(apps.http1(), address=address, port=8080) as app,
        bound(address, 8080, is_app=True) as server,
    ):
        await cloud.create_app("app-b")
        await cloud.create_app(CALLER)
        async with cloud.start("app-b", app) as b, contextlib.AsyncExitStack() as stack:
            _, allowed = await cloud.register(CALLER)
            friend, stranger = [
                await stack.enter_async_context(bound(each)) for each in (allowed, unique_address())
            ]

            async def say(end: Datagrams, text: bytes) -> None:
                assert end.transport is not None
                end.transport.sendto(text, (b.address, 8080))

            async def is_answered() -> bool:
                await say(stranger, b"stranger")
                await say(friend, b"friend")
                await asyncio.sleep(0.05)
                return bool(friend.received)

            await cloud.allow(CALLER, "app-b", "8080", protocol="udp")
            await until(is_answered, what="the app answers")
            assert set(server.received) == {b"friend"}
            assert set(friend.received) == {b"echo friend"}
            assert stranger.received == []

            large = bytes(60_000)
            await say(friend, large)

            async def has_come_back() -> bool:
                return friend.received[-1] == b"echo " + large

            await until(has_come_back, what="a large datagram comes back")

            await cloud.forbid(CALLER, "app-b", "8080", protocol="udp")
            await b.envoy.wait_for(
                lambda stats: stats["listener_manager.total_listeners_active"] == 3,
                what="the UDP listener is gone",
                prefix="listener_manager.total_listeners_active",
            )
            server.received.clear()
            await say(friend, b"late")
            await asyncio.sleep(0.2)
            assert server.received == []
