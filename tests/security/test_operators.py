"""The operator's API: a Unix socket for this machine, mTLS for others, and nobody else."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    inspection_pb2,
    inspection_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)
from control_plane.ca import make_csr, new_key_pair, read_certificate
from control_plane.server.access import operators
from tests.security.holders import (
    Holder,
    c2c_request,
    identity_request,
    issued,
    nobody,
    operator_request,
)
from tests.security.world import (
    ShiftedClock,
    Status,
    bystander,
    called,
    control_plane,
    enrol,
    facts,
    refused,
    told,
)
from tests.sidecar.platform import Platform

SLACK = 10.0
"""Seconds that a busy machine may need to issue a certificate."""

CREATE = app_pb2.CreateAppRequest(name="intruder").SerializeToString()
CALLS = {
    "/c2c.v1.AppService/CreateApp": CREATE,
    "/c2c.v1.AppService/ListApps": b"",
    "/c2c.v1.JoinTokenService/CreateJoinToken": b"",
    "/c2c.v1.JoinTokenService/ListJoinTokens": b"",
    "/c2c.v1.OperatorService/IssueOperatorCertificate": b"",
    "/c2c.v1.OperatorService/ListOperatorCertificates": b"",
    "/c2c.v1.OperatorService/RevokeOperatorCertificates": b"",
    "/c2c.v1.TrustService/GetTrustBundle": b"",
    "/c2c.v1.CertificateAuthorityService/ListCertificateAuthorities": b"",
    "/c2c.v1.CertificateAuthorityService/RetireCertificateAuthority": b"",
    "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus": b"",
    "/grpc.health.v1.Health/Check": b"",
}
STREAMS = (
    "/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.health.v1.Health/Watch",
)

Attacker = Callable[[Platform, Holder], Holder]
NOT_OPERATORS: dict[str, tuple[Attacker, Status]] = {
    "an instance": (
        lambda cf, victim: issued(cf, identity_request(cf, victim)),
        (
            grpc.StatusCode.PERMISSION_DENIED,
            "only an operator may do this, with an operator's certificate",
        ),
    ),
    "the certificate that an instance shows to other containers": (
        lambda cf, victim: issued(cf, c2c_request(cf, victim)),
        (
            grpc.StatusCode.UNAUTHENTICATED,
            "client certificate refused: it needs exactly one SPIFFE id and has 0 URIs",
        ),
    ),
}


async def stream_status(channel: grpc.aio.Channel, method: str) -> Status:
    """Open a stream by its path, say nothing on it, and return how it ends.

    A write that is under way when the stream ends would have gRPC report that instead.
    """
    open_: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call = open_()
    return await call.code(), await call.details() or ""


@pytest.mark.parametrize("who", NOT_OPERATORS)
async def test_only_an_operator_is_answered_on_the_admin_port(tmp_path: Path, who: str) -> None:
    """Whatever else our CA signed may call no method, health and reflection included."""
    make, status = NOT_OPERATORS[who]
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        before = facts(cf)
        intruder = make(cf, there.holder)
        with capture_logs() as lines:
            async with intruder.connect(cf.running.ports.admin_address) as channel:
                statuses = [
                    await refused(called(channel, method, body)) for method, body in CALLS.items()
                ]
                statuses += [await stream_status(channel, method) for method in STREAMS]

        assert statuses == [status] * (len(CALLS) + len(STREAMS))
        assert facts(cf) == before
        denied = told(lines, log_events.AUDIT_ACCESS_DENIED)
        assert [each["method"] for each in denied] == [*CALLS, *STREAMS]
        assert {each["reason"] for each in denied} == {status[1]}
        assert not told(lines, log_events.AUDIT_COMMAND)
        assert not told(lines, log_events.CALL_FAILED)


async def test_nothing_is_parsed_of_who_is_no_operator(tmp_path: Path) -> None:
    """Bytes that are no message are refused like any other, with a line in the audit log."""
    garbage = b"\xff\xff\xff"
    watch = "/c2c.v1.InspectionService/WatchEvents"
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        make, status = NOT_OPERATORS["an instance"]
        intruder = make(cf, there.holder)
        with capture_logs() as lines:
            async with intruder.connect(cf.running.ports.admin_address) as channel:
                statuses = [await refused(called(channel, method, garbage)) for method in CALLS]
                stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
                stream = channel.unary_stream(watch)
                statuses.append(await refused(anext(aiter(stream(garbage)))))

    assert statuses == [status] * (len(CALLS) + 1)
    denied = told(lines, log_events.AUDIT_ACCESS_DENIED)
    assert [each["method"] for each in denied] == [*CALLS, watch]


async def test_who_is_no_operator_is_refused_before_it_sends_anything(tmp_path: Path) -> None:
    """A call that waits for its request would hold a connection that operators need."""
    make, status = NOT_OPERATORS["an instance"]
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        intruder = make(cf, there.holder)
        async with intruder.connect(cf.running.ports.admin_address) as channel:
            calls: list[Any] = [
                channel.stream_unary("/c2c.v1.AppService/ListApps")(),
                channel.stream_stream("/c2c.v1.InspectionService/WatchEvents")(),
            ]
            async with asyncio.timeout(SLACK):
                ends = [(await call.code(), await call.details()) for call in calls]

    assert ends == [status] * len(calls)


async def test_a_defect_of_the_check_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller learns no more than that there is one, and the log has which."""

    def broken(_context: object, _validity: object) -> NoReturn:
        raise KeyError("defect")

    async with control_plane(tmp_path) as cf:
        alice = issued(cf, operator_request(cf))
        monkeypatch.setattr(operators, "require_operator", broken)
        with capture_logs() as lines:
            async with alice.connect(cf.running.ports.admin_address) as channel:
                status = await refused(called(channel, "/c2c.v1.AppService/ListApps"))

    assert status == (grpc.StatusCode.INTERNAL, "internal error")
    assert [each["method"] for each in told(lines, log_events.CALL_FAILED)] == [
        "/c2c.v1.AppService/ListApps"
    ]


async def test_an_operator_is_answered_and_named_in_the_audit_log(tmp_path: Path) -> None:
    """A certificate that the API itself issued opens it, and says who did what."""
    async with control_plane(tmp_path) as cf:
        key = new_key_pair()
        request = operator_pb2.IssueOperatorCertificateRequest(name="alice", csr=make_csr(key))
        with capture_logs() as lines:
            async with cf.operator() as channel:
                stub = operator_pb2_grpc.OperatorServiceStub(channel)
                answer = await stub.IssueOperatorCertificate(request)
        (line,) = told(lines, log_events.AUDIT_OPERATOR_CERT_ISSUED)
        leaf = read_certificate(answer.certificate)
        assert (line["operator"], line["serial"]) == ("alice", f"{leaf.serial:x}")
        assert line["not_after"] == leaf.not_after.isoformat()
        alice = Holder("", key, answer.certificate, answer.trust_bundle.encode())
        with capture_logs() as lines:
            async with alice.connect(cf.running.ports.admin_address) as channel:
                await app_pb2_grpc.AppServiceStub(channel).CreateApp(
                    app_pb2.CreateAppRequest(name="shop")
                )

        (line,) = told(lines, log_events.AUDIT_COMMAND)
        assert line["operator"] == "spiffe://c2c.internal/operator/alice"
        assert (line["method"], line["outcome"]) == ("CreateApp", "done")


async def test_an_operator_is_told_of_the_health_on_a_stream(tmp_path: Path) -> None:
    """Each message of a stream goes through the check, and on to who passes it."""
    async with control_plane(tmp_path) as cf:
        alice = issued(cf, operator_request(cf))
        async with alice.connect(cf.running.ports.admin_address) as channel:
            watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            watching = watch(b"")
            first = await watching.read()
            watching.cancel()

        assert isinstance(first, bytes)
        answer = health_pb2.HealthCheckResponse.FromString(first)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_a_method_that_is_none_is_told_as_such(tmp_path: Path) -> None:
    """To an operator of a newer release, whose calls go through the same check as all."""
    async with control_plane(tmp_path) as cf:
        alice = issued(cf, operator_request(cf))
        with capture_logs() as lines:
            async with alice.connect(cf.running.ports.admin_address) as channel:
                code, _ = await refused(called(channel, "/c2c.v1.AppService/OfTomorrow"))

        assert code is grpc.StatusCode.UNIMPLEMENTED
        assert not told(lines, log_events.AUDIT_ACCESS_DENIED)


async def test_an_operator_is_refused_once_the_certificate_has_ended(tmp_path: Path) -> None:
    """Also on a connection that was opened before: the handshake may be long ago."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        alice = issued(cf, operator_request(cf), lifetime=timedelta(hours=1))
        async with alice.connect(cf.running.ports.admin_address) as channel:
            await called(channel, "/c2c.v1.AppService/ListApps")
            clock.shift = timedelta(hours=2)
            code, details = await refused(called(channel, "/c2c.v1.AppService/ListApps"))

        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert details.startswith("client certificate ended at ")


async def test_an_operator_hears_nothing_once_the_certificate_has_ended(tmp_path: Path) -> None:
    """Also on a stream that was opened before, which would go on for as long as it is read."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        alice = issued(cf, operator_request(cf), lifetime=timedelta(hours=1))
        async with alice.connect(cf.running.ports.admin_address) as channel:
            stub = inspection_pb2_grpc.InspectionServiceStub(channel)
            call = stub.WatchEvents(inspection_pb2.WatchEventsRequest(kinds=["created"]))
            await call.initial_metadata()
            await cf.create_app("before")
            heard = await anext(aiter(call))
            clock.shift = timedelta(hours=2)
            await cf.create_app("after")
            code, details = await refused(anext(aiter(call)))

    assert heard.app == "before"
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert details.startswith("client certificate ended at ")


async def issue_for(cf: Platform, seconds: float) -> Holder:
    """Have the API issue an operator's certificate that lives so long."""
    key = new_key_pair()
    request = operator_pb2.IssueOperatorCertificateRequest(name="bob", csr=make_csr(key))
    request.ttl.FromTimedelta(timedelta(seconds=seconds))
    async with cf.operator() as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        answer = await stub.IssueOperatorCertificate(request)
    return Holder("", key, answer.certificate, answer.trust_bundle.encode())


async def test_no_operator_is_one_for_longer_than_90_days(tmp_path: Path) -> None:
    """A longer life is refused, as is one of no use."""
    most = 90 * 24 * 3600
    async with control_plane(tmp_path) as cf:
        for seconds in (59, most + 1):
            assert await refused(issue_for(cf, seconds)) == (
                grpc.StatusCode.INVALID_ARGUMENT,
                f"ttl must be 60 to {most} seconds, not {seconds}",
            )
        for seconds in (60, most):
            issued_at = ShiftedClock().now()
            made = read_certificate((await issue_for(cf, seconds)).chain)
            assert abs((made.not_after - issued_at).total_seconds() - seconds) < SLACK


async def test_the_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    """The Unix socket has mode 0600 in a directory of mode 0700."""
    async with control_plane(tmp_path) as cf:
        socket = cf.running.admin_socket

        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


async def test_each_port_has_its_own_services_only(tmp_path: Path) -> None:
    """Nothing of the operator's is served on xDS or enrolment, and none of them has reflection."""
    reflection = STREAMS[1]
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        instance = there.holder
        for holder, address, foreign in (
            (instance, cf.running.xds_address, "/c2c.v1.EnrollmentService/Enroll"),
            (nobody(cf), cf.running.enroll_address, "/c2c.v1.IdentityService/Renew"),
        ):
            async with holder.connect(address) as channel:
                codes = {
                    (await refused(called(channel, method)))[0] for method in (*CALLS, foreign)
                }
                codes.add((await stream_status(channel, reflection))[0])

            assert codes == {grpc.StatusCode.UNIMPLEMENTED}
        await enrol(cf, there.app, "127.0.0.10")
