"""Calls without number: who makes them pays for it alone, and the disk does not."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import (
    enrollment_pb2,
    enrollment_pb2_grpc,
    identity_pb2,
    identity_pb2_grpc,
    sidecar_pb2,
    sidecar_pb2_grpc,
)
from control_plane.app import port_limits, ports
from control_plane.ca import make_csr, new_key_pair
from control_plane.names import shown
from control_plane.reconciler.membership.presence import WORDS_AT_ONCE, WORDS_PER_SECOND
from control_plane.server.access.refusals import LINES_PER_MINUTE
from control_plane.server.limits import ServerLimits
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import until
from tests.faults.plane import Plane, plane
from tests.inspection.test_metrics import values
from tests.security.applicants import applicant
from tests.security.holders import issued, nobody, operator_request
from tests.security.slow_disk import SlowDisk, fill_up
from tests.security.world import (
    ROTATION_SECONDS,
    bystander,
    called,
    control_plane,
    enrol,
    enroll_address,
    refused,
    refused_stream,
    renew,
    stream,
    told,
    xds_address,
)
from tests.sidecar.platform import Platform
from tests.xds_client import ADS, DeltaClient

MOST = ServerLimits().refused_enrollments_per_minute
CALLERS, CALLS = 8, 400
STREAMS = 3 * LINES_PER_MINUTE
SLACK = 10
"""Lines that a client may have while the test goes on: one each two seconds."""

METHODS = (
    f"{ADS}DeltaAggregatedResources",
    "/c2c.v1.IdentityService/Renew",
    f"{ADS}StreamAggregatedResources",
    "/c2c.v1.SidecarService/Report",
)
"""By turns one whose requests are a stream, and one that has a single one."""

STREAMS_OF_OPERATORS = (
    "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)

LONG = "x" * 60_000
TOO_OFTEN = (
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    "too many enrolments were refused lately: come again in a minute",
)


async def flood(cf: Platform, stop: asyncio.Event) -> Counter[grpc.StatusCode]:
    """Guess a token again and again on one connection until told to stop; return how it ended."""
    guesses = itertools.count()
    ends: Counter[grpc.StatusCode] = Counter()
    async with nobody(cf).connect(enroll_address(cf)) as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)

        async def call() -> None:
            while ends.total() < CALLS or not stop.is_set():
                token = f"c2cjt_guess-{next(guesses)}"
                request = enrollment_pb2.EnrollRequest(token=token, address=LONG)
                code, _ = await refused(stub.Enroll(request))
                ends[code] += 1

        await asyncio.gather(*(call() for _ in range(CALLERS)))
    return ends


async def _is(fact: bool) -> bool:  # noqa: FBT001 - as ``until`` asks
    return fact


async def _is_refused(cf: Plane) -> bool:
    return any(log_events.AUDIT_ENROLLMENT_REFUSED in line for line in cf.log)


async def test_strangers_without_number_cost_a_friend_and_the_disk_nothing(tmp_path: Path) -> None:
    """A good token enrols meanwhile, even from the same address, and the log stays short."""
    async with plane(tmp_path) as cf:
        await cf.create_app("app-b")
        ticket = await cf.ticket("app-b")
        before, began = len(cf.log), time.monotonic()
        stop = asyncio.Event()
        flooding = asyncio.create_task(flood(cf, stop))
        await until(lambda: _is_refused(cf), what="strangers are refused")
        async with asyncio.timeout(ROTATION_SECONDS):
            friend = await enrol(cf, "app-b", by=ticket)
        stop.set()
        ends = await flooding
        most = MOST + 1 + MOST * (time.monotonic() - began) / 60
        await cf.stop()
    lines = [json.loads(line) for line in cf.log[before:]]
    refusals = told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)
    limited = told(lines, log_events.AUDIT_ENROLLMENTS_LIMITED)

    assert [each["instance"] for each in told(lines, log_events.AUDIT_ENROLLED)] == [friend.guid]
    assert set(ends) == {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert MOST <= ends[grpc.StatusCode.UNAUTHENTICATED] == len(refusals) <= most
    assert sum(each["count"] for each in limited) == ends[grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert {who for each in limited for who in each["by"]} == {"127.0.0.1"}
    assert sum(map(len, cf.log[before:])) < most * 1000


async def test_a_stranger_cannot_send_much(tmp_path: Path) -> None:
    """More than any enrolment needs is not read, let alone parsed."""
    async with control_plane(tmp_path) as cf, nobody(cf).connect(enroll_address(cf)) as channel:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
        code, why = await refused(stub.Enroll(enrollment_pb2.EnrollRequest(csr=b"x" * (1 << 16))))

    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in why


async def test_what_is_logged_of_a_stranger_is_short(tmp_path: Path) -> None:
    """An address of 60,000 characters is quoted as far as anybody reads it."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        with capture_logs() as lines:
            await refused(somebody.enrol(token="guessed", address=LONG))

    (line,) = told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)
    assert line["address"] == shown(LONG)
    assert max(len(str(value)) for value in line.values()) < 100


async def test_a_token_that_fails_again_and_again_is_bounded_by_itself(tmp_path: Path) -> None:
    """Its requests are not parsed any more; another token enrols, and so does it in a while."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        clumsy, friend = await applicant(cf), await applicant(cf)
        for _ in range(MOST):
            code, _ = await clumsy.is_refused(csr=b"x")
            assert code is grpc.StatusCode.INVALID_ARGUMENT
        with capture_logs() as lines:
            assert await refused(clumsy.enrol(csr=b"x")) == TOO_OFTEN
            assert await refused(clumsy.enrol()) == TOO_OFTEN
        assert not told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)
        counted = await values(cf)

        assert counted["c2c_enrollments_refused_total{code=INVALID_ARGUMENT}"] == MOST
        assert counted["c2c_enrollments_refused_total{code=RESOURCE_EXHAUSTED}"] == 2
        assert (await friend.enrol()).index == 0


async def test_who_waits_for_an_address_locks_no_token_out(tmp_path: Path) -> None:
    """A refusal because the address is taken does not count against the token."""
    most = LINES_PER_MINUTE
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf, uses=2)
        await somebody.enrol(address="127.0.2.1")
        with capture_logs() as lines:
            for _ in range(MOST + most + 1):
                code, _ = await refused(somebody.enrol(address="127.0.2.1"))
                assert code is grpc.StatusCode.ALREADY_EXISTS

            assert (await somebody.enrol(address="127.0.2.2")).index == 1

    assert most <= len(told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)) <= most + SLACK


async def test_who_enrols_and_hangs_up_without_end_is_bounded_by_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token is limited like one that is refused, while others enrol."""
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        restless, friend = await applicant(cf, uses=1000), await applicant(cf)
        with capture_logs() as lines:
            with monkeypatch.context() as patch:
                disk.slows_down(patch)
                calls = [asyncio.create_task(restless.enrol())]
                await disk.begun.wait()
                calls += [asyncio.create_task(restless.enrol()) for _ in range(2 * MOST)]
                waiting = cf.running.core.registry._waiting
                await until(lambda: _is(len(waiting) == 2 * MOST), what="the others wait")
                for each in calls:
                    each.cancel()
                await until(
                    lambda: _is(len(told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)) >= MOST),
                    what="they are told",
                )
                disk.go_on.set()

            assert await refused(restless.enrol()) == TOO_OFTEN
            assert (await friend.enrol()).instance_guid

        assert MOST <= len(told(lines, log_events.AUDIT_ENROLLMENT_REFUSED)) <= MOST + SLACK
        assert not cf.running.core.registry.state.all_tombstones()


async def test_what_the_server_cannot_do_is_not_held_against_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often an enrolment fails for a full disk, it succeeds once there is room again."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        with monkeypatch.context() as patch:
            fill_up(patch)
            for _ in range(MOST + 1):
                code, _ = await somebody.is_refused()
                assert code is grpc.StatusCode.UNAVAILABLE

        assert (await somebody.enrol()).index == 0


@contextmanager
def limited(
    monkeypatch: pytest.MonkeyPatch,
    **limits: Any,  # noqa: ANN401 - any bound
) -> Iterator[None]:
    """Have control planes that start meanwhile grant this."""
    usual = port_limits.limits_of
    with monkeypatch.context() as patch:
        patch.setattr(ports, "limits_of", lambda settings: replace(usual(settings), **limits))
        yield


async def test_calls_whose_request_never_comes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are counted by certificate, whatever method and connection; and they end in time."""
    most, seconds = 6, 5.0
    with limited(monkeypatch, calls_per_client=most, first_request_seconds=seconds):
        async with control_plane(tmp_path) as cf, bystander(cf) as there, AsyncExitStack() as stack:
            await cf.create_app("app-b")
            greedy = await enrol(cf, "app-b", "127.0.2.1")
            calls = []
            for number in range(2 * most):
                channel = await stack.enter_async_context(greedy.connect(xds_address(cf)))
                call: Any = (channel.stream_unary if number % 2 else channel.stream_stream)(
                    METHODS[number % len(METHODS)]
                )()
                calls.append(call)
            await there.rotates()
            ends = Counter([(await call.code(), await call.details()) for call in calls])

    late = f"no request within {seconds:g} seconds of "
    too_many = (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        f"more than {most} calls of one client at a time",
    )
    assert ends.pop(too_many) == ends.total() == most
    assert {*ends} <= {
        (grpc.StatusCode.INVALID_ARGUMENT, f"{late}opening the stream"),
        (grpc.StatusCode.INVALID_ARGUMENT, f"{late}the call"),
    }


async def test_a_call_whose_request_never_comes_ends_on_every_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes it, and whether one request or response is awaited or several."""
    seconds = 0.5
    with limited(monkeypatch, first_request_seconds=seconds):
        async with control_plane(tmp_path) as cf, AsyncExitStack() as stack:
            enrolling, calling = nobody(cf), issued(cf, operator_request(cf))
            enrol_port = await stack.enter_async_context(enrolling.connect(enroll_address(cf)))
            admin_port = await stack.enter_async_context(
                calling.connect(cf.running.ports.admin_address)
            )
            socket = await stack.enter_async_context(cf.operator())
            calls: list[Any] = [enrol_port.stream_unary("/c2c.v1.EnrollmentService/Enroll")()]
            for each in (admin_port, socket):
                calls.append(each.stream_unary("/c2c.v1.AppService/ListApps")())
                calls.append(each.stream_stream("/c2c.v1.InspectionService/WatchEvents")())
                calls += [each.stream_stream(method)() for method in STREAMS_OF_OPERATORS]
            async with asyncio.timeout(SLACK):
                ends = [(await call.code(), await call.details()) for call in calls]

    late = f"no request within {seconds:g} seconds of the call"
    assert ends == [(grpc.StatusCode.INVALID_ARGUMENT, late)] * len(calls)


async def test_an_instance_that_calls_without_end_is_held_back_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many calls a minute, whatever they are for; what is beyond is a number in the log."""
    most = 20
    with capture_logs() as lines, limited(monkeypatch, new_calls_per_client_and_minute=most):
        async with control_plane(tmp_path) as cf, bystander(cf):
            await cf.create_app("app-b")
            greedy = await enrol(cf, "app-b", "127.0.2.1")
            async with greedy.connect(xds_address(cf)) as channel:
                stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
                ends = await asyncio.gather(
                    *(stub.Report(sidecar_pb2.ReportRequest()) for _ in range(2 * most)),
                    return_exceptions=True,
                )
    refusals = [each for each in ends if isinstance(each, grpc.aio.AioRpcError)]
    limited_streams = told(lines, log_events.AUDIT_STREAMS_LIMITED)

    assert most <= len(ends) - len(refusals) <= most + SLACK
    assert {each.code() for each in refusals} == {grpc.StatusCode.UNAVAILABLE}
    assert sum(each["count"] for each in limited_streams) == len(refusals)
    assert {greedy.guid in who for each in limited_streams for who in each["by"]} == {True}


async def test_an_instance_that_sends_without_end_is_read_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its octets are counted before they are read, on all its streams, and others are not held up.

    It is not sent away: an Envoy before 1.38 says everything about itself with each ACK.
    """
    with limited(monkeypatch, request_octets=100_000, request_octets_per_second=40_000):
        async with control_plane(tmp_path) as cf, bystander(cf) as there:
            await cf.create_app("app-b")
            greedy = await enrol(cf, "app-b", "127.0.2.1")
            ends, began = [], time.monotonic()
            for _ in range(4):
                async with stream(cf, greedy) as client:
                    await client.send_raw(b"\xff" * 40_000)
                    ends.append(await client.status())
            took = time.monotonic() - began
            await there.rotates()

    garbage = "40000 bytes that are no envoy.service.discovery.v3.DeltaDiscoveryRequest"
    assert ends == [(grpc.StatusCode.INVALID_ARGUMENT, garbage)] * 4
    assert took >= (4 * 40_000 - 100_000) / 40_000


async def test_an_instance_that_renews_without_end_is_held_back_alone(tmp_path: Path) -> None:
    """Of many renewals at once some are issued, the others are a number; nobody else waits."""
    most = ServerLimits().renewals_burst
    request = identity_pb2.RenewRequest(csr=make_csr(new_key_pair()))
    with capture_logs() as lines:
        async with control_plane(tmp_path) as cf, bystander(cf) as there:
            await cf.create_app("app-b")
            greedy = await enrol(cf, "app-b", "127.0.2.1")
            async with greedy.connect(cf.running.xds_address) as channel:
                stub = identity_pb2_grpc.IdentityServiceStub(channel)
                ends = await asyncio.gather(
                    *(stub.Renew(request) for _ in range(5 * most)), return_exceptions=True
                )
            await renew(cf, there.holder)
    refusals = [each for each in ends if isinstance(each, grpc.aio.AioRpcError)]
    issued = Counter(each["instance"] for each in told(lines, log_events.AUDIT_IDENTITY_RENEWED))
    limited = told(lines, log_events.AUDIT_RENEWALS_LIMITED)

    assert {(each.code(), each.details()) for each in refusals} == {
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "this instance renews too often: come again in a second",
        )
    }
    assert most <= len(ends) - len(refusals) == issued[greedy.guid] <= most + 5
    assert issued[there.holder.guid] == 1
    assert [(each["count"], each["by"]) for each in limited] == [(len(refusals), [greedy.guid])]


async def test_an_instance_that_changes_its_word_without_end_leaves_the_disk_to_others(
    tmp_path: Path,
) -> None:
    """Each change is a transaction, so the newest of many is written, and others wait for none."""
    async with control_plane(tmp_path) as cf, bystander(cf) as fickle:
        before, began = cf.running.core.registry.revision, time.monotonic()
        async with fickle.holder.connect(xds_address(cf)) as channel:
            stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
            for number in range(CALLS // 4):
                await stub.Report(sidecar_pb2.ReportRequest(listening=bool(number % 2)))
                await asyncio.sleep(0.005)  # in which it could be written
        written = cf.running.core.registry.revision - before

    # The first word says too that there is a sidecar.
    assert written <= WORDS_AT_ONCE + 2 + WORDS_PER_SECOND * (time.monotonic() - began)


async def test_an_instance_without_a_back_off_does_not_fill_the_log(tmp_path: Path) -> None:
    """Streams that are refused again and again are a number; nobody else's lines are missing."""
    with capture_logs() as lines:
        async with control_plane(tmp_path) as cf:
            await cf.create_app("app-b")
            greedy, other = await enrol(cf, "app-b"), await enrol(cf, "app-b", "127.0.2.1")
            async with greedy.connect(cf.running.xds_address) as channel:
                for _ in range(STREAMS):
                    async with DeltaClient(channel, greedy.guid) as client:
                        await client.send_raw(b"\xff")
                        await client.status()
            await refused_stream(cf, replace(other, guid="somebody-else"))
    refusals = [line for line in lines if line["event"] == log_events.STREAM_REFUSED]
    (limited,) = told(lines, log_events.AUDIT_STREAMS_LIMITED)

    assert len(refusals) <= LINES_PER_MINUTE + SLACK
    assert len(refusals) + limited["count"] == STREAMS + 1
    assert [greedy.guid in who for who in limited["by"]] == [True]
    assert refusals[-1]["node"] == "somebody-else"


async def test_an_instance_that_asks_for_names_without_end_does_not_fill_the_log(
    tmp_path: Path,
) -> None:
    """Each name that it has not is counted; only some of them have a line."""
    with capture_logs() as lines:
        async with control_plane(tmp_path) as cf, bystander(cf) as there:
            await cf.create_app("app-b")
            curious = await enrol(cf, "app-b", "127.0.2.1")
            async with stream(cf, curious) as client:
                for number in range(STREAMS):
                    await client.send(
                        type_url=SECRET,
                        resource_names_subscribe=[f"secret-{number}"],
                        resource_names_unsubscribe=[f"secret-{number - 1}"],
                    )
                await client.done_writing()
                await client.status()
            await there.rotates()
            denied = cf.running.core.observed.name_audit.denied
    told_of = told(lines, log_events.AUDIT_NAME_DENIED)
    (limited,) = told(lines, log_events.AUDIT_NAMES_LIMITED)

    assert denied == STREAMS == len(told_of) + limited["count"]
    assert len(told_of) <= LINES_PER_MINUTE + SLACK
    assert limited["by"] == [curious.guid]


async def test_an_instance_that_refuses_without_end_does_not_fill_the_log(tmp_path: Path) -> None:
    """A NACK answers a response, but whoever asks again gets another to refuse."""
    with capture_logs() as lines:
        async with control_plane(tmp_path) as cf:
            await cf.create_app("app-b")
            greedy = await enrol(cf, "app-b", "127.0.2.1")
            async with stream(cf, greedy) as client:
                for _ in range(STREAMS):
                    await client.subscribe(SECRET, "none")
                    await client.nack(await client.receive(), "x" * 4000)
                await client.done_writing()
                await client.status()
    nacks = [line for line in lines if line["event"] == log_events.XDS_NACKED]
    (limited,) = told(lines, log_events.AUDIT_NACKS_LIMITED)

    assert len(nacks) + limited["count"] == STREAMS
    assert len(nacks) <= LINES_PER_MINUTE + SLACK
    assert limited["by"] == [greedy.guid]


async def test_who_calls_the_admin_port_without_end_does_not_fill_the_log(tmp_path: Path) -> None:
    """An instance has a certificate of our CA, so that it gets through the handshake."""
    with capture_logs() as lines:
        async with control_plane(tmp_path) as cf:
            await cf.create_app("app-b")
            intruder = await enrol(cf, "app-b", "127.0.2.1")
            async with intruder.connect(cf.running.ports.admin_address) as channel:
                for _ in range(STREAMS):
                    code, _ = await refused(called(channel, "/c2c.v1.AppService/ListApps"))
                    assert code is grpc.StatusCode.PERMISSION_DENIED
    denied = told(lines, log_events.AUDIT_ACCESS_DENIED)
    (limited,) = told(lines, log_events.AUDIT_ACCESSES_LIMITED)

    assert len(denied) + limited["count"] == STREAMS
    assert len(denied) <= LINES_PER_MINUTE + SLACK
    assert [intruder.guid in who for who in limited["by"]] == [True]


async def test_who_uses_a_dead_identity_without_end_does_not_fill_the_log(tmp_path: Path) -> None:
    """That it was tried is in the audit log, and how often."""
    with capture_logs() as lines:
        async with control_plane(tmp_path) as cf:
            await cf.create_app("app-b")
            stolen = await enrol(cf, "app-b", "127.0.2.1")
            renewed = await renew(cf, stolen)
            await renew(cf, renewed)
            async with stolen.connect(cf.running.xds_address) as channel:
                stub = identity_pb2_grpc.IdentityServiceStub(channel)
                for _ in range(STREAMS):
                    await refused(stub.Renew(identity_pb2.RenewRequest()))
    told_of = told(lines, log_events.AUDIT_NODE_REFUSED)
    (limited,) = told(lines, log_events.AUDIT_NODES_LIMITED)

    assert len(told_of) + limited["count"] == STREAMS
    assert len(told_of) <= LINES_PER_MINUTE + SLACK
    assert [stolen.guid in who for who in limited["by"]] == [True]
