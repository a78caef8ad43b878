"""Envoy asks for virtual hosts as requests for them come in (VHDS)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from envoy.config.route.v3 import route_components_pb2, route_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from control_plane.server.library import ResourceServer
from control_plane.xds.resource_type import VIRTUAL_HOST
from tests.envoy.harness import unique_address, until
from tests.server.envoys import NODE, OVER_ADS, OVER_ITS_OWN, accepted, envoy_of, listener

PORT = 8080
PATIENCE = 10.0
"""Seconds that a request may take: a third less than Envoy waits for what it is never told."""


def entrance(name: str, address: str) -> Message:
    """Return a listener that lets requests wait for their virtual hosts."""
    return listener(name, at=(address, PORT), filters=["on_demand.v3.OnDemand"])


def routes(name: str, source: dict[str, Any], header: str = "x") -> Message:
    """Return routes without any virtual host of their own."""
    added = [{"header": {"key": header, "value": "1"}}]
    fields = {"name": name, "vhds": {"config_source": source}, "response_headers_to_add": added}
    message: Message = ParseDict(fields, route_pb2.RouteConfiguration())
    return message


def host(name: str, *domains: str, says: str) -> Message:
    """Return a virtual host that answers each request for its domains itself."""
    answer = {"status": 200, "body": {"inline_string": says}}
    fields = {
        "name": name,
        "domains": domains,
        "routes": [{"match": {"prefix": "/"}, "direct_response": answer}],
    }
    message: Message = ParseDict(fields, route_components_pb2.VirtualHost())
    return message


async def get(address: str, domain: str) -> str:
    """Return what the answer to a request for a domain says, or its status if that is not 200."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(address, PORT)
        try:
            writer.write(f"GET / HTTP/1.1\r\nHost: {domain}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            status = head.split(" ")[1]
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
            body = (await reader.readexactly(length)).decode()
        finally:
            writer.close()
    return body if status == "200" else status


async def says(address: str, domain: str, text: str) -> None:
    """Return once requests for a domain are answered like this."""

    async def probe() -> bool:
        return await get(address, domain) == text

    await until(probe, what=f"{domain} says {text}", timeout=PATIENCE)


def known(server: ResourceServer) -> set[str]:
    """Return the virtual hosts that the Envoy has."""
    found = server.deliveries(NODE)
    return {each.name for each in found if each.type_url == VIRTUAL_HOST and each.accepted}


@pytest.mark.parametrize(
    "source", [pytest.param(OVER_ADS, id="ads"), pytest.param(OVER_ITS_OWN, id="own-stream")]
)
async def test_a_request_brings_its_virtual_host(source: dict[str, Any]) -> None:
    """O1, W8, W13: an Envoy has the virtual hosts that requests were for, and those as they are.

    It starts at once although it is sent none of them, and answers 404 for one that is not there.
    """
    address = unique_address(PORT)
    base = [entrance("a", address), routes("a", source)]
    one, two = host("a/1", "one.test", "uno.test", says="1"), host("a/2", "two.test", says="2")
    async with ResourceServer() as server:
        server.set_resources(NODE, [*base, one, two])
        async with asyncio.timeout(PATIENCE), envoy_of(server, "DELTA_GRPC"):
            assert await get(address, "ONE.test") == "1"
            assert await get(address, "three.test") == "404"
            await accepted(server)
            assert known(server) == {"a/1"}

            three = host("a/3", "three.test", says="3")
            server.set_resources(NODE, [*base, one, two, three])
            await says(address, "three.test", "3")
            changed = host("a/1", "one.test", "uno.test", says="one")
            server.set_resources(NODE, [*base, changed, two, three])
            await says(address, "one.test", "one")
            assert await get(address, "uno.test") == "one"
            server.set_resources(NODE, [*base, two, three])
            await says(address, "one.test", "404")
            assert await get(address, "two.test") == "2"
            server.set_resources(NODE, [*base, one, two, three])
            await says(address, "one.test", "1")
            await accepted(server)
            assert known(server) == {"a/1", "a/2", "a/3"}


async def test_a_domain_moves_to_another_virtual_host() -> None:
    """W13, R5: the one that lost its last domain that was asked for is withdrawn by its name."""
    address = unique_address(PORT)
    base = [entrance("a", address), routes("a", OVER_ADS)]
    async with ResourceServer() as server:
        server.set_resources(NODE, [*base, host("a/1", "one.test", "uno.test", says="1")])
        async with envoy_of(server, "DELTA_GRPC") as envoy:
            assert await get(address, "one.test") == "1"
            moved = [host("a/1", "uno.test", says="1"), host("a/2", "one.test", says="2")]
            server.set_resources(NODE, [*base, *moved])
            await says(address, "one.test", "2")
            await accepted(server)
            assert known(server) == {"a/2"}
            assert await get(address, "uno.test") == "1"
            stats = await envoy.stats()

    assert [name for name in stats if name.endswith("update_rejected") and stats[name]] == []


async def test_routes_that_come_later_do_not_wait() -> None:
    """O1: an Envoy at work uses new routes, and changed ones, without waiting for 15 s."""
    first, second = unique_address(PORT), unique_address(PORT)
    base = [entrance("a", first), routes("a", OVER_ADS)]
    hosts = [host("a/1", "one.test", says="1"), host("b/1", "one.test", says="of b")]
    other = {**OVER_ADS, "initial_fetch_timeout": "60s"}
    async with ResourceServer() as server:
        server.set_resources(NODE, [*base, *hosts])
        async with asyncio.timeout(PATIENCE), envoy_of(server, "DELTA_GRPC") as envoy:
            assert await get(first, "one.test") == "1"
            server.set_resources(
                NODE, [*base, entrance("b", second), routes("b", OVER_ADS), *hosts]
            )
            await envoy.wait_for(
                lambda stats: stats["listener_manager.total_listeners_active"] == 2,
                what="the second listener is at work",
            )
            assert await get(second, "one.test") == "of b"
            server.set_resources(NODE, [entrance("a", first), routes("a", other), *hosts])
            await accepted(server)
            await says(first, "one.test", "1")
            server.set_resources(
                NODE, [entrance("a", first), routes("a", other), host("a/1", "one.test", says="!")]
            )
            await says(first, "one.test", "!")


async def test_an_envoy_that_comes_back_has_what_is_left() -> None:
    """C1, W13: it names what it asked for and states what it has, each by another name."""
    address = unique_address(PORT)
    base = [entrance("a", address), routes("a", OVER_ADS)]
    one, two = host("a/1", "one.test", says="1"), host("a/2", "two.test", says="2")
    async with AsyncExitStack() as envoys:
        async with ResourceServer() as server:
            server_at = server.address
            server.set_resources(NODE, [*base, one, two])
            await envoys.enter_async_context(envoy_of(server, "DELTA_GRPC"))
            assert await get(address, "one.test") == "1"
            assert await get(address, "two.test") == "2"
            assert await get(address, "three.test") == "404"
        async with ResourceServer(server_at) as server:
            three = host("a/3", "three.test", says="3")
            server.set_resources(NODE, [*base, two, three])
            await says(address, "one.test", "404")
            await says(address, "three.test", "3")
            assert await get(address, "two.test") == "2"
            await accepted(server)
            assert known(server) == {"a/2", "a/3"}
