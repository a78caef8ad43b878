"""Envoy as a client that comes back: to a server that was started again, or to another."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from control_plane.server.library import ResourceServer
from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.events import Unsubscribed
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LISTENER, ROUTE
from tests.envoy.harness import start_envoy, until
from tests.server.envoys import NODE, bootstrap, envoy_of, listener
from tests.server.test_envoy_client import (
    SCOPED,
    at_work,
    cluster,
    endpoints,
    has_scopes,
    routes,
    scope,
    service,
)
from tests.server.watching import Watcher
from tests.waiting import eventually

CHANGES = (
    "cluster_manager.cluster_modified",
    "cluster_manager.cluster_removed",
    "listener_manager.listener_modified",
    "listener_manager.listener_removed",
)

INLINE = {"route_config": {"name": "inline"}}


async def accepted(server: ResourceServer, count: int) -> None:
    """Return once the Envoy is back and has so many resources."""
    await eventually(
        lambda: [each.status for each in server.deliveries(NODE)] == count * [ConfigStatus.SYNCED],
        "Envoy accepted everything",
    )


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_an_envoy_that_comes_back_takes_the_difference(api_type: str) -> None:
    """C1, C2, C4, A3: what stayed is not disturbed, what went goes, and nothing hangs in warming.

    A cluster that changed meanwhile waits for its endpoints, which did not.
    """
    before = [*service("stays"), *service("changes"), *service("goes")]
    after = [*service("stays"), *service("changes", timeout="9s"), *service("comes")]
    server = ResourceServer()
    server.set_resources(NODE, before)
    async with AsyncExitStack() as stack:
        async with server:
            envoy = await stack.enter_async_context(envoy_of(server, api_type))
            await accepted(server, len(before))
            await at_work(envoy, 3)
        async with server:
            await accepted(server, len(before))
            stats = await envoy.stats()

            assert [stats[name] for name in CHANGES] == [0, 0, 0, 0]

        server.set_resources(NODE, after)
        async with server:
            await accepted(server, len(after))
            await at_work(envoy, 3)
            stats = await envoy.stats()

            assert [stats[name] for name in CHANGES] == [1, 1, 0, 1]
            assert [
                each for each in stats if each.endswith("update_rejected") and stats[each]
            ] == []


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_an_envoy_that_comes_back_is_sent_nothing_that_it_needs_no_more(
    api_type: str,
) -> None:
    """W1: in SotW it asks for each type that it once asked for, by no name if it needs nothing."""
    watcher = Watcher()
    server = ResourceServer()
    server.set_resources(NODE, service("a"))
    server.observe(watcher)
    async with AsyncExitStack() as stack:
        async with server:
            await stack.enter_async_context(envoy_of(server, api_type))
            await accepted(server, len(service("a")))
            server.set_resources(NODE, [routes("a"), endpoints("a")])
            given_up = {Unsubscribed(url, frozenset({"a"})) for url in (ROUTE, ENDPOINT)}
            await eventually(
                lambda: all(each in watcher.events for each in given_up), "the Envoy let go"
            )
        watcher.replies.clear()
        server.set_resources(NODE, [routes("a"), endpoints("a"), listener("b", INLINE)])
        async with server:
            await accepted(server, 1)

            assert {each.type_url for each in watcher.replies} <= {CLUSTER, LISTENER}


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_an_envoy_that_comes_back_has_the_scopes_that_a_listener_needs(api_type: str) -> None:
    """O2, C3: it states the version of what it let go of, and would wait for the same for 15 s."""
    base = [cluster("a"), endpoints("a"), scope("1", "one", "a")]
    scoped = [*base, routes("a"), listener("a", SCOPED)]
    plain = [*base, listener("a", {"route_config": {"name": "its own"}})]
    server, watcher = ResourceServer(), Watcher()
    server.observe(watcher)
    server.set_resources(NODE, scoped)
    async with AsyncExitStack() as stack:
        async with server:
            envoy = await stack.enter_async_context(envoy_of(server, api_type))
            await until(lambda: has_scopes(envoy, "one"), what="the scope is there")
            await accepted(server, len(scoped))
            server.set_resources(NODE, plain)
            await eventually(
                lambda: Unsubscribed(ROUTE, frozenset({"a"})) in watcher.events,
                "the listener that had scopes is gone",
            )
            await accepted(server, len(plain))
        async with server:
            await accepted(server, len(plain))
            server.set_resources(NODE, scoped)
            await until(lambda: has_scopes(envoy, "one"), what="the scope is back", timeout=10.0)
            await at_work(envoy, 1)
            await accepted(server, len(scoped))


def two_servers(first: ResourceServer, second: ResourceServer, api_type: str, admin: Path) -> str:
    """Return the bootstrap of an Envoy whose cluster for xDS has two endpoints."""
    fields = json.loads(bootstrap(first.address, api_type, admin))
    (cluster,) = fields["static_resources"]["clusters"]
    host, _, port = second.address.rpartition(":")
    at = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"].append({"endpoint": at})
    return json.dumps(fields)


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
async def test_an_envoy_that_moves_to_another_server_is_not_disturbed(api_type: str) -> None:
    """A3, K3: the same content has the same version there, and what changes is changed there."""
    resources = [*service("a"), *service("b")]
    servers = ResourceServer(), ResourceServer()
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(AsyncExitStack()) for _ in servers]
        for server, its in zip(servers, running, strict=True):
            await its.enter_async_context(server)
            server.set_resources(NODE, resources)
        boot = partial(two_servers, *servers, api_type)
        envoy = await stack.enter_async_context(start_envoy(boot))
        await eventually(lambda: any(each.deliveries(NODE) for each in servers), "Envoy asked")
        (used,) = [number for number, each in enumerate(servers) if each.deliveries(NODE)]
        other = servers[1 - used]
        await accepted(servers[used], len(resources))
        await at_work(envoy, 2)
        await running[used].aclose()
        await accepted(other, len(resources))
        stats = await envoy.stats()

        assert [stats[name] for name in CHANGES] == [0, 0, 0, 0]

        other.set_resources(NODE, service("a"))
        await accepted(other, len(service("a")))
        await at_work(envoy, 1)
