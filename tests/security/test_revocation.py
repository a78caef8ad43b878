"""Operators' certificates that are revoked, and others that were asked for with these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, timedelta
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import (
    app_pb2,
    inspection_pb2,
    inspection_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)
from control_plane.ca import Stage, make_csr, new_key_pair
from control_plane.server.access.operators import OperatorsOnly
from tests.security.holders import Holder, issued, operator_request
from tests.security.slow_disk import SlowDisk
from tests.security.test_ca_rotation import Operator, operator, stub_of
from tests.security.world import (
    ShiftedClock,
    called,
    control_plane,
    enrol,
    refused,
    renew,
    told,
)
from tests.sidecar.platform import Platform
from tests.slow_disk import Disk, busy
from tests.waiting import eventually

Stream = grpc.aio.StreamStreamCall[bytes, bytes]

LIST_APPS = "/c2c.v1.AppService/ListApps"
CREATE_APP = "/c2c.v1.AppService/CreateApp"
SERIAL_RULE = "a serial has 1 to 40 hexadecimal digits, such as 3f1d1a528c6e4a4b9b0e0f9a53c3f5a1"
NAME_RULE = "operator name must be letters, digits, '.', '-' and '_', other than '.' and '..'"
REVOKED = (
    grpc.StatusCode.UNAUTHENTICATED,
    "client certificate was revoked: connect with another one",
)


@asynccontextmanager
async def service(
    cf: Platform, by: Holder | None = None
) -> AsyncIterator[operator_pb2_grpc.OperatorServiceAsyncStub]:
    """Connect to the service as an operator, or on the socket."""
    if by is None:
        async with cf.operator() as channel:
            yield operator_pb2_grpc.OperatorServiceStub(channel)
    else:
        async with by.connect(cf.running.ports.admin_address) as channel:
            yield operator_pb2_grpc.OperatorServiceStub(channel)


async def issue_for(cf: Platform, name: str, by: Holder | None = None, days: int = 30) -> Holder:
    """Have an operator ask for a certificate for somebody."""
    key = new_key_pair()
    request = operator_pb2.IssueOperatorCertificateRequest(name=name, csr=make_csr(key))
    request.ttl.FromTimedelta(timedelta(days=days))
    async with service(cf, by) as stub:
        answer = await stub.IssueOperatorCertificate(request)
    return Holder("", key, answer.certificate, answer.trust_bundle.encode())


async def listed(cf: Platform) -> Sequence[operator_pb2.OperatorCertificate]:
    """Return what is on record."""
    async with service(cf) as stub:
        request = operator_pb2.ListOperatorCertificatesRequest()
        return (await stub.ListOperatorCertificates(request)).certificates


async def revoke(
    cf: Platform, *, name: str = "", serial: str = ""
) -> Sequence[operator_pb2.OperatorCertificate]:
    """Revoke on the socket, and return what was revoked."""
    async with service(cf) as stub:
        request = operator_pb2.RevokeOperatorCertificatesRequest(name=name, serial=serial)
        return (await stub.RevokeOperatorCertificates(request)).revoked


async def may_call(cf: Platform, holder: Holder) -> bool:
    """Tell whether somebody is let in, or is refused as revoked."""
    async with holder.connect(cf.running.ports.admin_address) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LIST_APPS)
        call = method(b"")
        code, details = await call.code(), await call.details()
    assert (code, details) in ((grpc.StatusCode.OK, ""), REVOKED)
    return code is grpc.StatusCode.OK


async def test_who_is_revoked_is_refused_from_the_next_call_on(tmp_path: Path) -> None:
    """Also on a connection that was opened before; everybody else works on."""
    async with control_plane(tmp_path) as cf:
        alice, dave = await issue_for(cf, "alice"), await issue_for(cf, "dave")
        async with alice.connect(cf.running.ports.admin_address) as channel:
            await called(channel, LIST_APPS)
            (gone,) = await revoke(cf, name="alice")
            assert await refused(called(channel, LIST_APPS)) == REVOKED

        assert (gone.name, gone.serial) == ("alice", f"{alice.serial:x}")
        assert not await may_call(cf, alice)
        assert await may_call(cf, dave)


async def test_a_call_that_was_opened_before_a_revocation_changes_nothing(tmp_path: Path) -> None:
    """Whoever holds its request back is judged by what holds when the request comes."""
    request = app_pb2.CreateAppRequest(name="late").SerializeToString()
    async with control_plane(tmp_path) as cf:
        alice = await issue_for(cf, "alice")
        async with alice.connect(cf.running.ports.admin_address) as channel:
            await called(channel, LIST_APPS)
            open_: grpc.aio.StreamUnaryMultiCallable[bytes, bytes]
            open_ = channel.stream_unary(CREATE_APP)
            call = open_()
            await called(channel, LIST_APPS)  # which the server answers after it met the other call
            await revoke(cf, name="alice")
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # it may have ended
                await call.write(request)
            end = await call.code(), await call.details()

        assert end == REVOKED
        assert not list(cf.running.core.registry.state.apps)


async def test_a_change_that_waits_behind_a_revocation_is_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was let in while the revocation was being written, and is none by its turn."""
    request = app_pb2.CreateAppRequest(name="late").SerializeToString()
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf:
        registry = cf.running.core.registry
        alice = await issue_for(cf, "alice")
        async with alice.connect(cf.running.ports.admin_address) as channel:
            await called(channel, LIST_APPS)
            disk.slows_down(monkeypatch)
            revoking = asyncio.ensure_future(revoke(cf, name="alice"))
            await disk.begun.wait()
            creating = asyncio.ensure_future(refused(called(channel, CREATE_APP, request)))
            await eventually(lambda: registry._waiting, "the change waits for its turn")
            disk.go_on.set()
            await revoking

            assert await creating == REVOKED
        assert not list(registry.state.apps)


async def test_a_ca_step_that_waits_behind_another_is_not_taken_for_a_former_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller was let in, and was revoked while the step before was being written."""
    disk = Disk.of(monkeypatch)
    async with control_plane(tmp_path) as cf, operator(cf) as local:
        rotation = cf.running.core.rotation
        alice = await issue_for(cf, "alice")
        async with alice.connect(cf.running.ports.admin_address) as channel:
            async with busy(disk, local.prepare()) as preparing:
                undoing = asyncio.ensure_future(
                    refused(Operator(cf, stub_of(channel)).undo_prepare())
                )
                await eventually(lambda: rotation._step._waiters, "the second step waits")
                await revoke(cf, name="alice")
            await preparing

            assert await undoing == REVOKED
        assert rotation.rotation.stage is Stage.PREPARED


async def test_who_is_revoked_hears_nothing_more(tmp_path: Path) -> None:
    """Also on a stream that was opened before."""
    async with control_plane(tmp_path) as cf:
        alice = await issue_for(cf, "alice")
        async with alice.connect(cf.running.ports.admin_address) as channel:
            stub = inspection_pb2_grpc.InspectionServiceStub(channel)
            call = stub.WatchEvents(inspection_pb2.WatchEventsRequest(kinds=["created"]))
            await call.initial_metadata()
            await cf.create_app("before")
            heard = await anext(aiter(call))
            await revoke(cf, name="alice")
            await cf.create_app("after")
            end = await refused(anext(aiter(call)))

    assert heard.app == "before"
    assert end == REVOKED


WATCHING = {
    "events": "/c2c.v1.InspectionService/WatchEvents",
    "health": "/grpc.health.v1.Health/Watch",
    "CSDS": "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus",
    "reflection": "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}
ONLY_CREATED = inspection_pb2.WatchEventsRequest(kinds=["created"]).SerializeToString()


@asynccontextmanager
async def idle(cf: Platform, holder: Holder, method: str) -> AsyncIterator[Stream]:
    """Open a stream on which all has been said, for now."""
    async with holder.connect(cf.running.ports.admin_address) as channel:
        open_: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        call = open_()
        if method == WATCHING["events"]:
            await call.write(ONLY_CREATED)
            await call.initial_metadata()
        else:
            await call.write(b"")
            await call.read()
        yield call


@pytest.mark.parametrize("what", WATCHING)
async def test_an_idle_stream_of_who_is_revoked_ends_at_once(tmp_path: Path, what: str) -> None:
    """Nobody has to say anything on it; the same stream of somebody else stays."""
    async with control_plane(tmp_path) as cf:
        alice, dave = await issue_for(cf, "alice"), await issue_for(cf, "dave")
        async with idle(cf, alice, WATCHING[what]) as gone, idle(cf, dave, WATCHING[what]) as stays:
            await revoke(cf, name="alice")

            assert (await gone.code(), await gone.details()) == REVOKED
            assert not stays.done()


async def test_an_idle_stream_ends_with_its_certificate(tmp_path: Path) -> None:
    """Its client is told so, as if it opened one now."""
    async with control_plane(tmp_path) as cf:
        alice = issued(cf, operator_request(cf), lifetime=timedelta(seconds=4))
        async with idle(cf, alice, WATCHING["events"]) as stream:
            code, details = await stream.code(), await stream.details()

    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert details.startswith("client certificate ended at ")


async def test_an_idle_stream_ends_with_the_ca_of_its_certificate(tmp_path: Path) -> None:
    """Whoever retires a CA, perhaps because its key leaked, need not wait for an event."""
    async with control_plane(tmp_path) as cf:
        alice = await issue_for(cf, "alice")
        async with idle(cf, alice, WATCHING["health"]) as stream:
            await cf.running.core.rotation.prepare("", "")
            await cf.running.core.rotation.activate(force=True)
            assert not stream.done()
            await cf.running.core.rotation.retire(force=True)
            code, details = await stream.code(), await stream.details()

    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert details.startswith("client certificate is of a CA that was retired: ")


async def test_an_idle_stream_ends_if_the_clock_is_set_past_its_certificate(tmp_path: Path) -> None:
    """A timer alone would notice neither that nor that the machine slept."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        alice = await issue_for(cf, "alice", days=1)
        async with idle(cf, alice, WATCHING["events"]) as stream:
            clock.shift = timedelta(days=2)
            code, details = await stream.code(), await stream.details()

    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert details.startswith("client certificate ended at ")


async def test_an_idle_stream_that_ends_too_early_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer may be ahead of the clock; an operator whose certificate is good is not refused."""
    async with control_plane(tmp_path) as cf:
        alice = await issue_for(cf, "alice")
        async with idle(cf, alice, WATCHING["events"]) as stream:
            monkeypatch.setattr(OperatorsOnly, "_end", lambda *_: 0.0)
            await issue_for(cf, "dave")
            end = await stream.code(), await stream.details()

    assert end == (grpc.StatusCode.UNAVAILABLE, "the client certificate ends: come back")


async def test_a_former_operator_is_none_under_any_name(tmp_path: Path) -> None:
    """What was asked for with a revoked certificate is revoked with it, and so on."""
    async with control_plane(tmp_path) as cf:
        alice = await issue_for(cf, "alice")
        second = await issue_for(cf, "innocent", by=alice)
        third = await issue_for(cf, "guiltless", by=second)
        dave = await issue_for(cf, "dave")
        by = {each.name: each.issued_by for each in await listed(cf)}
        with capture_logs() as lines:
            await revoke(cf, name="alice")
        there = [await may_call(cf, each) for each in (alice, second, third, dave)]

    assert by == {"alice": "", "innocent": "alice", "guiltless": "innocent", "dave": ""}
    assert there == [False, False, False, True]
    assert [
        (each["operator"], each["serial"])
        for each in told(lines, log_events.AUDIT_OPERATOR_CERT_REVOKED)
    ] == [
        ("alice", f"{alice.serial:x}"),
        ("guiltless", f"{third.serial:x}"),
        ("innocent", f"{second.serial:x}"),
    ]


async def test_who_poses_as_another_operator_is_told_apart(tmp_path: Path) -> None:
    """Any operator may have a certificate issued in any name, so the log has its serial too."""
    async with control_plane(tmp_path) as cf:
        alice, mallory = await issue_for(cf, "alice"), await issue_for(cf, "mallory")
        as_alice = await issue_for(cf, "alice", by=mallory)
        with capture_logs() as lines:
            for number, holder in enumerate((alice, as_alice)):
                request = app_pb2.CreateAppRequest(name=f"app-{number}").SerializeToString()
                async with holder.connect(cf.running.ports.admin_address) as channel:
                    await called(channel, CREATE_APP, request)
            await cf.create_app("local")
        commands = told(lines, log_events.AUDIT_COMMAND)

    assert len({each["operator"] for each in commands[:2]}) == 1
    assert [each["operator_serial"] for each in commands] == [
        f"{alice.serial:x}",
        f"{as_alice.serial:x}",
        "",
    ]


async def test_a_revocation_outlives_a_restart(tmp_path: Path) -> None:
    """It is on disk before it is answered, and so is a certificate before anybody has it."""
    async with control_plane(tmp_path) as cf:
        alice, dave = await issue_for(cf, "alice"), await issue_for(cf, "dave")
        await revoke(cf, serial=f"{alice.serial:x}")
        before = await listed(cf)
        await cf.stop()
        await cf.start()

        assert await listed(cf) == before
        assert [each.HasField("revoked_at") for each in before] == [True, False]
        assert not await may_call(cf, alice)
        assert await may_call(cf, dave)


async def test_a_certificate_that_is_on_no_record_can_be_revoked(tmp_path: Path) -> None:
    """As after the restore of a database that was copied before it was issued."""
    async with control_plane(tmp_path) as cf:
        stranger = issued(cf, operator_request(cf), lifetime=timedelta(days=90))
        assert await may_call(cf, stranger)
        octets = stranger.serial.to_bytes(16, "big")
        (gone,) = await revoke(cf, serial=octets.hex(":").upper())

        assert (gone.name, gone.serial) == ("", f"{stranger.serial:x}")
        assert not await may_call(cf, stranger)
        assert gone.expires_at.ToDatetime(UTC) == cf.running.core.authority.not_after


async def test_what_is_revoked_is_told_even_if_the_caller_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is made all the same, and nothing else says which certificates went with it."""
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf:
        alice = await issue_for(cf, "alice")
        bob = await issue_for(cf, "bob", by=alice)
        disk.slows_down(monkeypatch)
        with capture_logs() as lines:
            revoking = asyncio.ensure_future(revoke(cf, name="alice"))
            await disk.begun.wait()
            revoking.cancel()
            disk.go_on.set()
            await eventually(
                lambda: len(told(lines, log_events.AUDIT_OPERATOR_CERT_REVOKED)) == 2,
                "both certificates are told of",
            )
        assert not await may_call(cf, bob)


async def test_what_is_on_record_goes_with_its_end(tmp_path: Path) -> None:
    """Neither a list nor the database grows with each certificate, unless it was revoked."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        await issue_for(cf, "alice", days=1)
        clock.shift = timedelta(days=2)
        assert list(await listed(cf)) == []
        await issue_for(cf, "dave")

        known = cf.running.core.registry.state.operator_certificates.values()
        assert [each.name for each in known] == ["dave"]


async def test_a_clock_that_is_ahead_for_a_moment_lets_nobody_in_again(tmp_path: Path) -> None:
    """A certificate that is issued meanwhile has others forgotten, and no revocation."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        alice = await issue_for(cf, "alice")
        await revoke(cf, name="alice")
        clock.shift = timedelta(days=60)
        await issue_for(cf, "dave")
        clock.shift = timedelta()

        assert not await may_call(cf, alice)


async def test_only_an_operators_certificate_is_revoked(tmp_path: Path) -> None:
    """A serial that was mistaken for one of these cuts off no instance."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("shop")
        instance = await enrol(cf, "shop")
        await revoke(cf, serial=f"{instance.serial:x}")

        assert (await renew(cf, instance)).serial != instance.serial


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "either the name of a holder or a serial is needed"),
        ({"name": "alice", "serial": "1"}, "either the name of a holder or a serial is needed"),
        (
            {"name": "spiffe://c2c.internal/operator/alice"},
            f"{NAME_RULE}: 'spiffe://c2c.internal/operator/alice'",
        ),
        *(
            ({"serial": text}, f"{SERIAL_RULE}: '{text}'")
            for text in ("alice", "1" * 41, "-1", "0x1", "1:2", ":12", "12:")
        ),
    ],
)
async def test_what_is_no_name_and_no_serial_is_refused(
    tmp_path: Path, given: dict[str, str], sentence: str
) -> None:
    """With one sentence, and nothing is revoked."""
    async with control_plane(tmp_path) as cf:
        await issue_for(cf, "alice")
        before = cf.running.core.registry.state
        status = await refused(revoke(cf, **given))

        assert status == (grpc.StatusCode.INVALID_ARGUMENT, sentence)
        assert cf.running.core.registry.state is before
