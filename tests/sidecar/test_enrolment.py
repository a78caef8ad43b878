"""To whom a sidecar gives its token, and what it says when it is not taken."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import structlog

from control_plane.api.v1 import certificate_authority_pb2 as messages
from control_plane.api.v1 import (
    certificate_authority_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)
from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    Profile,
    ServerRequest,
    create_authority,
    issue,
    new_key_pair,
)
from control_plane.errors import ControlPlaneError, StorageError
from control_plane.names import SERVER_NAME, shown
from control_plane.server.status import end_call
from control_plane.settings import SocketAddress
from control_plane.sidecar.enrolment import enrol as enrolling
from control_plane.sidecar.enrolment.first_key import FILE
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.retry import Retry
from tests.envoy.harness import DEADLINE, unique_address, until
from tests.faults.proxy import Pipe, none, proxy
from tests.full_disk import need_full_disk, on_a_full_disk
from tests.installed import C2C_WORD
from tests.sidecar.platform import Platform, free_port
from tests.sidecar.process import Sidecar, Ticket, sidecar
from tests.sidecar.scene import scene
from tests.unit.ca.forge import ca_pem
from tests.unit.reconciler.clocks import ManualClock
from tests.waiting import eventually

TOKEN = "c2cjt_a-token-that-nobody-may-see"


def authority(name: str) -> Authority:
    """Return a new CA."""
    lifetime = timedelta(days=1)
    return create_authority(
        name, now=datetime.now(UTC), lifetime=lifetime, key=new_key_pair(), serial=1
    )


def server_pair(by: Authority, *names: str) -> tuple[bytes, bytes]:
    """Return key and certificate of a control plane, without the CA's own certificate."""
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, names or (SERVER_NAME,), ())
    leaf = issue(by, Profile(), request, key=new_key_pair, now=datetime.now(UTC), serial=2)
    return leaf.private_key_pem or b"", leaf.certificate_chain_pem.removesuffix(by.sent_pem)


@dataclass(slots=True)
class Recorder(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """An enrolment service that remembers who told it a token, and answers with a status.

    Attributes:
        callers: which address each said to have, and from which it called.
    """

    status: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED
    error: ControlPlaneError | None = None
    port: int = 0
    tokens: list[str] = field(default_factory=list)
    callers: list[tuple[str, str]] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def Enroll(
        self,
        request: enrollment_pb2.EnrollRequest,
        context: grpc.aio.ServicerContext[
            enrollment_pb2.EnrollRequest, enrollment_pb2.EnrollResponse
        ],
    ) -> enrollment_pb2.EnrollResponse:
        """Remember, and refuse."""
        self.tokens.append(request.token)
        self.callers.append((request.address, context.peer().rpartition(":")[0]))
        await self.may_answer.wait()
        if self.error is not None:
            await end_call(context, "Enroll", self.error)
        await context.abort(self.status, "join token is not known")


@asynccontextmanager
async def recorder(
    key: bytes, chain: bytes, status: grpc.StatusCode = grpc.StatusCode.UNAUTHENTICATED
) -> AsyncIterator[Recorder]:
    """Serve enrolment with this certificate until the block ends."""
    service = Recorder(status)
    service.may_answer.set()
    server = grpc.aio.server()
    enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(service, server)
    service.port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)])
    )
    await server.start()
    try:
        yield service
    finally:
        await server.stop(None)


def _said(instance: Sidecar) -> list[str]:
    """Return what it wrote for people."""
    return [line for line in instance.lines if not line.startswith("{")]


async def _refused(ticket: Ticket | None, directory: Path, *options: str) -> Sequence[str]:
    """Run a sidecar that has to give up, and return what it said."""
    async with sidecar(ticket, directory, *("--address", unique_address()), *options) as instance:
        assert await instance.ended() == 1
    assert TOKEN not in "\n".join([*instance.lines, *instance.output])
    return _said(instance)


async def test_a_server_with_another_fingerprint_gets_no_token(tmp_path: Path) -> None:
    """A server under another CA is refused before anything secret is sent."""
    ours, other = authority("ours"), authority("other")
    key, certificate = server_pair(other)
    async with recorder(key, certificate + ca_pem(other)) as service:
        ticket = Ticket(f"127.0.0.1:{service.port}", TOKEN, ours.fingerprint)
        (said,) = await _refused(ticket, tmp_path)

        assert said.endswith("it is another server, or the fingerprint is of another CA")
        assert ours.fingerprint in said
        assert service.tokens == []


async def test_a_server_that_shows_a_stolen_ca_certificate_gets_no_token(tmp_path: Path) -> None:
    """A CA's certificate is public: to show it is no proof of having been signed by it."""
    ours, other = authority("ours"), authority("other")
    key, certificate = server_pair(other)
    async with recorder(key, certificate + ca_pem(ours)) as service:
        ticket = Ticket(f"127.0.0.1:{service.port}", TOKEN, ours.fingerprint)
        (said,) = await _refused(ticket, tmp_path)

        assert "is not the control plane under the trusted CA" in said
        assert service.tokens == []


async def test_a_server_with_another_name_gets_no_token(tmp_path: Path) -> None:
    """An app's certificate is signed by the same CA, and makes nobody the control plane."""
    ours = authority("ours")
    key, certificate = server_pair(ours, "app-b.apps.internal")
    async with recorder(key, certificate + ca_pem(ours)) as service:
        ticket = Ticket(f"127.0.0.1:{service.port}", TOKEN, ours.fingerprint)
        (said,) = await _refused(ticket, tmp_path)

        assert "is not the control plane under the trusted CA" in said
        assert service.tokens == []


async def test_a_server_under_another_ca_file_gets_no_token(tmp_path: Path) -> None:
    """With a CA file the same holds as with a fingerprint."""
    ours, other = authority("ours"), authority("other")
    (tmp_path / "ours.pem").write_bytes(ca_pem(ours))
    key, certificate = server_pair(other)
    async with recorder(key, certificate + ca_pem(other)) as service:
        ticket = Ticket(f"127.0.0.1:{service.port}", TOKEN, "")
        options = ("--ca-file", str(tmp_path / "ours.pem"))
        (said,) = await _refused(ticket, tmp_path / "sidecar", *options)

        assert "is not the control plane under the trusted CA" in said
        assert service.tokens == []


async def test_the_right_server_gets_the_token_once(tmp_path: Path) -> None:
    """The proof that the others are refused for what they are; and a refusal is not repeated."""
    ours = authority("ours")
    key, certificate = server_pair(ours)
    async with recorder(key, certificate + ca_pem(ours)) as service:
        ticket = Ticket(f"127.0.0.1:{service.port}", TOKEN, ours.fingerprint)
        said = await _refused(ticket, tmp_path)

        assert said == ["Join token is not known"]
        assert service.tokens == [TOKEN]


async def test_an_address_that_is_still_held_is_tried_again(tmp_path: Path) -> None:
    """The control plane may not have noticed yet that the last holder is gone."""
    ours = authority("ours")
    key, certificate = server_pair(ours)
    chain = certificate + ca_pem(ours)
    async with recorder(key, chain, grpc.StatusCode.ALREADY_EXISTS) as service:
        ticket = Ticket(f"127.0.0.1:{service.port}", TOKEN, ours.fingerprint)
        async with sidecar(ticket, tmp_path, "--address", unique_address()) as instance:
            await instance.logged("sidecar.retrying", times=2)
            # It has not started anything, so there is no other exit code to give.
            assert await instance.stop() == 128 + 15

        assert service.tokens == [TOKEN, TOKEN]


async def test_an_enrolment_that_is_not_answered_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is fine and the control plane hangs: the next attempt may find another."""
    monkeypatch.setattr(enrolling, "ENROL_SECONDS", 0.2)
    by = authority("c2c CA")
    (tmp_path / "ca.pem").write_bytes(ca_pem(by))
    async with recorder(*server_pair(by)) as service:
        service.may_answer.clear()
        options = SidecarOptions(
            server=SocketAddress("127.0.0.1", service.port),
            token=TOKEN,
            ca_file=tmp_path / "ca.pem",
            directory=tmp_path,
        )
        retry = Retry(ManualClock(), lambda: 0.5)
        with structlog.testing.capture_logs() as logs:
            enrolment = asyncio.create_task(
                enrolling.enrol(options, new_key=new_key_pair, retry=retry)
            )
            await eventually(lambda: logs, "the first attempt was given up")
            enrolment.cancel()
            await asyncio.gather(enrolment, return_exceptions=True)

    assert service.tokens == [TOKEN]
    assert [(each["what"], each["reason"]) for each in logs] == [("enrol", "Deadline Exceeded")]


async def test_who_is_killed_before_the_answer_enrols_with_its_token(tmp_path: Path) -> None:
    """The next start asks with the same key, which is gone once there is an identity."""
    async with scene(tmp_path) as here, proxy(here.cf.running.enroll_address) as between:
        given = await here.cf.ticket("app-b")
        ticket = Ticket(str(between.address), given.token, given.fingerprint)

        async def fault(pipe: Pipe, data: bytes) -> None:
            if not (pipe.is_down and here.instance_guid):
                await pipe.send(data)

        between.fault = fault
        async with sidecar(ticket, here.directory, *here.options) as killed:
            await here.becomes("registered")
            killed.process.kill()
            await killed.ended()
        guid = here.instance_guid
        assert (here.directory / FILE).stat().st_mode & 0o777 == 0o600
        between.fault = none
        async with sidecar(ticket, here.directory, *here.options) as instance:
            assert (await instance.logged("sidecar.enrolled"))["instance"] == guid
            await here.caller.reaches(here.address)
        assert not (here.directory / FILE).exists()


async def test_a_ca_file_is_as_good_as_a_fingerprint(tmp_path: Path) -> None:
    """Who has the CA's certificate needs no fingerprint of it."""
    async with scene(tmp_path) as here:
        (tmp_path / "ca.pem").write_bytes(here.cf.trust_bundle)
        given = await here.cf.ticket("app-b")
        ticket = Ticket(given.server, given.token, "")
        options = (*here.options, "--ca-file", str(tmp_path / "ca.pem"))
        async with sidecar(ticket, here.directory, *options):
            await here.caller.reaches(here.address)


async def test_a_newline_behind_a_token_is_none_of_it(tmp_path: Path) -> None:
    """A Secret or a file that was made by echo has one, and people do not see it."""
    async with scene(tmp_path) as here:
        given = await here.cf.ticket("app-b")
        ticket = Ticket(given.server, f"{given.token}\n", given.fingerprint)
        async with sidecar(ticket, here.directory, *here.options) as instance:
            await instance.logged("sidecar.enrolled")


async def test_a_used_token_is_refused_with_one_sentence(tmp_path: Path) -> None:
    """A token for one instance makes one; the second sidecar says so, and ends."""
    async with scene(tmp_path) as here:
        ticket = await here.cf.ticket("app-b")
        async with sidecar(ticket, here.directory, *here.options) as first:
            await first.logged("sidecar.enrolled")
            said = await _refused(ticket, tmp_path / "second")

        assert said == ["Join token is used up: ask for a new one"]


async def test_an_identity_of_another_control_plane_is_passed_over(tmp_path: Path) -> None:
    """A directory that was used with a control plane that is no more does not stop a new start."""
    async with scene(tmp_path / "one") as old, old.instance() as instance:
        await instance.logged("sidecar.enrolled")
    async with scene(tmp_path / "two") as new:
        ticket = await new.cf.ticket("app-b")
        async with sidecar(ticket, old.directory, *new.options) as instance:
            passed_over = await instance.logged("identity.passed_over")
            await new.caller.reaches(new.address)

    assert passed_over["reason"] == "it is of a control plane that was known by another CA"


async def _replace_ca(cf: Platform) -> None:
    """Replace the CA, each step as soon as everybody is ready for it."""
    async with cf.operator() as channel:
        stub = certificate_authority_pb2_grpc.CertificateAuthorityServiceStub(channel)
        await stub.PrepareCertificateAuthority(messages.PrepareCertificateAuthorityRequest())

        async def activated() -> bool:
            request = messages.ActivateCertificateAuthorityRequest()
            return await _is_let(stub.ActivateCertificateAuthority(request))

        async def retired() -> bool:
            request = messages.RetireCertificateAuthorityRequest()
            return await _is_let(stub.RetireCertificateAuthority(request))

        await until(activated, what="everybody trusts the new CA")
        await until(retired, what="nobody has anything of the old CA")


async def _is_let(call: Awaitable[object]) -> bool:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION  # noqa: PT017 - or it is let
        return False
    return True


@pytest.mark.parametrize("known_by", ["fingerprint", "file"])
async def test_a_fingerprint_that_follows_the_ca_costs_no_token(
    tmp_path: Path, known_by: str
) -> None:
    """After a rotation the options may name the new CA: the identity is of that control plane."""
    async with scene(tmp_path) as here:
        ticket = await here.cf.ticket("app-b")
        async with sidecar(ticket, here.directory, *here.options) as instance:
            await instance.logged("sidecar.enrolled")
            enrolled = here.instance_guid
            await _replace_ca(here.cf)
        roots = tmp_path / "roots.pem"
        roots.write_bytes(here.cf.trust_bundle)
        now = (await here.cf.ticket("app-b")).fingerprint if known_by == "fingerprint" else ""
        options = () if now else ("--ca-file", str(roots))
        again = Ticket(ticket.server, ticket.token, now)
        async with sidecar(again, here.directory, *here.options, *options) as instance:
            caller = replace(here.caller, ca=here.cf.trust_bundle)
            await caller.reaches(here.address)

            assert here.instance_guid == enrolled
            assert instance.events("identity.passed_over") == []
        async with sidecar(again, here.directory, *here.options, *options) as instance:
            await instance.logged("envoy.started")

        assert now in (
            "",
            json.loads((here.directory / "enrollment.json").read_text())["trusted_by"],
        )


async def test_a_disk_that_is_full_spends_no_token(tmp_path: Path) -> None:
    """Where the identity would have no room, the start is refused before it is asked for."""
    directory = tmp_path / "sidecar"
    directory.mkdir()
    (directory / "lock").write_text("1\n")
    script = f"exec {C2C_WORD} sidecar --log-format json --address {unique_address()}"
    async with scene(tmp_path / "plane") as here:
        ticket = await here.cf.ticket("app-b")
        process = await asyncio.create_subprocess_exec(
            *on_a_full_disk(directory, script, size="64k"),
            env={
                **os.environ,
                "C2C_SIDECAR_DIR": str(directory),
                "C2C_SIDECAR_SERVER": ticket.server,
                "C2C_SIDECAR_TOKEN": ticket.token,
                "C2C_SIDECAR_FINGERPRINT": ticket.fingerprint,
            },
            stderr=asyncio.subprocess.PIPE,
        )
        _, wrote = await asyncio.wait_for(process.communicate(), DEADLINE)
        need_full_disk(process.returncode, wrote.decode())
        async with sidecar(ticket, here.directory, *here.options) as again:
            await again.logged("sidecar.enrolled")

    assert process.returncode == 1
    assert wrote.decode() == (
        f"Directory {shown(str(directory))} cannot keep an identity: No space left on device\n"
    )


async def test_nothing_to_enrol_with_is_said_at_once(tmp_path: Path) -> None:
    """Without identity and token there is no point in waiting for a server, and nothing is made."""
    nowhere, directory = f"127.0.0.1:{free_port()}", tmp_path / "sidecar"

    said = await _refused(None, directory, "--server", nowhere)

    assert not directory.exists()
    no_token, no_trust = said
    assert no_token.startswith(f"No join token, and no identity in {shown(str(directory))}")
    assert no_trust == "--fingerprint or --ca-file is needed, by which the sidecar knows the server"


async def test_a_ca_file_without_certificates_is_said_at_once(tmp_path: Path) -> None:
    """The sentence names the file, and nothing is made."""
    (tmp_path / "ca.pem").touch()
    ticket = Ticket(f"127.0.0.1:{free_port()}", TOKEN, "")

    options = ("--ca-file", str(tmp_path / "ca.pem"))
    (said,) = await _refused(ticket, tmp_path / "sidecar", *options)

    assert said.startswith(f"CA file {shown(str(tmp_path / 'ca.pem'))}: ")
    assert not (tmp_path / "sidecar").exists()


async def test_a_server_that_speaks_no_tls_is_tried_again(tmp_path: Path) -> None:
    """What answers without TLS is no control plane yet, and is sent nothing but a handshake."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(5))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ticket = Ticket(f"127.0.0.1:{port}", TOKEN, f"sha256:{'0' * 64}")
    async with server, sidecar(ticket, tmp_path, "--address", unique_address()) as instance:
        await instance.logged("sidecar.retrying", times=2)

    handshake = bytes([22, 3])  # RFC 8446, section 5.1
    assert {first[:2] for first in seen} == {handshake}


async def test_a_name_that_is_not_known_is_named(tmp_path: Path) -> None:
    """It may be there soon, as the server of it may; but who wrote it wrongly has to see which."""
    ticket = Ticket("no-such-host.invalid:18001", TOKEN, f"sha256:{'0' * 64}")
    async with sidecar(ticket, tmp_path, "--address", unique_address()) as instance:
        retrying = await instance.logged("sidecar.retrying")

    assert retrying["reason"].startswith("host name not found: no-such-host.invalid: ")


async def test_a_refusal_for_now_says_nothing_of_ports(tmp_path: Path) -> None:
    """A control plane whose disk is full answers at the right port, and says why it refuses."""
    ca = authority("c2c CA")
    key, certificate = server_pair(ca)
    async with recorder(key, certificate + ca_pem(ca)) as service:
        service.error = StorageError("file 'c2c.db' was not written: No space left on device")
        ticket = Ticket(f"127.0.0.1:{service.port}", TOKEN, ca.fingerprint)
        at = ("--address", unique_address())
        async with sidecar(ticket, tmp_path / "sidecar", *at) as instance:
            retrying = await instance.logged("sidecar.retrying")

    assert (retrying["what"], retrying["reason"]) == ("enrol", str(service.error))


async def test_the_wrong_port_of_the_right_server_is_hinted_at(tmp_path: Path) -> None:
    """The port of xDS shows the same certificate, and hangs up; the token is not spent on it."""
    async with scene(tmp_path) as here:
        given = await here.cf.ticket("app-b")
        ticket = Ticket(str(here.cf.running.xds_address), given.token, given.fingerprint)
        async with sidecar(ticket, here.directory, *here.options) as instance:
            retrying = await instance.logged("sidecar.retrying")
        async with sidecar(given, here.directory, *here.options) as instance:
            await instance.logged("sidecar.enrolled")

    assert retrying["what"] == "enrol"
    assert retrying["reason"].endswith(
        "(is that the port of --enroll-address, by default 18001? 18000 is the one of xDS)"
    )
