"""Network policies on real Envoys: who may connect, who no longer may, and who notices nothing."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from control_plane.xds.resource_type import EXTENSION_CONFIG
from control_plane.xds.snapshot import EMPTY, Snapshot
from tests.e2e import strangers, traffic
from tests.e2e.site import CALLER, site
from tests.envoy import apps, http2
from tests.envoy.apps import Serve
from tests.envoy.harness import envoy_release, unique_address
from tests.promises import none_failed

MANAGER = "listener_manager"
DRAIN = 1
"""The drain time of the Envoys here, in seconds."""

PROTOCOLS = pytest.mark.parametrize(
    ("protocol", "serve"), [("http1", apps.http1()), ("tcp", apps.banner)], ids=["http1", "tcp"]
)


@PROTOCOLS
async def test_by_default_nobody_talks_to_anybody(
    tmp_path: Path, protocol: str, serve: Serve
) -> None:
    """Neither a stranger nor an instance of another app nor one of the same app.

    Closed at accept: one that is silent gets no byte, one that speaks TLS sees no certificate, and
    the app hears of no connection.
    """
    async with site(tmp_path) as cloud, cloud.run("app-b", serve, protocol=protocol) as b:
        await cloud.map("app-b", "app-b")
        await cloud.create_app(CALLER)
        _, neighbour = await cloud.register(CALLER)
        _, sibling = await cloud.register("app-b")
        for source in (unique_address(), neighbour, sibling):
            for port in (61443, 61001):
                assert await strangers.is_closed_at_accept(b.address, source, port)
                assert not await strangers.sees_certificate(b.address, source, port)

        assert b.app.connections == 0
        prefix = f"listener.{b.address}_61443.no_filter_chain_match"
        assert await b.envoy.stat(prefix) == 6


@PROTOCOLS
async def test_a_policy_lets_in_whom_it_names(tmp_path: Path, protocol: str, serve: Serve) -> None:
    """Once the call is answered, to the port that it names, and nobody else."""
    async with site(tmp_path) as cloud, cloud.run("app-b", serve, protocol=protocol) as b:
        await cloud.map("app-b", "app-b")
        source, stranger = await cloud.caller("app-b"), unique_address()

        async with b.connect("app-b", source) as connection:
            if protocol == "tcp":
                assert await connection.reader.readline() == b"220 ready\r\n"
            else:
                assert (await connection.request()).status == 200
        assert not await strangers.is_closed_at_accept(b.address, source)
        assert await strangers.is_closed_at_accept(b.address, stranger)
        assert not await strangers.sees_certificate(b.address, source, 61001)
        # Before Envoy 1.37 a tcp app hears of a client that says nothing as well.
        silent = int(protocol == "tcp" and envoy_release() < (1, 37))
        assert b.app.connections == 1 + silent


async def test_the_ports_of_a_range_are_open_and_no_others(tmp_path: Path) -> None:
    """61002 to 61003 of an app with three ports, each end included."""
    async with site(tmp_path) as cloud, cloud.run("app-b", ports=[8080, 9090, 9091, 9092]) as b:
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b", ports="61002-61003")

        seen = {
            port
            for port in (61443, 61001, 61002, 61003, 61004)
            if await strangers.sees_certificate(b.address, source, port)
        }

        assert seen == {61002, 61003}


async def test_the_instances_of_an_app_talk_under_a_policy_to_itself(tmp_path: Path) -> None:
    """A sibling may connect then; without it not even the instance itself reaches its app."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        _, sibling = await cloud.register("app-b")
        async with b.connect("app-b", b.address) as connection:
            # It may look at the certificate, which is how its sidecar proves what is served.
            assert (await connection.request()).status == 403
        assert b.app.connections == 0

        await cloud.allow("app-b", "app-b")

        assert await b.get("app-b", sibling) == 200
        assert await b.get("app-b", b.address) == 200


async def test_without_the_policy_the_next_request_is_refused(tmp_path: Path) -> None:
    """On HTTP/1.1 and HTTP/2 connections that are open; new ones are closed at accept.

    Another source's requests go on over the connection that it has.
    """
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b")
        await cloud.create_app("other")
        _, other = await cloud.register("other")
        await cloud.allow("other", "app-b")
        async with (
            b.connect("app-b", source) as one,
            b.connect("app-b", source, alpn=("h2",)) as two,
            traffic.kept_alive(b, "app-b", other) as others,
        ):
            client = http2.Client(two)
            assert (await one.request()).status == 200
            assert (await client.request()).status == 200

            await cloud.forbid(CALLER, "app-b")

            assert (await one.request()).status == 403
            assert (await client.request()).status == 403
            assert await strangers.is_closed_at_accept(b.address, source)
            assert await strangers.ends(one, 5 * DRAIN)
            await others.more(20)

        none_failed(others)
        assert await b.envoy.stat(f"{MANAGER}.total_listeners_draining") == 0


async def test_without_the_policy_open_streams_end_with_the_drain_time(tmp_path: Path) -> None:
    """A websocket has no next request: it is closed, and those of other sources are not."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b")
        await cloud.create_app("other")
        _, other = await cloud.register("other")
        await cloud.allow("other", "app-b")
        async with AsyncExitStack() as stack:
            ours, theirs = [
                await stack.enter_async_context(b.connect("app-b", address))
                for address in (source, other)
            ]
            upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAA"]
            for each in (ours, theirs):
                assert (await each.request(headers=upgrade)).status == 101

            await cloud.forbid(CALLER, "app-b")

            assert await strangers.ends(ours, 5 * DRAIN)
            theirs.writer.write(apps.websocket_frame("yes"))
            assert await theirs.reader.readexactly(5) == b"\x81\x03yes"


async def test_without_the_policy_a_tcp_connection_ends_with_the_drain_time(tmp_path: Path) -> None:
    """And a new one is closed at accept, while another source's goes on."""
    async with (
        site(tmp_path) as cloud,
        cloud.run("app-b", apps.banner, protocol="tcp") as b,
    ):
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b")
        await cloud.create_app("other")
        _, other = await cloud.register("other")
        await cloud.allow("other", "app-b")
        async with b.connect("app-b", source) as ours, b.connect("app-b", other) as theirs:
            for each in (ours, theirs):
                assert await each.reader.readline() == b"220 ready\r\n"

            await cloud.forbid(CALLER, "app-b")

            assert await strangers.is_closed_at_accept(b.address, source)
            assert await strangers.ends(ours, 5 * DRAIN)
            theirs.writer.write(b"still here\n")
            assert await theirs.reader.readline() == b"echo still here\n"


async def test_a_source_app_scales_and_nobody_else_notices(tmp_path: Path) -> None:
    """From 1 instance to 50 and back: each may call while it exists, by itself, and not after.

    Requests of another app go on over one connection, and over new ones.
    """
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        steady = await cloud.caller("app-b")
        await cloud.create_app("app-a")
        await cloud.allow("app-a", "app-b")
        async with (
            traffic.kept_alive(b, "app-b", steady) as kept,
            traffic.fresh_requests(b, "app-b", steady) as fresh,
        ):
            instances = [await cloud.register("app-a") for _ in range(50)]
            await cloud.settled("app-b")
            for _, address in instances:
                assert await b.get("app-b", address) == 200

            for guid, _ in instances[1:]:
                await cloud.remove(guid)
            await cloud.settled("app-b")
            assert await b.get("app-b", instances[0][1]) == 200
            for _, address in instances[1:]:
                assert not await strangers.sees_certificate(b.address, address)
            await kept.more(20)

        none_failed(kept, fresh)
        assert await b.envoy.stat(f"{MANAGER}.total_listeners_draining") == 0


async def test_an_instance_that_goes_stops_calling_and_its_siblings_go_on(tmp_path: Path) -> None:
    """Its next request is refused and it cannot connect; its app's other connections stay open."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        await cloud.create_app("app-a")
        (leaves, at), (_, sibling) = [await cloud.register("app-a") for _ in range(2)]
        await cloud.allow("app-a", "app-b")
        async with (
            b.connect("app-b", at) as ours,
            traffic.kept_alive(b, "app-b", sibling) as theirs,
        ):
            assert (await ours.request()).status == 200

            await cloud.remove(leaves)
            await cloud.settled("app-b")

            assert (await ours.request()).status == 403
            assert await strangers.is_closed_at_accept(b.address, at)
            await theirs.more(20)

        none_failed(theirs)


async def test_a_filter_that_is_withheld_closes_http(tmp_path: Path) -> None:
    """A source that the listener is told to admit, but no filter, is closed at accept still."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        nodes = cloud.core.nodes
        planned = nodes.set

        def without_filters(node_id: str, snapshot: Snapshot) -> None:
            planned(node_id, Snapshot({**snapshot.types, EXTENSION_CONFIG: EMPTY}))

        nodes.set = without_filters  # type: ignore[method-assign]  # the fault of this test
        source = await cloud.caller("app-b")

        assert await strangers.is_closed_at_accept(b.address, source)
        assert b.app.requests == []


async def test_a_destination_that_restarts_has_its_policies_and_routes(tmp_path: Path) -> None:
    """Another Envoy of the same instance lets in the same, and nobody else."""
    async with site(tmp_path) as cloud, AsyncExitStack() as stack:
        b = await stack.enter_async_context(cloud.run("app-b"))
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b")
        await b.envoy.stop()

        async with cloud.restarted(b) as again:
            assert await again.get("app-b", source) == 200
            assert await strangers.is_closed_at_accept(again.address, unique_address())


async def test_an_app_that_is_deleted_can_be_reached_no_more(tmp_path: Path) -> None:
    """Its ports are closed while its Envoy still runs."""
    async with site(tmp_path) as cloud, cloud.run("app-b") as b:
        await cloud.map("app-b", "app-b")
        source = await cloud.caller("app-b")
        assert await b.get("app-b", source) == 200

        await cloud.delete_app("app-b")
        await b.envoy.wait_for(
            # The last sockets are closed while listeners drain, after none counts as active.
            lambda stats: (
                stats.get(f"{MANAGER}.total_listeners_active")
                == stats.get(f"{MANAGER}.total_listeners_draining")
                == 0
            ),
            what="no listener is left",
            prefix=MANAGER,
        )

        with pytest.raises(ConnectionRefusedError):
            await b.get("app-b", source)
