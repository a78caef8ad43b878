"""The listener below HTTP: TLS, certificates that come and change over SDS, and plain TCP apps."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace

import pytest

from control_plane.envoy import secrets
from control_plane.model.entities import AppProtocol
from tests.envoy import ads as xds
from tests.envoy import apps, tls_client
from tests.envoy.harness import C2C_PORT, envoy_release
from tests.envoy.served import HOST, Served, served

HTTP1, TCP = AppProtocol.HTTP1, AppProtocol.TCP

after_the_handshake = pytest.mark.skipif(
    envoy_release() < (1, 37), reason="before Envoy 1.37 a tcp app is connected to at accept"
)


async def test_a_tcp_app_may_speak_first() -> None:
    """A client that has not said a word gets the app's banner; then bytes go both ways."""
    async with (
        apps.tcp_app(apps.banner) as app,
        served(app, TCP) as instance,
        instance.connect() as connection,
    ):
        assert await connection.reader.readline() == b"220 ready\r\n"
        connection.writer.write(b"hi\n")
        assert await connection.reader.readline() == b"echo hi\n"


async def test_a_tcp_app_has_no_alpn() -> None:
    """As Cloud Foundry has it: a client that offers h2 to a tcp app is promised nothing."""
    async with (
        apps.tcp_app(apps.banner) as app,
        served(app, TCP) as instance,
        instance.connect(alpn=("h2", "http/1.1")) as connection,
    ):
        assert connection.leaf.alpn is None


@after_the_handshake
async def test_a_tcp_app_hears_of_a_client_after_its_handshake() -> None:
    """A client that connects and never speaks TLS is no connection of the app's."""
    async with apps.tcp_app(apps.banner) as app, served(app, TCP) as instance:
        _, silent = await asyncio.open_connection(instance.address, C2C_PORT)
        async with instance.connect() as connection:
            assert await connection.reader.readline() == b"220 ready\r\n"
        silent.close()

    assert app.connections == 1


@after_the_handshake
async def test_a_tcp_app_that_is_down_closes_the_connection() -> None:
    """While nothing listens on the app's port, the handshake succeeds and the stream just ends."""
    async with apps.tcp_app(apps.banner) as app:
        pass
    async with served(app, TCP) as instance, instance.connect() as connection:
        assert await connection.reader.read() == b""


@pytest.mark.parametrize("protocol", [HTTP1, TCP])
async def test_an_app_that_is_too_busy_to_accept_is_waited_for(protocol: AppProtocol) -> None:
    """While its queue is full, Linux drops what comes and tries again; so no client gets an error.

    Without Envoy it is the client's Linux that does.
    """
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as queue,
        socket.create_connection(queue.getsockname()),
    ):
        busy = apps.App(port=queue.getsockname()[1])
        async with served(busy, protocol) as instance:
            request = asyncio.create_task(_get(instance))
            done, _ = await asyncio.wait({request}, timeout=0.5)
            assert not done

            async with apps.tcp_app(apps.http1(), sock=queue):
                assert await request == 200


async def _get(instance: Served) -> int:
    async with instance.connect() as connection:
        return (await connection.request()).status


async def test_more_connections_than_envoys_default_limit() -> None:
    """1,100 connections at once reach a tcp app; Envoy's own circuit breaker opens at 1,024."""
    async with apps.tcp_app(apps.banner) as app, served(app, TCP) as instance:
        context = tls_client.context(instance.authority.pem)
        writers = []
        for _ in range(1100):
            reader, writer = await asyncio.open_connection(
                instance.address, C2C_PORT, ssl=context, server_hostname=HOST
            )
            writers.append(writer)
            assert await reader.readline() == b"220 ready\r\n"

        assert app.connections == 1100
        for writer in writers:
            writer.transport.abort()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_versions_that_are_served(version: ssl.TLSVersion) -> None:
    """TLS 1.2 works with a P-256 certificate (Cloud Foundry's cipher list is RSA only), and 1.3."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1) as instance:
        context = tls_client.context(instance.authority.pem, maximum=version)
        leaf = await tls_client.handshake(instance.address, HOST, context)

    assert leaf.version == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]


async def test_older_tls_is_refused() -> None:
    """A client that knows TLS 1.1 at most gets the alert protocol_version."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1) as instance:
        hello = bytes.fromhex("16030200") + b"\x33" + bytes.fromhex("0100002f0302") + bytes(32)
        reader, writer = await asyncio.open_connection(instance.address, C2C_PORT)
        writer.write(hello + bytes.fromhex("00 0008 c009 c00a c013 c014 01 00"))
        alert = await reader.read(7)
        writer.close()

    assert alert[:1] == b"\x15"
    assert alert[-1] == 70


async def test_a_name_that_is_not_in_the_certificate_is_the_clients_to_refuse() -> None:
    """The client of these tests verifies the host name, so that the other tests prove something."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1) as instance:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await tls_client.handshake(
                instance.address, "other.apps.internal", instance.authority.pem
            )


async def test_the_port_opens_when_the_certificate_is_there() -> None:
    """Without its secret the port is closed, not open and failing; with it, it opens at once."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1, ready=False) as instance:
        await instance.put_cluster()
        await instance.put_listener()
        await instance.envoy.wait_for(
            lambda stats: stats.get("listener_manager.total_listeners_warming") == 1,
            what="the listener waits for its secret",
            prefix="listener_manager",
        )
        with pytest.raises(ConnectionRefusedError):
            await tls_client.handshake(instance.address, HOST, instance.authority.pem)

        serial = await instance.put_secret()

        await instance.wait_active()
        leaf = await tls_client.handshake(instance.address, HOST, instance.authority.pem)
        assert leaf.serial == serial


async def test_a_rotation_touches_no_listener_and_no_connection() -> None:
    """New handshakes show the new certificate; open connections and the listener do not notice."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as instance,
        instance.connect() as connection,
    ):
        old = connection.leaf.serial
        new = await instance.put_secret(HOST, "second.apps.internal")

        leaf = await tls_client.handshake(
            instance.address, "second.apps.internal", instance.authority.pem
        )
        assert leaf.serial == new != old
        assert (await connection.request()).status == 200
        manager = await instance.envoy.stats("listener_manager")
        assert manager["listener_manager.listener_modified"] == 0
        assert manager["listener_manager.listener_in_place_updated"] == 0


async def test_a_refused_secret_leaves_the_old_one() -> None:
    """A key that does not belong to its certificate is NACKed, and the old certificate served."""
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1) as instance:
        before = await tls_client.handshake(instance.address, HOST, instance.authority.pem)
        first, second = (instance.authority.issue(HOST) for _ in "12")
        mixed = secrets.C2C_SECRET, first.chain, second.key
        await instance.ads.put(xds.SECRET, secrets.C2C_SECRET, secrets.tls_secret(*mixed))

        assert "KEY_VALUES_MISMATCH" in instance.ads.nacks[0]
        assert before == await tls_client.handshake(instance.address, HOST, instance.authority.pem)


async def test_two_envoys_never_share_a_port() -> None:
    """The second Envoy on an address NACKs; the same bytes are served once the port is free."""
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1) as first,
        served(app, HTTP1, ready=False) as other,
    ):
        second = replace(other, address=first.address)
        await second.put_cluster()
        await second.put_secret()
        await second.put_listener()
        assert "cannot bind" in second.ads.nacks[0]

        await first.envoy.stop()
        await second.ads.put(xds.LISTENER, second.listener, None)
        await second.put_listener()

        await second.wait_active()
        async with second.connect() as connection:
            assert (await connection.request()).status == 200
