"""An address belongs to one instance, until that one is gone for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import grpc
import pytest
import structlog

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    sidecar_pb2,
    sidecar_pb2_grpc,
)
from control_plane.ca import new_key_pair
from control_plane.clock import SystemClock
from control_plane.model.entities import InstanceStatus
from control_plane.names import Address, InstanceGuid
from control_plane.reconciler.membership import absences, farewells
from control_plane.settings import SocketAddress
from control_plane.sidecar.directory import Membership, SidecarDirectory
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.enrolment.join import Joining
from control_plane.sidecar.enrolment.renew import Renewal
from control_plane.sidecar.options import SidecarOptions, parse_fingerprint
from control_plane.sidecar.reports.app_ports import LivePorts
from control_plane.sidecar.reports.calls import ControlPlaneCalls
from control_plane.sidecar.reports.readiness import UNSEEN, Observation
from control_plane.sidecar.reports.report import Reporter
from control_plane.sidecar.retry import Retry
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import until
from tests.faults.proxy import proxy
from tests.security.applicants import Applicant, applicant
from tests.security.holders import Holder
from tests.security.slow_disk import SlowDisk
from tests.security.world import (
    C2C_SECRET,
    ShiftedClock,
    Status,
    bystander,
    control_plane,
    enrol,
    is_gone,
    refused,
    refused_stream,
    renew,
    stream,
    ticket,
    told,
    xds_address,
)
from tests.sidecar.platform import Platform
from tests.waiting import eventually
from tests.xds_client import DeltaClient


def held(address: str) -> Status:
    """Return how an enrolment with an address ends that somebody else has."""
    return (
        grpc.StatusCode.ALREADY_EXISTS,
        f"address '{address}' is held by another instance that is running or may come back",
    )


async def connected(cf: Platform, client: DeltaClient, holder: Holder) -> None:
    """Ask for a certificate, and wait until it is on the disk that the instance is there."""
    await client.subscribe(SECRET, C2C_SECRET)
    await client.ack(await client.receive())
    await has_status(cf, holder, InstanceStatus.READY)


async def has_status(cf: Platform, holder: Holder, status: InstanceStatus) -> None:
    """Wait until an instance is known to be where it is in its life."""

    async def probe() -> bool:
        instance = cf.running.core.registry.state.instance(InstanceGuid(holder.guid))
        return instance is not None and instance.status is status

    await until(probe, what=f"instance {holder.guid} is {status.value}")


async def moves(cf: Platform, holder: Holder, address: str) -> Holder:
    """Renew an identity from an address, as the sidecar does that finds itself there."""
    async with proxy(xds_address(cf), source=address) as way:
        return await renew(cf, holder, address, via=way.address)


async def where(cf: Platform) -> dict[str, str]:
    """Return the addresses of all instances, by their GUIDs."""
    return {each.guid: each.address for each in await cf.instances()}


async def leave(cf: Platform, holder: Holder) -> None:
    """Say that an instance leaves, as its sidecar does."""
    async with holder.connect(cf.running.xds_address) as channel:
        stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
        await stub.Report(sidecar_pb2.ReportRequest(leaving=True))


async def unheard(cf: Platform) -> tuple[Holder, Holder]:
    """Return two instances of 127.0.2.1 and 127.0.2.2 whose streams broke without a word."""
    await cf.create_app("app-b")
    one, other = [await enrol(cf, "app-b", each) for each in ("127.0.2.1", "127.0.2.2")]
    for each in (one, other):
        async with stream(cf, each) as client:
            await connected(cf, client, each)
        await is_gone(cf, each)
    return one, other


async def test_the_address_of_an_instance_that_runs_is_its_own(tmp_path: Path) -> None:
    """Nobody enrols with it, by a token of its app or of another."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        for app in ("app-b", there.app):
            somebody = Applicant(cf, await cf.ticket(app))

            assert await refused(somebody.enrol(address="127.0.0.9")) == held("127.0.0.9")
        assert len(await cf.instances_of(there.app)) == 1


@pytest.mark.parametrize("away", ["its stream broke", "the control plane was started again"])
async def test_the_address_of_an_instance_that_may_come_back_is_its_own(
    tmp_path: Path, away: str
) -> None:
    """Nobody gets it by being faster, and the holder comes back as if nothing had happened."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        await cf.create_app("app-c")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)
        await is_gone(cf, holder)
        if away == "the control plane was started again":
            await cf.stop()
            await cf.start()
        somebody = await applicant(cf, app="app-c")

        assert await somebody.is_refused(address="127.0.2.1") == held("127.0.2.1")
        async with stream(cf, holder) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            assert (await client.receive()).resources
        assert [each.guid for each in await cf.instances()] == [holder.guid]


async def test_the_address_of_an_instance_that_leaves_is_its_own_while_it_serves(
    tmp_path: Path,
) -> None:
    """Its Envoy still sends its clients away; whoever came now would be taken for it."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        somebody = await applicant(cf, app="app-b")
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)
            await leave(cf, holder)
            await has_status(cf, holder, InstanceStatus.GONE)

            assert await somebody.is_refused(address="127.0.2.1") == held("127.0.2.1")


async def test_the_address_of_an_instance_that_left_before_it_connected_passes_on(
    tmp_path: Path,
) -> None:
    """An app that ended at once, and its sidecar with it, makes nobody wait for its Envoy."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        somebody = await applicant(cf, app="app-b")

        assert await somebody.is_refused(address="127.0.2.1") == held("127.0.2.1")
        await leave(cf, holder)
        await somebody.enrol(address="127.0.2.1")
        assert [each.guid for each in await cf.instances()] != [holder.guid]


@pytest.mark.parametrize("how", ["it said that it leaves", "it did not come back in time"])
async def test_the_address_of_an_instance_that_is_gone_passes_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As soon as its end is known somebody else may have it, and it cannot come back there."""
    monkeypatch.setattr(farewells, "BOUND_SECONDS", 0.1)
    if how == "it did not come back in time":
        monkeypatch.setattr(absences, "GRACE_SECONDS", 0.1)
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        await cf.create_app("app-c")
        old = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, old) as client:
            await connected(cf, client, old)
            if how == "it said that it leaves":
                await leave(cf, old)
        await is_gone(cf, old)
        if how == "it did not come back in time":
            await has_status(cf, old, InstanceStatus.GONE)
        new = await enrol(cf, "app-c", "127.0.2.1")

        assert await refused_stream(cf, old) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "this instance was removed",
        )
        assert [each.guid for each in await cf.instances()] == [new.guid]


async def supplanted(cf: Platform) -> tuple[Holder, Holder]:
    """Return an instance that was away while another enrolled with its address, and that one."""
    await cf.create_app("app-b")
    await cf.create_app("app-c")
    old = await enrol(cf, "app-b", "127.0.2.1")
    async with stream(cf, old) as client:
        await connected(cf, client, old)
        await leave(cf, old)
    await is_gone(cf, old)
    return old, await enrol(cf, "app-c", "127.0.2.1")


async def test_who_lost_its_address_comes_back_with_another(tmp_path: Path) -> None:
    """Its identity is worth what it was, also to a control plane that was started again."""
    async with control_plane(tmp_path) as cf:
        old, new = await supplanted(cf)
        assert (await refused(renew(cf, old)))[0] is grpc.StatusCode.ALREADY_EXISTS
        await cf.stop()
        await cf.start()
        back = await moves(cf, old, "127.0.2.2")

        assert await where(cf) == {new.guid: "127.0.2.1", old.guid: "127.0.2.2"}
        async with stream(cf, back) as client:
            await connected(cf, client, back)


async def test_who_lost_its_address_has_it_again_once_it_is_free(tmp_path: Path) -> None:
    """As after an exchange of addresses, and the other may come back as well."""
    async with control_plane(tmp_path) as cf:
        old, new = await supplanted(cf)
        async with stream(cf, new) as client:
            await connected(cf, client, new)
            await leave(cf, new)
        await is_gone(cf, new)
        await renew(cf, old)
        assert await where(cf) == {old.guid: "127.0.2.1"}
        await moves(cf, new, "127.0.2.3")

        assert await where(cf) == {old.guid: "127.0.2.1", new.guid: "127.0.2.3"}


@pytest.mark.parametrize("how", ["its app is deleted", "it is removed"])
async def test_who_lost_its_address_does_not_come_back_from_a_removal(
    tmp_path: Path, how: str
) -> None:
    """Only these two make an identity worthless, and they do it whoever has the address."""
    async with control_plane(tmp_path) as cf:
        old, new = await supplanted(cf)
        async with cf.operator() as channel:
            apps = app_pb2_grpc.AppServiceStub(channel)
            instances = instance_pb2_grpc.InstanceServiceStub(channel)
            if how == "its app is deleted":
                app = (await apps.GetApp(app_pb2.GetAppRequest(app="app-b"))).app
                await apps.DeleteApp(app_pb2.DeleteAppRequest(app="app-b"))
                await apps.CreateApp(app_pb2.CreateAppRequest(name="app-b", guid=app.guid))
            else:
                request = instance_pb2.RemoveInstanceRequest(guid=old.guid)
                assert not (await instances.RemoveInstance(request)).already
                assert (await instances.RemoveInstance(request)).already

        code, _ = await refused(moves(cf, old, "127.0.2.2"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert await where(cf) == {new.guid: "127.0.2.1"}


@pytest.mark.parametrize("used", ["before it was away", "to come back"])
async def test_an_identity_that_was_replaced_brings_nobody_back(tmp_path: Path, used: str) -> None:
    """Who shows the older one has stolen it, and cannot become an instance that is away."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        stolen = await enrol(cf, "app-b", "127.0.2.1")
        old = await renew(cf, stolen)
        await leave(cf, old if used == "before it was away" else stolen)
        await enrol(cf, "app-b", "127.0.2.1")
        if used == "to come back":
            assert (await refused(renew(cf, old)))[0] is grpc.StatusCode.ALREADY_EXISTS

        code, _ = await refused(moves(cf, stolen, "127.0.2.2"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        await moves(cf, old, "127.0.2.2")


async def test_who_returns_and_hears_no_answer_is_known_by_the_identity_that_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else no CA would wait for it, and if it never came again, nobody would ever remove it."""
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf:
        old, _ = await supplanted(cf)
        core, guid = cf.running.core, InstanceGuid(old.guid)
        disk.slows_down(monkeypatch)
        returning = asyncio.ensure_future(moves(cf, old, "127.0.2.2"))
        await disk.begun.wait()
        returning.cancel()
        await asyncio.wait([returning])
        disk.go_on.set()
        await eventually(lambda: core.registry.state.instance(guid), "it is registered")

        known = core.holdings.identity(guid)
        assert known is not None
        assert known.serial == old.serial
        assert core.holdings.identity_ends(guid) is not None


async def test_identities_of_who_lost_its_address_are_forgotten_with_its_end(
    tmp_path: Path,
) -> None:
    """It may show one for as long as it may return, and nobody has to know it any more then."""
    async with control_plane(tmp_path) as cf:
        old, new = await supplanted(cf)
        core, guid = cf.running.core, InstanceGuid(old.guid)
        assert (await refused(renew(cf, old)))[0] is grpc.StatusCode.ALREADY_EXISTS
        await cf.remove(old.guid)

        assert not core.holdings.has_any(guid)
        assert core.holdings.identity_ends(guid) is None
        assert core.holdings.has_any(InstanceGuid(new.guid))


class _Nothing:
    """Stands for an instance of which nothing can be seen."""

    async def observe(self) -> Observation:
        """Return nothing."""
        return UNSEEN


@dataclass(frozen=True, slots=True)
class Stopped:
    """A sidecar that enrolled, and was stopped when another instance got its address.

    Attributes:
        guid: its instance.
        address: the address.
        holder: the other instance.
    """

    guid: InstanceGuid
    address: Address
    holder: Holder
    _options: SidecarOptions
    _directory: SidecarDirectory

    @classmethod
    async def begin(cls, cf: Platform, path: Path) -> Self:
        """Have it enrol, and be stopped."""
        await cf.create_app("app-b")
        by = await ticket(cf, "app-b", "127.0.2.0/24")
        options = SidecarOptions(
            server=cf.running.enroll_address,
            token=by.token,
            fingerprint=parse_fingerprint(by.fingerprint),
            address=Address("127.0.2.1"),
            directory=path,
        )
        directory = SidecarDirectory(path)
        member = await cls._join(options, directory)
        guid, identity = InstanceGuid(member.enrollment.instance_guid), member.credentials.identity
        await leave(cf, Holder(guid, identity.key, identity.chain_pem, cf.trust_bundle))
        address = identity.address
        holder = await enrol(cf, "app-b", address)
        again = replace(options, token="", fingerprint="")
        return cls(guid, address, holder, again, directory)

    async def start(self) -> Membership:
        """Start it again, without a token."""
        return await self._join(self._options, self._directory)

    async def start_alone(self) -> Membership:
        """Start it again while no control plane answers."""
        nobody = replace(self._options, server=SocketAddress("127.0.9.9", 9))
        return await self._join(nobody, self._directory)

    def services(self, member: Membership) -> tuple[Awaitable[None], ...]:
        """Return what it does as long as it runs: it reports, and renews its identity."""
        live = LiveCredentials(self._directory, member.credentials)
        ports = LivePorts(self._directory, member.enrollment)
        server = SocketAddress(self._options.server.host, member.enrollment.xds_port)
        clock, calls = SystemClock(), ControlPlaneCalls(server, live)
        return (
            Reporter(calls, live, ports, _Nothing(), clock=clock, draw=lambda: 0.0).run(),
            Renewal(server, live, new_key=new_key_pair, clock=clock, draw=lambda: 0.0).run(),
        )

    @staticmethod
    async def _join(options: SidecarOptions, directory: SidecarDirectory) -> Membership:
        retry = Retry(ShiftedClock(), lambda: 0.0)
        return await Joining(options, directory, retry=retry, new_key=new_key_pair).join()


async def test_a_sidecar_whose_address_was_given_away_waits_for_one(tmp_path: Path) -> None:
    """Envoy would be sent nothing; once nobody has the address, the sidecar needs no token."""
    async with control_plane(tmp_path) as cf:
        sidecar = await Stopped.begin(cf, tmp_path)
        with structlog.testing.capture_logs() as lines:
            joining = asyncio.create_task(sidecar.start())
            await eventually(lambda: told(lines, "sidecar.retrying"), "the sidecar waits")
            assert await where(cf) == {sidecar.holder.guid: sidecar.address}
            await leave(cf, sidecar.holder)
            back = await joining

        assert back.enrollment.instance_guid == sidecar.guid
        assert await where(cf) == {sidecar.guid: sidecar.address}


async def test_a_sidecar_whose_address_was_given_away_may_start_before_the_control_plane(
    tmp_path: Path,
) -> None:
    """As after a power cut; it hears of the loss with its first report, and comes back then."""
    async with control_plane(tmp_path) as cf:
        sidecar = await Stopped.begin(cf, tmp_path)
        await leave(cf, sidecar.holder)
        member, registry = await sidecar.start_alone(), cf.running.core.registry
        assert await where(cf) == {sidecar.holder.guid: sidecar.address}
        running = [asyncio.ensure_future(each) for each in sidecar.services(member)]
        try:
            await eventually(lambda: registry.state.instance(sidecar.guid), "it is back")
        finally:
            for each in running:
                each.cancel()
            await asyncio.wait(running)
        assert await where(cf) == {sidecar.guid: sidecar.address}


async def test_two_who_start_together_cannot_have_one_address(tmp_path: Path) -> None:
    """The second is refused, though the first has had no time to connect yet."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf, uses=2)
        outcomes = await asyncio.gather(
            *(somebody.enrol(address="127.0.2.1") for _ in range(2)), return_exceptions=True
        )
        (refusal,) = [each for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]

        assert refusal.code() is grpc.StatusCode.ALREADY_EXISTS
        assert len(await cf.instances_of("app-b")) == 1
        await somebody.enrol(address="127.0.2.2")


async def test_instances_that_exchange_addresses_stay_who_they_are(tmp_path: Path) -> None:
    """Containers that are started again may find that each has the address of another."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        addresses = ["127.0.2.1", "127.0.2.2", "127.0.2.3"]
        holders = [await enrol(cf, "app-b", address) for address in addresses]
        for each in holders:
            async with stream(cf, each) as client:
                await connected(cf, client, each)
                await leave(cf, each)
            await is_gone(cf, each)
            await has_status(cf, each, InstanceStatus.GONE)
        moved = dict(zip(holders, [*addresses[1:], addresses[0]], strict=True))
        renewed = [await moves(cf, holder, address) for holder, address in moved.items()]

        assert await where(cf) == {each.guid: address for each, address in moved.items()}
        for each in renewed:
            async with stream(cf, each) as client:
                await client.subscribe(SECRET, C2C_SECRET)
                assert (await client.receive()).resources


async def test_instances_that_exchange_addresses_unheard_do_not_wait_for_each_other(
    tmp_path: Path,
) -> None:
    """Who asks to move is where it was no more, though it never said that it leaves."""
    async with control_plane(tmp_path) as cf:
        one, other = await unheard(cf)
        code, _ = await refused(moves(cf, one, "127.0.2.2"))

        assert code is grpc.StatusCode.ALREADY_EXISTS
        await moves(cf, other, "127.0.2.1")
        await moves(cf, one, "127.0.2.2")
        assert await where(cf) == {one.guid: "127.0.2.2", other.guid: "127.0.2.1"}


async def test_who_is_back_at_its_address_keeps_it(tmp_path: Path) -> None:
    """That it asked to move once is forgotten with the next renewal where it was."""
    async with control_plane(tmp_path) as cf:
        one, other = await unheard(cf)
        await refused(moves(cf, one, "127.0.2.2"))
        await moves(cf, one, "127.0.2.1")
        code, _ = await refused(moves(cf, other, "127.0.2.1"))

        assert code is grpc.StatusCode.ALREADY_EXISTS
        assert await where(cf) == {one.guid: "127.0.2.1", other.guid: "127.0.2.2"}


async def test_who_asks_to_move_lets_in_nobody_else(tmp_path: Path) -> None:
    """Its address passes to an instance that comes from there, and to no new one."""
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)
        await is_gone(cf, holder)
        await refused(moves(cf, holder, "127.0.0.9"))
        somebody = await applicant(cf, app="app-b")

        assert await somebody.is_refused(address="127.0.2.1") == held("127.0.2.1")
        assert (await where(cf))[holder.guid] == "127.0.2.1"
