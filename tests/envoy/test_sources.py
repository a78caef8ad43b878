"""Who may connect: strangers are refused when they connect, and changes disturb nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack

import pytest

from control_plane.envoy import rbac
from control_plane.model.entities import AppProtocol, Source
from control_plane.names import Address, AppGuid
from tests.envoy import ads as xds
from tests.envoy import apps, http2, tls_client
from tests.envoy.harness import C2C_PORT, unique_address, until
from tests.envoy.served import Served, served

HTTP1, TCP = AppProtocol.HTTP1, AppProtocol.TCP
MANAGER = "listener_manager"


async def _is_refused(instance: Served, source: str) -> bool:
    """Tell whether a client that connects and is silent is closed without a byte."""
    reader, writer = await asyncio.open_connection(
        instance.address, C2C_PORT, local_addr=(source, 0)
    )
    try:
        async with asyncio.timeout(2):
            return await reader.read() == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        writer.close()


async def _goes_on(connection: tls_client.Connection, protocol: AppProtocol) -> bool:
    """Tell whether a connection serves, and is not asked to end."""
    if protocol is TCP:
        connection.writer.write(b"on\n")
        return await connection.reader.readline() == b"echo on\n"
    answer = await connection.request()
    return answer.status == 200 and answer.header("connection") is None


async def _ends(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize("protocol", [HTTP1, TCP])
async def test_a_stranger_is_closed_at_accept(protocol: AppProtocol) -> None:
    """No TLS, no certificate, no byte of the app, and the app sees no connection."""
    friend, stranger = unique_address(), unique_address()
    serve = apps.banner if protocol is TCP else apps.http1()
    async with apps.tcp_app(serve) as app, served(app, protocol, sources=[friend]) as instance:
        assert await _is_refused(instance, stranger)
        assert app.connections == 0
        assert not await _is_refused(instance, friend)
        prefix = f"listener.{instance.address}_{C2C_PORT}"
        assert await instance.envoy.stat(f"{prefix}.no_filter_chain_match") == 1

        async with instance.connect(source=friend) as connection:
            if protocol is TCP:
                assert await connection.reader.readline() == b"220 ready\r\n"
            else:
                assert (await connection.request()).status == 200


@pytest.mark.parametrize("protocol", [HTTP1, TCP])
async def test_no_source_is_nobody(protocol: AppProtocol) -> None:
    """With no source at all the listener is accepted and its port closes every connection."""
    serve = apps.banner if protocol is TCP else apps.http1()
    async with apps.tcp_app(serve) as app, served(app, protocol, sources=[]) as instance:
        assert instance.ads.nacks == []
        assert await _is_refused(instance, unique_address())
        assert app.connections == 0


async def test_requests_are_denied_until_the_filter_says_otherwise() -> None:
    """The port opens with the filter, and answers 403 to whom it does not name, whatever he claims.

    An app that becomes an HTTP app has a listener with a filter that Envoy does not have yet.
    """
    friend = unique_address()
    async with apps.tcp_app(apps.http1()) as app, served(app, HTTP1, ready=False) as instance:
        await instance.put_cluster()
        await instance.put_secret()
        await instance.put_listener([friend])
        await instance.envoy.wait_for(
            lambda stats: stats.get(f"{MANAGER}.total_listeners_warming") == 1,
            what="the listener waits for its filter",
            prefix=MANAGER,
        )
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(instance.address, C2C_PORT, local_addr=(friend, 0))

        await instance.put_filter(friend, ["10.0.0.1"])
        await instance.wait_active()
        async with instance.connect(source=friend) as connection:
            forged = await connection.request(headers=["X-Forwarded-For: 10.0.0.1"])
            assert forged.status == 403
            await instance.put_filter(friend, [friend])
            assert (await connection.request()).status == 200

    assert len(app.requests) == 1


async def test_a_filter_that_is_removed_denies() -> None:
    """When the filter's resource goes away, the next request on an open connection gets 403."""
    friend = unique_address()
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1, sources=[friend]) as instance,
        instance.connect(source=friend) as connection,
    ):
        assert (await connection.request()).status == 200
        name = rbac.sources_filter_name(C2C_PORT, friend)
        await instance.ads.put(xds.EXTENSION_CONFIG, name, None)
        assert (await connection.request()).status == 403


async def test_a_source_that_goes_is_stopped_at_its_next_request() -> None:
    """On HTTP/1.1 and HTTP/2 connections that are open, the next request gets 403."""
    friend, other = unique_address(), unique_address()
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1, sources=[friend, other]) as instance,
        instance.connect(source=friend) as one,
        instance.connect(source=friend, alpn=("h2",)) as two,
        instance.connect(source=other) as others,
    ):
        client = http2.Client(two)
        assert (await one.request()).status == 200
        assert (await client.request()).status == 200

        await instance.put_filter(friend, [])

        assert (await one.request()).status == 403
        assert (await client.request()).status == 403
        assert (await others.request()).status == 200


async def test_a_source_that_goes_loses_its_connections_and_nobody_else_does() -> None:
    """Without its chain, a source is refused; its connections end with the drain time."""
    friend, other = unique_address(), unique_address()
    async with (
        apps.tcp_app(apps.banner) as app,
        served(app, TCP, sources=[friend, other]) as instance,
        instance.connect(source=friend) as connection,
        instance.connect(source=other) as others,
    ):
        for each in (connection, others):
            await each.reader.readline()

        await instance.put_listener([other])

        assert await _is_refused(instance, friend)
        await _ends(connection.reader)
        others.writer.write(b"still here\n")
        assert await others.reader.readline() == b"echo still here\n"
        stats = await instance.envoy.stats(MANAGER)
        assert stats[f"{MANAGER}.listener_in_place_updated"] == 1
        assert stats[f"{MANAGER}.total_listeners_draining"] == 0


async def test_sources_that_come_disturb_nobody() -> None:
    """From 1 source to 50: each new one is let in, and the first one's connection stays open."""
    sources = [unique_address() for _ in range(50)]
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1, sources=sources[:1]) as instance,
        instance.connect(source=sources[0]) as first,
    ):
        assert (await first.request()).status == 200
        for source in sources:
            await instance.put_filter(source, [source])
        await instance.put_listener(sources)

        async def probe() -> bool:
            return await instance.envoy.stat(f"{MANAGER}.listener_in_place_updated") == 1

        await until(probe, what="the listener is updated in place")
        for source in sources:
            async with instance.connect(source=source) as connection:
                assert (await connection.request()).status == 200
        answer = await first.request()
        assert answer.status == 200
        assert answer.header("connection") is None


@pytest.mark.parametrize("protocol", [HTTP1, TCP])
async def test_an_app_scales_and_none_of_its_connections_is_drained(protocol: AppProtocol) -> None:
    """Its instances come and go by the matcher alone, which costs Envoy no filter chain.

    Who has gone is closed at accept; what others have open outlives the drain time.
    """
    first, second, other = unique_address(), unique_address(), unique_address()
    serve = apps.banner if protocol is TCP else apps.http1()
    async with (
        apps.tcp_app(serve) as app,
        served(app, protocol, sources=[first, second, other]) as instance,
        AsyncExitStack() as stack,
    ):

        async def put(*addresses: str, others: tuple[str, ...] = (other,)) -> None:
            """Have the app's instances there, and wait until that is so."""
            updates = await instance.envoy.stat(f"{MANAGER}.listener_in_place_updated")
            source = Source(AppGuid("a"), tuple(map(Address, addresses)))
            await instance.put_listener([source, *others])
            await instance.envoy.wait_for(
                lambda stats: stats.get(f"{MANAGER}.listener_in_place_updated") == updates + 1,
                what="the listener is updated in place",
                prefix=MANAGER,
            )

        async def connected(source: str) -> tls_client.Connection:
            connection = await stack.enter_async_context(instance.connect(source=source))
            if protocol is TCP:
                assert await connection.reader.readline() == b"220 ready\r\n"
            assert await _goes_on(connection, protocol)
            return connection

        await instance.put_filter("a", [first, second])
        await put(first)
        one, witness = await connected(first), await connected(other)
        await put(first, second)
        two = await connected(second)
        await put(second)
        await put(second, others=())
        await _ends(witness.reader)  # so the drain time of the changes before is over

        assert await _goes_on(one, protocol)
        assert await _goes_on(two, protocol)
        assert await _is_refused(instance, first)
        assert not await _is_refused(instance, second)


async def test_a_websocket_ends_with_its_source() -> None:
    """A websocket is no longer a request that a filter could deny; the drain time ends it."""
    friend = unique_address()
    async with (
        apps.tcp_app(apps.http1()) as app,
        served(app, HTTP1, sources=[friend]) as instance,
        instance.connect(source=friend) as connection,
    ):
        answer = await connection.request(
            headers=["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAA"]
        )
        assert answer.status == 101
        await instance.put_filter(friend, [])
        connection.writer.write(apps.websocket_frame("one"))
        assert await connection.reader.readexactly(5) == b"\x81\x03one"

        await instance.put_listener([])

        await _ends(connection.reader)
