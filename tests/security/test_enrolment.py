"""Enrolment: what a join token is good for, and what a refused attempt leaves behind.

Nothing: the State is the same object as before, the token is as good as it was, and the audit log
has who tried.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, MutableMapping
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import (
    enrollment_pb2,
    enrollment_pb2_grpc,
    join_token_pb2,
    join_token_pb2_grpc,
    progress_pb2,
)
from control_plane.app.control_plane import DATABASE_FILE
from control_plane.ca import make_csr, new_key_pair, read_certificate
from control_plane.clock import SystemClock
from control_plane.model.apps import find_app
from control_plane.model.change import Decision
from control_plane.model.entities import Instance
from control_plane.model.instances import register_instance, remove_instance
from control_plane.model.spec import DEFAULT_ORG, DEFAULT_SPACE
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates import records
from control_plane.reconciler.certificates.holdings import IDENTITY
from control_plane.registry import Command
from control_plane.server.api.join_tokens import token_digest
from control_plane.server.sidecars import enrollment
from control_plane.settings import SocketAddress
from control_plane.sidecar import SidecarOptions
from control_plane.sidecar.enrolment import enrol as enrolling
from control_plane.sidecar.retry import Retry
from tests.faults.proxy import Pipe, none, proxy
from tests.security.applicants import applicant
from tests.security.holders import nobody
from tests.security.slow_disk import SlowDisk
from tests.security.test_addresses import connected, leave, moves
from tests.security.world import (
    ShiftedClock,
    bystander,
    control_plane,
    delete_app,
    enrol,
    refused,
    stream,
    told,
)
from tests.sidecar.platform import Platform
from tests.waiting import eventually

EMPTY = x509.Name([])


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    """Return a signing request for any key."""
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(EMPTY)
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def forged_csr() -> bytes:
    """Return a signing request whose signature was changed."""
    good = csr(ec.generate_private_key(ec.SECP256R1()))
    return good[:-1] + bytes([good[-1] ^ 1])


UNUSABLE = (
    "an instance cannot have an unspecified, multicast, broadcast, IPv6 link-local or scoped "
    "address: '0.0.0.0'"
)
OUT_OF_RANGE = (
    "an instance may enrol with the address that it connects from, 127.0.0.1, or one in the range "
    "of its token (c2c join-token --address-range), not '127.0.3.1'"
)
NOT_A_CSR = "not a certificate signing request (PKCS#10) in PEM or DER"

BAD: dict[str, tuple[Mapping[str, str | bytes], grpc.StatusCode, str]] = {
    "unknown token": (
        {"token": "c2cjt_" + "A" * 43},
        grpc.StatusCode.UNAUTHENTICATED,
        "join token is not known",
    ),
    "no token": ({"token": ""}, grpc.StatusCode.UNAUTHENTICATED, "join token is not known"),
    "no signing request": ({"csr": b""}, grpc.StatusCode.INVALID_ARGUMENT, NOT_A_CSR),
    "garbage": ({"csr": b"\x30\x82" + b"x" * 99}, grpc.StatusCode.INVALID_ARGUMENT, NOT_A_CSR),
    "forged": (
        {"csr": forged_csr()},
        grpc.StatusCode.INVALID_ARGUMENT,
        "certificate signing request is not signed by its own key",
    ),
    "RSA-1024": (
        {"csr": csr(rsa.generate_private_key(65537, 1024))},  # noqa: S505 - that is the point
        grpc.StatusCode.INVALID_ARGUMENT,
        "RSA key must have 2048 to 8192 bits, not 1024",
    ),
    "secp256k1": (
        {"csr": csr(ec.generate_private_key(ec.SECP256K1()))},
        grpc.StatusCode.INVALID_ARGUMENT,
        "elliptic curve must be P-256 or P-384, not secp256k1",
    ),
    "Ed25519": (
        {"csr": csr(ed25519.Ed25519PrivateKey.generate())},
        grpc.StatusCode.INVALID_ARGUMENT,
        "key must be P-256, P-384 or RSA",
    ),
    "oversize": (
        {"csr": bytes(17_000)},
        grpc.StatusCode.INVALID_ARGUMENT,
        "certificate signing request larger than 16384 bytes: 17000",
    ),
    "an address of somebody else": (
        {"address": "127.0.3.1"},
        grpc.StatusCode.PERMISSION_DENIED,
        OUT_OF_RANGE,
    ),
    "no address": (
        {"address": "app-b.apps.internal"},
        grpc.StatusCode.INVALID_ARGUMENT,
        "not an IP address: 'app-b.apps.internal'",
    ),
    "no address of the app": (
        {"app_address": "0.0.0.0"},
        grpc.StatusCode.INVALID_ARGUMENT,
        UNUSABLE,
    ),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_attempt_changes_nothing(tmp_path: Path, kind: str) -> None:
    """It is refused with a sentence that says why, and the token is still good after it."""
    fields, code, details = BAD[kind]
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)

        assert await somebody.is_refused(**fields) == (code, details)

        answer = await somebody.enrol()
        assert (answer.index, answer.address) == (0, "127.0.0.1")


async def test_an_instance_has_the_address_that_it_connects_from(tmp_path: Path) -> None:
    """As everybody writes it: one of IPv6 without brackets, one of IPv4 also where both come in."""
    async with control_plane(tmp_path, enroll_address=SocketAddress("::", 0)) as cf:
        await cf.create_app("app-b")
        port = cf.running.enroll_address.port
        for host in ("::1", "127.0.0.1"):
            token = (await cf.ticket("app-b")).token
            request = enrollment_pb2.EnrollRequest(token=token, csr=make_csr(new_key_pair()))
            async with nobody(cf).connect(SocketAddress(host, port)) as channel:
                stub = enrollment_pb2_grpc.EnrollmentServiceStub(channel)
                answer = await stub.Enroll(request)

            assert answer.address == host
            assert read_certificate(answer.certificate).san.ips == (host,)


async def test_who_has_an_identity_is_on_record_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the record tells after a kill until when an instance may come that never connected."""
    monkeypatch.setattr(records, "DELAY_SECONDS", 60)
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app")
        holder = await enrol(cf, "app", "127.0.0.1")

        with closing(sqlite3.connect(cf.settings.data_dir / DATABASE_FILE)) as database:
            found = database.execute(
                "SELECT instance_guid, secret, serial FROM issued_certificates"
            )
            assert found.fetchall() == [(holder.guid, IDENTITY, f"{holder.serial:x}")]


async def test_a_token_that_was_used_cannot_be_used_again(tmp_path: Path) -> None:
    """A replayed token enrols nobody; nor does the same request, once the instance has come."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        key = new_key_pair()
        answer = await somebody.enrol(csr=make_csr(key))
        holder = replace(nobody(cf, answer.instance_guid), chain=answer.certificate, key=key)
        spent = (grpc.StatusCode.UNAUTHENTICATED, "join token is used up: ask for a new one")

        assert await somebody.is_refused() == spent
        assert await somebody.is_refused(csr=make_csr(key), address="127.0.2.7") == spent
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)
            assert await somebody.is_refused(csr=make_csr(key)) == spent


async def test_who_was_not_answered_asks_again_and_is_who_it_was(tmp_path: Path) -> None:
    """The answer was lost, and the control plane was started again: no use of the token is."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        key = new_key_pair()
        lost = await somebody.enrol(csr=make_csr(key))
        before = cf.running.core.registry.state
        await cf.stop()
        await cf.start()
        with capture_logs() as lines:
            answer = await somebody.enrol(csr=make_csr(key))
        state = cf.running.core.registry.state

        assert (answer.instance_guid, answer.index) == (lost.instance_guid, 0)
        assert state.instances == before.instances
        assert state.tokens == before.tokens
        assert [line["again"] for line in told(lines, log_events.AUDIT_ENROLLED)] == [True]
        holder = replace(nobody(cf, answer.instance_guid), chain=answer.certificate, key=key)
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)


async def test_a_sidecar_whose_answer_was_lost_enrols_with_its_token(tmp_path: Path) -> None:
    """The connection broke while the control plane had done all of it."""
    async with (
        control_plane(tmp_path) as cf,
        proxy(cf.running.enroll_address) as between,
    ):
        await cf.create_app("app-b")
        ticket = await cf.ticket("app-b")
        options = SidecarOptions(
            server=between.address,
            token=ticket.token,
            fingerprint=ticket.fingerprint,
            directory=tmp_path / "sidecar",
        )

        async def fault(pipe: Pipe, data: bytes) -> None:
            if pipe.is_down and cf.running.core.registry.state.instances:
                between.fault = none
                raise ConnectionResetError
            await pipe.send(data)

        between.fault = fault
        membership = await enrolling.enrol(
            options, new_key=new_key_pair, retry=Retry(SystemClock(), lambda: 0.5)
        )

        assert between.broken == 1
        (instance,) = await cf.instances()
        assert instance.guid == membership.enrollment.instance_guid


async def test_who_gives_up_to_ask_again_undoes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instance may have the answer to its first request, and stays what that made it."""
    disk, asked = SlowDisk(), asyncio.Event()

    def digest(token: str) -> str:
        asked.set()
        return token_digest(token)

    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        request = make_csr(new_key_pair())
        first = await somebody.enrol(csr=request)
        registry = cf.running.core.registry
        before = registry.state
        with monkeypatch.context() as patch, capture_logs() as lines:
            disk.slows_down(patch)
            patch.setattr(enrollment, "token_digest", digest)
            other = asyncio.create_task(cf.create_app("app-c"))
            await disk.begun.wait()
            second = asyncio.create_task(somebody.enrol(csr=request))
            await asked.wait()
            await gives_up(second, lines)
            disk.go_on.set()
            await other
            await cf.create_app("app-d")  # after whatever else is to be written

        assert list(registry.state.instances) == [first.instance_guid]
        assert registry.state.tokens == before.tokens


async def test_nobody_becomes_an_instance_again_that_was_removed(tmp_path: Path) -> None:
    """The same request with another use of its token makes a new instance, and so does its like."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf, uses=3)
        request = make_csr(new_key_pair())
        first = await somebody.enrol(csr=request)
        await cf.remove(first.instance_guid)
        second = await somebody.enrol(csr=request)
        elsewhere = await somebody.enrol(csr=request, address="127.0.2.2")
        (token,) = cf.running.core.registry.state.all_tokens()

        guids = {each.instance_guid for each in (first, second, elsewhere)}
        assert len(guids) == 3
        assert token.uses_left == 0


async def gives_up(call: asyncio.Task[object], lines: list[MutableMapping[str, Any]]) -> None:
    """Cancel a call, and wait until the server knows that its caller left."""
    call.cancel()
    refusals = partial(told, lines, log_events.AUDIT_ENROLLMENT_REFUSED)
    await eventually(refusals, "the server knows that it left")


async def test_who_gave_up_and_is_back_at_once_finds_its_token_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while its first attempt is still being undone; and the token enrols one, as ever."""
    disk, back = SlowDisk(), asyncio.Event()

    def digest(token: str) -> str:
        back.set()
        return token_digest(token)

    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        registry = cf.running.core.registry
        (token,) = registry.state.all_tokens()
        with monkeypatch.context() as patch, capture_logs() as lines:
            disk.slows_down(patch)
            first = asyncio.create_task(somebody.enrol())
            await disk.begun.wait()
            await gives_up(first, lines)
            disk.begun.clear()
            disk.lets_one_pass()
            await disk.begun.wait()
            assert registry.state.instances
            patch.setattr(enrollment, "token_digest", digest)
            second = asyncio.create_task(somebody.enrol())
            await back.wait()
            disk.go_on.set()
            enrolled = await second
        (left,) = registry.state.all_tokens()

        assert list(registry.state.instances) == [enrolled.instance_guid]
        assert left == replace(token, uses_left=0)
        assert await somebody.is_refused(address="127.0.2.2") == (
            grpc.StatusCode.UNAUTHENTICATED,
            "join token is used up: ask for a new one",
        )


async def test_a_sidecar_that_was_not_answered_in_time_enrols_with_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was too slow for its first attempt, whose deadline both ends know."""
    disk = SlowDisk()
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        ticket = await cf.ticket("app-b")
        options = SidecarOptions(
            server=cf.running.enroll_address,
            token=ticket.token,
            fingerprint=ticket.fingerprint,
            directory=tmp_path / "sidecar",
        )
        with monkeypatch.context() as patch, capture_logs() as lines:
            patch.setattr(enrolling, "ENROL_SECONDS", 0.2)
            disk.slows_down(patch)
            retry = Retry(SystemClock(), lambda: 0.5)
            enrolment = asyncio.create_task(
                enrolling.enrol(options, new_key=new_key_pair, retry=retry)
            )
            await eventually(
                partial(told, lines, log_events.AUDIT_ENROLLMENT_REFUSED), "it was too slow"
            )
            patch.undo()
            disk.go_on.set()
            membership = await enrolment

        assert [each.guid for each in await cf.instances()] == [membership.enrollment.instance_guid]


async def test_a_token_is_good_for_its_uses_and_no_more(tmp_path: Path) -> None:
    """Of ten who come at the same moment with a token for three, three get in."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf, uses=3)
        outcomes = await asyncio.gather(
            *(somebody.enrol(address=f"127.0.2.{number}") for number in range(1, 11)),
            return_exceptions=True,
        )

        assert sum(not isinstance(each, BaseException) for each in outcomes) == 3
        assert len(await cf.instances_of("app-b")) == 3


async def test_a_token_ends(tmp_path: Path) -> None:
    """After its time it is worth nothing, by the clock of the server."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        clock.shift = timedelta(minutes=11)
        code, details = await somebody.is_refused()

        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert details.startswith("join token expired at ")


async def test_a_token_ends_with_its_app(tmp_path: Path) -> None:
    """A deleted app takes its tokens along, also where another of the same name follows."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        await delete_app(cf, "app-b")
        await cf.create_app("app-b")

        assert await somebody.is_refused() == (
            grpc.StatusCode.UNAUTHENTICATED,
            "join token is not known",
        )


async def test_a_token_that_is_revoked_is_worth_nothing(tmp_path: Path) -> None:
    """Also one with uses left; who enrolled with it stays, and the app can have new ones."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf, uses=2)
        await somebody.enrol()
        async with cf.operator() as channel:
            stub = join_token_pb2_grpc.JoinTokenServiceStub(channel)
            answer = await stub.RevokeJoinTokens(
                join_token_pb2.RevokeJoinTokensRequest(app="app-b")
            )

        assert answer.revoked == 1
        assert await somebody.is_refused() == (
            grpc.StatusCode.UNAUTHENTICATED,
            "join token is not known",
        )
        assert len(cf.running.core.registry.state.instances) == 1
        await (await applicant(cf)).enrol(address="127.0.2.2")


async def test_a_stranger_without_a_token_is_not_listened_to(tmp_path: Path) -> None:
    """Nothing else of a request is looked at before the token; its size is bounded anyway."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        somebody = await applicant(cf)

        assert await somebody.is_refused(token="wrong", csr=b"x", address="x") == (
            grpc.StatusCode.UNAUTHENTICATED,
            "join token is not known",
        )
        code, details = await refused(somebody.enrol(csr=bytes(100_000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "larger than max" in details


async def test_a_signing_request_says_nothing_but_its_key(tmp_path: Path) -> None:
    """Whatever names it asks for, the certificate has those of the instance that enrolled."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        somebody = await applicant(cf)
        victim = read_certificate(there.holder.chain).san
        names = [x509.UniformResourceIdentifier(each) for each in victim.uris]
        key = ec.generate_private_key(ec.SECP256R1())
        greedy = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")]))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        answer = await somebody.enrol(csr=greedy.public_bytes(Encoding.PEM))
        certificate = x509.load_pem_x509_certificate(answer.certificate)

        assert read_certificate(answer.certificate).san.uris == (
            f"spiffe://c2c.internal/app/{answer.app_guid}/instance/{answer.instance_guid}",
        )
        assert certificate.public_key() == key.public_key()
        assert not [e for e in certificate.extensions if isinstance(e.value, x509.BasicConstraints)]
        assert "root" not in certificate.subject.rfc4514_string()


async def test_an_instance_whose_certificate_no_client_would_take_is_refused(
    tmp_path: Path,
) -> None:
    """Names of an instance grow with its index, and the first that is too large stays out."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        await fill(cf, "a" * 50)
        await fill(cf, "b")
        somebody = await applicant(cf)
        registry = cf.running.core.registry
        await registry.execute(with_instances(1000))

        code, details = await somebody.is_refused()
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert details.startswith("with this the certificates of app 'app-b' would take ")

        await registry.execute(lambda state: remove_instance(state, InstanceGuid("instance-999")))
        assert (await somebody.enrol()).index == 999


async def test_who_returns_as_an_instance_whose_certificate_no_client_would_take_is_refused(
    tmp_path: Path,
) -> None:
    """It lost its address, and with that its index, which was lower."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        old = await enrol(cf, "app-b", "127.0.2.1")
        await leave(cf, old)
        await enrol(cf, "app-b", "127.0.2.1")
        await fill(cf, "a" * 50)
        await fill(cf, "b")
        registry = cf.running.core.registry
        await registry.execute(with_instances(999))

        code, details = await refused(moves(cf, old, "127.0.2.2"))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert details.startswith("with this the certificates of app 'app-b' would take ")
        assert registry.state.instance(InstanceGuid(old.guid)) is None

        await registry.execute(lambda state: remove_instance(state, InstanceGuid("instance-9")))
        await moves(cf, old, "127.0.2.2")
        assert registry.state.instances[InstanceGuid(old.guid)].index == 10


def with_instances(count: int) -> Command[Instance]:
    """Return a command that registers so many instances of app-b."""

    def register(state: State) -> Decision[Instance]:
        app = find_app(state, "app-b", DEFAULT_ORG, DEFAULT_SPACE).guid
        decision = register_instance(state, "instance-0", app, "10.0.0.0")
        for number in range(1, count):
            guid, address = f"instance-{number}", f"10.0.{number // 256}.{number % 256}"

            def another(
                state: State, _: Instance, guid: str = guid, address: str = address
            ) -> Decision[Instance]:
                return register_instance(state, guid, app, address)

            decision = decision.then(another)
        return decision

    return register


async def fill(cf: Platform, host: str) -> None:
    """Map routes to app-b until one would make its certificates too large."""
    for number in range(1000):
        try:
            await cf.map_route("app-b", f"{host}{number}", wait=progress_pb2.WAIT_COMMITTED)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.FAILED_PRECONDITION  # noqa: PT017 - any number
            return
    raise AssertionError
