"""The whole service: from the control plane's table to the answer of a DNS client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from control_plane.clock import SystemClock
from control_plane.errors import ConfigurationError
from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.service import DEFAULT_LISTEN, DnsService
from tests.dns.control import INSTANCE, ControlPlane, control_plane_on
from tests.dns.upstream_stub import EXTERNAL, EXTERNAL_ADDRESS, upstream_on
from tests.dns.world import ADDRESSES, ANY_PORT, APP_B, PATIENCE
from tests.unit.sidecar_dns.tables import addresses_in
from tests.waiting import eventually


@asynccontextmanager
async def running(
    control: ControlPlane, directory: Path, *upstreams: SocketAddress
) -> AsyncIterator[DnsService]:
    """Run a service on a free port."""
    service = DnsService(
        INSTANCE,
        control.connect,
        saved=directory / "name-table",
        clock=SystemClock(),
        listen=ANY_PORT,
        upstreams=upstreams,
        resolv_conf=directory / "resolv.conf",
    )
    task = asyncio.create_task(service.run())
    try:
        await eventually(lambda: service.address.port > 0, "a port")
        yield service
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(service: DnsService, name: str) -> dns.message.Message:
    """Ask a service for the addresses of a name."""
    address = service.address
    query = dns.message.make_query(name, "A")
    return await dns.asyncquery.udp(query, address.host, port=address.port, timeout=PATIENCE)


async def test_names_come_from_the_control_plane_and_others_from_upstream(tmp_path: Path) -> None:
    """Internal names have the addresses of the table, others those that the resolver has."""
    async with control_plane_on() as control, upstream_on() as upstream:
        control.set({APP_B: ADDRESSES})
        async with running(control, tmp_path, upstream.address) as service:
            await service.ready()

            assert sorted(addresses_in(await ask(service, APP_B))) == ADDRESSES
            assert addresses_in(await ask(service, EXTERNAL)) == [EXTERNAL_ADDRESS]


async def test_once_it_is_acked_queries_are_answered_by_the_new_table(tmp_path: Path) -> None:
    """A query that is asked after the ACK never sees the table before, 50 times in a row."""
    async with control_plane_on() as control, running(control, tmp_path) as service:
        for number in range(1, 51):
            control.set({APP_B: [f"10.255.0.{number}"]})
            await control.acks(number)

            assert addresses_in(await ask(service, APP_B)) == [f"10.255.0.{number}"]


async def test_no_query_is_unanswered_while_the_control_plane_changes_the_table(
    tmp_path: Path,
) -> None:
    """During 100 changes every query is answered by one of the tables."""

    async def keep_asking() -> int:
        count = 0
        while len(control.acked) < 100:
            assert len(addresses_in(await ask(service, APP_B))) == 1
            count += 1
        return count

    async with control_plane_on() as control, running(control, tmp_path) as service:
        control.set({APP_B: ["10.255.0.1"]})
        await service.ready()
        async with asyncio.TaskGroup() as tasks:
            clients = [tasks.create_task(keep_asking()) for _ in range(4)]
            for number in range(2, 101):
                control.set({APP_B: [f"10.255.0.{number}"]})
                await control.acks(number)

    assert sum(client.result() for client in clients) > 100


async def test_without_a_table_it_is_not_ready(tmp_path: Path) -> None:
    """Until the first table it listens, tells clients to come again, and is not ready."""
    async with control_plane_on() as control, running(control, tmp_path) as service:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(service.ready(), 0.1)

        assert (await ask(service, APP_B)).rcode() == dns.rcode.SERVFAIL


async def test_a_saved_table_makes_it_ready_without_a_control_plane(tmp_path: Path) -> None:
    """A sidecar that starts again while the control plane is away answers at once."""
    async with control_plane_on() as control:
        control.set({APP_B: ADDRESSES})
        async with running(control, tmp_path) as service:
            await control.acks(1)
    async with running(control, tmp_path) as service:
        await asyncio.wait_for(service.ready(), PATIENCE)

        assert sorted(addresses_in(await ask(service, APP_B))) == ADDRESSES


async def test_the_address_must_be_had(tmp_path: Path) -> None:
    """An address that is taken ends the service with a sentence that says what to do."""
    async with control_plane_on() as control, running(control, tmp_path) as first:
        second = DnsService(
            INSTANCE,
            control.connect,
            saved=tmp_path / "name-table",
            clock=SystemClock(),
            listen=first.address,
        )
        with pytest.raises(ConfigurationError, match="another DNS server has this address"):
            await second.run()


async def test_it_can_be_run_again(tmp_path: Path) -> None:
    """A service that was stopped serves again when it is run again, on the port that it had."""
    async with control_plane_on() as control, running(control, tmp_path) as service:
        control.set({APP_B: ADDRESSES})
        await service.ready()
    task = asyncio.create_task(service.run())
    await asyncio.sleep(0)
    try:
        assert sorted(addresses_in(await ask(service, APP_B))) == ADDRESSES
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert service.name == "dns"


def test_it_listens_where_stubs_look_by_default() -> None:
    """Unless told otherwise it serves 127.0.0.1, port 53."""
    assert str(DEFAULT_LISTEN) == "127.0.0.1:53"
