"""A network that fails between a real Envoy and the control plane: all converges, nothing stays."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from control_plane.envoy.bootstrap import AdsVariant
from control_plane.names import InstanceGuid
from control_plane.reconciler.membership import absences
from control_plane.settings import SocketAddress
from tests.e2e import traffic
from tests.e2e.site import (
    ACKED,
    CALLER,
    COMMITTED,
    Instance,
    Render,
    Site,
    Ticket,
    over_ads,
    site,
)
from tests.envoy.harness import until
from tests.faults import proxy as network
from tests.faults.leftovers import nothing_left
from tests.faults.proxy import Proxy, proxy
from tests.promises import none_failed

HOST = "app-b"
MODIFIED = "listener_manager.listener_modified"
VARIANTS = pytest.mark.parametrize("variant", list(AdsVariant), ids=["delta", "sotw"])
BACK_OFF = 60.0
"""Seconds in which Envoy has come back: its longest pause is 10, and the machine may be busy."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A site with one instance, whose Envoy reaches the control plane through a proxy."""

    cloud: Site
    instance: Instance
    net: Proxy
    source: str

    def streams(self) -> int:
        """Return how many streams the control plane has."""
        return len(self.cloud.core.nodes.all_streams())

    async def converges(self, host: str) -> None:
        """Return once the instance shows a certificate with a route that was mapped."""

        async def probe() -> bool:
            return f"{host}.apps.internal" in (await self.instance.serves()).names

        await until(probe, what=f"{host} is in the certificate", timeout=BACK_OFF)
        assert (await self.cloud.map(HOST, host, wait=ACKED)).complete


@contextlib.asynccontextmanager
async def scene(directory: Path, variant: AdsVariant = AdsVariant.DELTA) -> AsyncIterator[Scene]:
    """Run it all until the block ends; nothing may be left of its faults, nor of the instance."""
    async with (
        site(directory) as cloud,
        nothing_left(cloud.core.nodes.all_streams),
        proxy(_xds_address(cloud)) as net,
        cloud.run(HOST, render=_through(net, variant)) as instance,
    ):
        source = await cloud.caller(HOST)
        await cloud.map(HOST, HOST)
        async with nothing_left(cloud.core.nodes.all_streams):
            yield Scene(cloud, instance, net, source)
            net.fault = network.none


Fault = Callable[[Proxy], None]


def _cut(net: Proxy) -> None:
    net.cut()


def _reset(net: Proxy) -> None:
    net.reset()


def _trickle(net: Proxy) -> None:
    net.fault = network.trickle


def _delay(net: Proxy) -> None:
    net.fault = network.delay(0.2)


@VARIANTS
@pytest.mark.parametrize("fault", [_cut, _reset, _trickle, _delay])
async def test_changes_arrive_after_a_fault(
    tmp_path: Path, fault: Fault, variant: AdsVariant
) -> None:
    """What was mapped while the network failed is served once it works, and no request failed."""
    async with scene(tmp_path, variant) as here:
        modified = await here.instance.envoy.stat(MODIFIED)
        async with traffic.fresh_requests(here.instance, HOST, here.source) as calls:
            fault(here.net)
            await here.cloud.map(HOST, "meanwhile", wait=COMMITTED)
            await calls.more(20)
            here.net.fault = network.none
            await here.converges("meanwhile")

        none_failed(calls)
        assert here.streams() == 1
        assert await here.instance.envoy.stat(MODIFIED) == modified


@VARIANTS
@pytest.mark.parametrize("octets", [1_000, 4_000, 8_000])
async def test_a_reset_in_the_middle_of_a_message_does_no_harm(
    tmp_path: Path, octets: int, variant: AdsVariant
) -> None:
    """In the handshake, in the first response or in a later one: half a message is no message."""
    async with scene(tmp_path, variant) as here:
        async with traffic.fresh_requests(here.instance, HOST, here.source) as calls:
            here.net.fault = network.reset_after(octets)
            here.net.reset()

            async def has_broken() -> bool:
                return here.net.broken >= 2

            await until(has_broken, what="connections break", timeout=BACK_OFF)
            await here.cloud.map(HOST, "meanwhile", wait=COMMITTED)
            here.net.fault = network.none
            here.net.reset()
            await here.converges("meanwhile")

        none_failed(calls)
        assert here.streams() == 1


async def test_a_control_plane_that_refuses_connections_is_missed_by_nobody(tmp_path: Path) -> None:
    """As long as nobody answers, Envoy serves what it has; what changed meanwhile comes after."""
    async with scene(tmp_path) as here:
        serial = (await here.instance.serves()).serial
        here.net.is_refusing = True
        here.net.reset()
        async with traffic.fresh_requests(here.instance, HOST, here.source) as calls:
            tries = here.net.accepted

            async def has_tried() -> bool:
                return here.net.accepted >= tries + 3

            await until(has_tried, what="Envoy tries to connect", timeout=BACK_OFF)
            await here.cloud.map(HOST, "meanwhile", wait=COMMITTED)
            assert (await here.instance.serves()).serial == serial
            here.net.is_refusing = False
            await here.converges("meanwhile")

        none_failed(calls)


async def test_a_connection_that_breaks_again_and_again_leaves_nothing(tmp_path: Path) -> None:
    """Each break ends a stream; in the end there is one, and a change goes through it."""
    async with scene(tmp_path) as here:
        for _ in range(5):
            here.net.reset()
            opened = here.net.accepted

            async def is_back(opened: int = opened) -> bool:
                return here.net.accepted > opened and here.streams() == 1

            await until(is_back, what="Envoy is back", timeout=BACK_OFF)

        await here.cloud.map(HOST, "after", wait=COMMITTED)
        await here.converges("after")
        assert here.net.open_connections == 1


async def test_a_control_plane_that_was_cut_off_takes_nobody_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is back first goes on to let the others in, however long nobody was there."""
    monkeypatch.setattr(absences, "GRACE_SECONDS", 0.5)
    async with scene(tmp_path) as here, proxy(_xds_address(here.cloud)) as net:
        async with here.cloud.run(CALLER, render=_through(net)) as caller:
            await here.cloud.allow(CALLER, HOST)
            async with traffic.fresh_requests(here.instance, HOST, caller.address) as calls:
                for each in (here.net, net):
                    each.is_refusing = True
                    each.reset()

                async def is_long_ago() -> bool:
                    presence = here.cloud.core.presence
                    guids = map(InstanceGuid, (here.instance.guid, caller.guid))
                    return not any(presence.is_awaited(each) for each in guids)

                await until(is_long_ago, what="the grace of everybody is over")
                (alarm,) = await here.cloud.alarms()
                assert alarm.startswith("no Envoy is connected, and 2 instances that were")
                await here.cloud.map(HOST, "meanwhile", wait=COMMITTED)
                here.net.is_refusing = False
                await here.converges("meanwhile")
                await calls.more(20)
                assert here.streams() == 1
                net.is_refusing = False

                async def are_back() -> bool:
                    return here.streams() == 2

                await until(are_back, what="the other Envoy is back", timeout=BACK_OFF)
                assert not await here.cloud.alarms()

        none_failed(calls)


def _through(net: Proxy, variant: AdsVariant = AdsVariant.DELTA) -> Render:
    """Return what writes a bootstrap by which Envoy finds the control plane behind a proxy."""

    def render(ticket: Ticket, admin_socket: Path) -> str:
        return over_ads(variant)(replace(ticket, xds=net.address), admin_socket)

    return render


def _xds_address(cloud: Site) -> SocketAddress:
    assert cloud._plane is not None
    return cloud._plane.xds_address
