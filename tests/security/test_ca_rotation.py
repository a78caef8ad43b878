"""A CA is replaced: who waits for whom, what a key file must be, and what counts until when."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import certificate_authority_pb2 as messages
from control_plane.api.v1 import certificate_authority_pb2_grpc, sidecar_pb2, sidecar_pb2_grpc
from control_plane.app.core import new_serial
from control_plane.ca import (
    Authority,
    create_authority,
    load_authority,
    new_key_pair,
    read_certificates,
)
from control_plane.errors import ConfigurationError
from control_plane.names import InstanceGuid
from control_plane.reconciler.pace import turn
from control_plane.reconciler.served.attestation import REPORT_SECONDS
from control_plane.server.ca_rotation import identity_turns
from control_plane.settings import SocketAddress
from control_plane.settings.own_authority import ROTATION_FILE
from control_plane.sidecar.enrolment.pin import pinned
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import until
from tests.security.holders import Holder, identity_request, issued, operator_request
from tests.security.leaks import Secrets
from tests.security.world import (
    C2C_SECRET,
    Status,
    bystander,
    control_plane,
    enrol,
    is_gone,
    refused,
    refused_stream,
    renew,
    stream,
    told,
)
from tests.sidecar.platform import Platform
from tests.unit.ca.forge import Maker, ca_pem, made

APP = "app-b"
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who rotates the CA."""

    cf: Platform
    stub: certificate_authority_pb2_grpc.CertificateAuthorityServiceAsyncStub

    async def prepare(self, **fields: Any) -> None:  # noqa: ANN401 - of the request
        """Have another CA trusted."""
        request = messages.PrepareCertificateAuthorityRequest(**fields)
        await self.stub.PrepareCertificateAuthority(request)

    async def undo_prepare(self, *, force: bool = False) -> None:
        """Forget it."""
        request = messages.UndoPrepareCertificateAuthorityRequest(force=force)
        await self.stub.UndoPrepareCertificateAuthority(request)

    async def activate(self, *, force: bool = False) -> None:
        """Have it sign."""
        request = messages.ActivateCertificateAuthorityRequest(force=force)
        await self.stub.ActivateCertificateAuthority(request)

    async def undo_activate(self) -> None:
        """Have the other sign again."""
        request = messages.UndoActivateCertificateAuthorityRequest()
        await self.stub.UndoActivateCertificateAuthority(request)

    async def retire(self, *, force: bool = False) -> None:
        """Forget the old CA."""
        request = messages.RetireCertificateAuthorityRequest(force=force)
        await self.stub.RetireCertificateAuthority(request)

    async def authorities(self) -> dict[str, messages.CertificateAuthority]:
        """Return the CAs by their roles."""
        request = messages.ListCertificateAuthoritiesRequest()
        answer = await self.stub.ListCertificateAuthorities(request)
        return {each.role: each for each in answer.authorities}


def stub_of(
    channel: grpc.aio.Channel,
) -> certificate_authority_pb2_grpc.CertificateAuthorityServiceAsyncStub:
    """Return what calls the service."""
    return certificate_authority_pb2_grpc.CertificateAuthorityServiceStub(channel)


@asynccontextmanager
async def operator(cf: Platform) -> AsyncIterator[Operator]:
    """Connect as an operator of this machine."""
    async with cf.operator() as channel:
        yield Operator(cf, stub_of(channel))


async def report(cf: Platform, holder: Holder, *roots: str) -> sidecar_pb2.ReportResponse:
    """Report as a sidecar does that trusts these roots."""
    request = sidecar_pb2.ReportRequest(listening=True, trusted_roots=roots)
    async with holder.connect(cf.running.xds_address) as channel:
        return await sidecar_pb2_grpc.SidecarServiceStub(channel).Report(request)


async def report_all(cf: Platform, holder: Holder) -> sidecar_pb2.ReportResponse:
    """Report as a sidecar does that has taken the newest bundle."""
    return await report(cf, holder, *(each.fingerprint for each in _bundle(cf)))


def _bundle(cf: Platform) -> tuple[Any, ...]:
    return read_certificates(cf.trust_bundle)


Reports = grpc.aio.StreamStreamCall[sidecar_pb2.ReportRequest, sidecar_pb2.ReportResponse]


@asynccontextmanager
async def keeps_reporting(cf: Platform, holder: Holder) -> AsyncIterator[Reports]:
    """Open a stream of reports until the block ends."""
    async with holder.connect(cf.running.xds_address) as channel:
        yield sidecar_pb2_grpc.SidecarServiceStub(channel).KeepReporting()


def reported(bundle: bytes) -> sidecar_pb2.ReportRequest:
    """Return what a sidecar says that has taken a bundle."""
    roots = [each.fingerprint for each in read_certificates(bundle)]
    return sidecar_pb2.ReportRequest(listening=True, trusted_roots=roots)


async def heard(reports: Reports) -> sidecar_pb2.ReportResponse:
    """Return the next answer, which comes long before it is time to report again."""
    async with asyncio.timeout(REPORT_SECONDS[0] / 2):
        answer = await reports.read()
    assert isinstance(answer, sidecar_pb2.ReportResponse)
    return answer


async def reports(cf: Platform, holder: Holder) -> bool:
    """Tell whether the control plane has a report of an instance."""
    return cf.running.core.attestation.witnessed(InstanceGuid(holder.guid))


async def trusts(cf: Platform, holder: Holder) -> bool:
    """Tell whether the control plane knows that an instance trusts all of its CAs."""
    known = cf.running.core.attestation.trusted(InstanceGuid(holder.guid))
    return known == cf.running.core.authority.trusted_fingerprints


async def test_each_step_waits_for_those_who_are_not_ready(tmp_path: Path) -> None:
    """A step is refused with who is not ready and why; nothing is changed by that."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        one = await enrol(cf, APP, "127.0.3.1")
        two = await enrol(cf, APP, "127.0.3.2")
        async with stream(cf, one) as first, stream(cf, two) as second:
            for client in (first, second):
                await client.subscribe(SECRET, C2C_SECRET)
                await client.receive()
            await op.prepare()
            code, why = await refused(op.activate())
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert why == (
                "0 of 2 instances trust the new CA; not app-b/0 (no sidecar reports for it), "
                "app-b/1 (no sidecar reports for it): wait (--wait), or use --force to go on "
                "without them"
            )
            old = (await op.authorities())["active"].fingerprint
            await report(cf, one)
            await report(cf, two, old)
            _, why = await refused(op.activate())
            assert "app-b/0 (its sidecar does not tell whom it trusts: update it)" in why
            assert "app-b/1 (its sidecar has not taken the new trust bundle yet)" in why
            prepared = (await op.authorities())["prepared"]
            assert (prepared.ready, prepared.wanted) == (0, 2)
            assert prepared.waits_for == (
                "0 of 2 sidecars have the new trust bundle; waiting for app-b/0, app-b/1"
            )

            for each in (one, two):
                await report_all(cf, each)
            prepared = (await op.authorities())["prepared"]
            assert prepared.waits_for == ""
            await op.activate()
            _, why = await refused(op.retire())
            assert why.startswith(
                "0 of 2 instances have left the CA; not app-b/0 (its identity is still signed by "
                "the old CA; it is renewed within a minute), app-b/1 "
            )
            assert (await op.authorities())["retiring"].live_certificates == 6


async def test_a_step_out_of_order_is_refused(tmp_path: Path) -> None:
    """And says how it is, whether it is forced or not."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        for step in (op.activate(force=True), op.retire(force=True), op.undo_activate()):
            code, why = await refused(step)
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert "'CN=c2c-control-plane CA' is the only CA" in why
        await op.prepare()
        assert "is prepared: one rotation at a time" in (await refused(op.prepare()))[1]
        await op.activate()
        assert "is retiring: one rotation at a time" in (await refused(op.prepare()))[1]
        assert "no CA is prepared" in (await refused(op.undo_prepare()))[1]


async def test_an_identity_counts_until_its_ca_is_retired(tmp_path: Path) -> None:
    """Of the old CA it opens streams and renews at every stage, and nothing after the last.

    Also not on a connection that was opened before; whoever renewed goes on.
    """
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        old = await enrol(cf, APP, "127.0.3.1")
        renewed = await enrol(cf, APP, "127.0.3.2")
        await op.prepare()
        async with stream(cf, old) as client:
            await client.subscribe(SECRET, C2C_SECRET)
            await client.receive()
        await op.activate(force=True)

        async def is_asked_to_renew() -> bool:
            return (await report_all(cf, old)).renew_identity

        await until(is_asked_to_renew, what="it is the turn of the old identity")
        renewed = await renew(cf, renewed)
        assert not (await report_all(cf, renewed)).renew_identity

        async with (
            old.connect(cf.running.xds_address) as channel,
            stream(cf, old) as lost,
            stream(cf, renewed) as kept,
        ):
            for each in (lost, kept):
                await each.subscribe(SECRET, C2C_SECRET)
                await each.receive()
            stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
            await stub.Report(sidecar_pb2.ReportRequest())
            await op.retire(force=True)
            await is_gone(cf, old)
            assert await refused(stub.Report(sidecar_pb2.ReportRequest())) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "client certificate is of a CA that was retired: CN=c2c-control-plane CA",
            )
            await report_all(cf, renewed)
            assert len(cf.running.core.nodes.streams(renewed.guid)) == 1
        knows_new = Holder(old.guid, old.key, old.chain, cf.trust_bundle)
        assert (await refused_stream(cf, knows_new))[0] is grpc.StatusCode.UNAVAILABLE


async def test_a_sidecar_hears_of_each_step_at_once(tmp_path: Path) -> None:
    """It is told whom to trust and to renew its identity, and that either is taken back."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        holder, before = await enrol(cf, APP, "127.0.3.1"), cf.trust_bundle
        async with keeps_reporting(cf, holder) as sidecar:
            await sidecar.write(reported(before))
            await until(lambda: trusts(cf, holder), what="the report was taken")
            await op.prepare()
            prepared = await heard(sidecar)
            assert prepared.trust_bundle.encode() == cf.trust_bundle != before
            assert not prepared.renew_identity

            await sidecar.write(reported(cf.trust_bundle))
            await until(lambda: trusts(cf, holder), what="the report was taken")
            await op.activate()
            for _ in range(2):
                assert (await heard(sidecar)).renew_identity
                await sidecar.write(reported(cf.trust_bundle))

            await op.undo_activate()
            await op.undo_prepare()
            while (last := await heard(sidecar)).renew_identity:
                pass
            assert last.trust_bundle.encode() == before


async def test_an_identity_that_was_given_and_not_shown_is_waited_for(tmp_path: Path) -> None:
    """A prepared CA is not forgotten then; the sidecar is told to renew, and that ends it."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        holder = await enrol(cf, APP, "127.0.3.1")
        await report_all(cf, holder)
        await op.prepare()
        await op.activate(force=True)
        await renew(cf, holder)
        await op.undo_activate()
        _, why = await refused(op.undo_prepare())
        assert "its identity is still signed by the prepared CA" in why
        assert (await op.authorities())["prepared"].live_certificates == 1
        await until(lambda: _is_told_to_renew(cf, holder), what="it is told to renew")

        newest = await renew(cf, holder)
        assert not (await report_all(cf, newest)).renew_identity
        await op.undo_prepare()


async def _is_told_to_renew(cf: Platform, holder: Holder) -> bool:
    return (await report_all(cf, holder)).renew_identity


async def test_a_sidecar_that_does_not_tell_whom_it_trusts_is_told_in_its_time(
    tmp_path: Path,
) -> None:
    """Told at once it would report, be told again because nothing is known of it, and so on."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        silent, holder = [await enrol(cf, APP, f"127.0.3.{number}") for number in (1, 2)]
        async with keeps_reporting(cf, silent) as other, keeps_reporting(cf, holder) as sidecar:
            await other.write(sidecar_pb2.ReportRequest(listening=True))
            await until(lambda: reports(cf, silent), what="the report was taken")
            await sidecar.write(reported(cf.trust_bundle))
            await op.prepare()
            said = asyncio.ensure_future(other.read())
            await heard(sidecar)
            assert not said.done()


async def test_a_sidecar_is_told_to_renew_when_its_turn_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a big fleet that is later than the step, and nobody has to ask again."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        holder = await enrol(cf, APP, "127.0.3.1")
        seconds = 0.5
        turns = turn(InstanceGuid(holder.guid), EPOCH, 1, per_second=1.0) - EPOCH
        rate = turns.total_seconds() / seconds
        monkeypatch.setattr(identity_turns, "IDENTITIES_PER_SECOND", rate)
        await op.prepare()
        async with keeps_reporting(cf, holder) as sidecar:
            await sidecar.write(reported(cf.trust_bundle))
            await until(lambda: trusts(cf, holder), what="the report was taken")
            await op.activate()
            since = cf.running.core.authorities.rotation.since

            assert (await heard(sidecar)).renew_identity
            assert datetime.now(UTC) - since >= timedelta(seconds=seconds)


async def test_whoever_enrols_at_any_stage_gets_in(tmp_path: Path) -> None:
    """A token that was made at this stage, or at the one before, leads to a stream."""
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        fingerprints = set()
        steps = (op.prepare, lambda: op.activate(force=True), op.undo_activate)
        before = await cf.ticket(APP)
        for number, step in enumerate(steps):
            await step()
            now = await cf.ticket(APP)
            fingerprints.add(now.fingerprint)
            for ticket in (before, now):
                host, _, port = ticket.server.rpartition(":")
                await pinned(SocketAddress(host, int(port)), ticket.fingerprint)
            holder = await enrol(cf, APP, f"127.0.3.{number + 1}", by=before)
            assert len(read_certificates(holder.roots)) == 2
            async with stream(cf, holder) as client:
                await client.subscribe(SECRET, C2C_SECRET)
                await client.receive()
            before = now

        assert len(fingerprints) == 2


async def test_no_operator_is_locked_out_by_the_own_hand(tmp_path: Path) -> None:
    """Over TCP, who has a certificate of the old CA cannot retire it without saying so."""
    async with control_plane(tmp_path) as cf, operator(cf) as local:
        old = issued(cf, operator_request(cf))
        await local.prepare()
        await local.activate(force=True)
        new = issued(cf, operator_request(cf))
        address = cf.running.ports.admin_address
        async with old.connect(address) as first, new.connect(address) as second:
            by_old, by_new = (Operator(cf, stub_of(each)) for each in (first, second))
            code, why = await refused(by_old.retire())
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert why.startswith("your own certificate was signed by the CA that would leave")
            await by_new.retire()
            assert (await refused(by_old.authorities()))[0] is grpc.StatusCode.UNAUTHENTICATED
            assert (await by_new.authorities()).keys() == {"active"}


def own_ca(directory: Path, name: str = "own CA") -> tuple[Authority, Path, Path]:
    """Return an operator's CA, and the files of its certificate and its key."""
    now = datetime.now(UTC)
    made = create_authority(
        name, now=now, lifetime=timedelta(days=30), key=new_key_pair(), serial=new_serial()
    )
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(ca_pem(made))
    key.touch(mode=0o600)
    key.write_bytes(made.key.private_pem())
    return made, certificate, key


async def test_the_key_of_an_own_ca_is_read_with_care(tmp_path: Path) -> None:
    """A file that others may read, another's key, and a path from nowhere are refused.

    So is a pipe, which the control plane would wait for, and serve nobody meanwhile.
    """
    _, certificate, key = own_ca(tmp_path)
    _, _, other = own_ca(tmp_path, "other CA")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    async with control_plane(tmp_path) as cf, operator(cf) as op:

        async def why(**fields: str) -> Status:
            return await refused(op.prepare(**fields))

        files = {"ca_cert": str(certificate), "ca_key": str(key)}
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        assert (await why(ca_cert="own.pem", ca_key="own.key"))[0] is invalid
        assert (await why(ca_cert=str(certificate)))[0] is invalid
        assert (
            "does not belong to the CA certificate"
            in (await why(**files | {"ca_key": str(other)}))[1]
        )
        assert "it is no regular file" in (await why(**files | {"ca_cert": str(pipe)}))[1]
        key.chmod(0o644)
        code, reason = await why(**files)
        assert code is invalid
        assert f"it has mode 0644, not 0600 or 0400: run chmod 600 '{key}'" in reason
        assert (await op.authorities()).keys() == {"active"}
        assert not (cf.settings.data_dir / ROTATION_FILE).exists()


async def test_the_key_of_an_own_ca_is_in_one_private_file_and_told_to_nobody(
    tmp_path: Path,
) -> None:
    """Not in the log at any level, not in the database, not in an answer."""
    made, certificate, key = own_ca(tmp_path)
    secrets = Secrets()
    secrets.add_key(made.key.private_pem(), "the CA")
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        with capture_logs() as lines:
            await op.prepare(ca_cert=str(certificate), ca_key=str(key))
            key.unlink()
            await op.activate(force=True)
            answer = await op.authorities()
        kept = cf.settings.data_dir / ROTATION_FILE

        assert kept.stat().st_mode & 0o777 == 0o600
        assert secrets.holders(cf.settings.data_dir).keys() == {ROTATION_FILE}
        assert secrets.found_in(repr(lines) + repr(answer)) == set()
        assert answer["active"].subject == "CN=own CA"
        (prepared,) = told(lines, log_events.CA_PREPARED)
        (activated,) = told(lines, log_events.CA_ACTIVATED)
        assert prepared["fingerprint"] == activated["fingerprint"] == made.fingerprint
        commands = [each["method"] for each in told(lines, log_events.AUDIT_COMMAND)]
        assert commands == ["PrepareCertificateAuthority", "ActivateCertificateAuthority"]


def own_root() -> Maker:
    """Return the root of an operator's own PKI."""
    now = datetime.now(UTC)
    return made("own root", start=now, end=now + timedelta(days=9))


def below(root: Maker, directory: Path, name: str) -> tuple[Authority, dict[str, Any]]:
    """Return a CA below a root, and its files by the settings that name them."""
    now = datetime.now(UTC)
    ca = made(name, by=root, start=now, end=now + timedelta(days=9))
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    certificate.write_bytes(ca.pem + root.pem)
    key.touch(mode=0o600)
    key.write_bytes(ca.key.private_pem())
    chain, pem = certificate.read_bytes(), key.read_bytes()
    return load_authority(chain, pem, now=now), {"ca_cert": certificate, "ca_key": key}


async def test_an_intermediate_of_an_own_pki_takes_over(tmp_path: Path) -> None:
    """Who knows the embedded CA only, the own root only, or either by fingerprint, gets in."""
    root = own_root()
    _, files = below(root, tmp_path, "own CA")
    async with control_plane(tmp_path) as cf, operator(cf) as op:
        await cf.create_app(APP)
        before, embedded = await cf.ticket(APP), cf.trust_bundle
        await op.prepare(**{name: str(path) for name, path in files.items()})
        await op.activate(force=True)
        after = await cf.ticket(APP)
        assert [each.not_pinned for each in (await op.authorities()).values()] == ["", ""]
        for ticket in (before, after):
            host, _, port = ticket.server.rpartition(":")
            await pinned(SocketAddress(host, int(port)), ticket.fingerprint)
        holder = await enrol(cf, APP, "127.0.3.1", by=after)
        for roots in (embedded, root.pem):
            await report(cf, replace(holder, roots=roots))

        await op.retire(force=True)
        assert cf.trust_bundle == root.pem
        await report(cf, replace(holder, roots=root.pem))


async def test_another_ca_below_the_same_root_makes_nobody(tmp_path: Path) -> None:
    """Nor does one that was retired: not now, and not after a restart, which trusts their root.

    A root has CAs for others, such as for the control plane of another environment.
    """
    root = own_root()
    ours, files = below(root, tmp_path, "ours")
    theirs, other_files = below(root, tmp_path, "theirs")
    async with control_plane(tmp_path, **files) as cf:
        await cf.create_app(APP)
        holder = await enrol(cf, APP, "127.0.3.1")

        async def why(by: Authority) -> list[str]:
            instance = issued(cf, identity_request(cf, holder), by=by, guid=holder.guid)
            somebody = issued(cf, operator_request(cf), by=by)
            async with somebody.connect(cf.running.ports.admin_address) as channel:
                called = await refused(Operator(cf, stub_of(channel)).authorities())
            reported = await refused(report(cf, instance))
            answers = [called, reported, await refused_stream(cf, instance)]
            assert {code for code, _ in answers} == {grpc.StatusCode.UNAUTHENTICATED}
            return sorted({sentence for _, sentence in answers})

        refusal = "client certificate is of a CA that does not sign here: CN="
        assert await why(theirs) == [f"{refusal}theirs"]
        async with operator(cf) as op:
            await op.prepare(**{name: str(path) for name, path in other_files.items()})
            await op.activate(force=True)
            await op.retire(force=True)
        assert await why(ours) == ["client certificate is of a CA that was retired: CN=ours"]
        await cf.stop()
        await cf.start()
        assert await why(ours) == [f"{refusal}ours"]


async def test_below_one_root_the_old_fingerprint_ends_with_the_activation(tmp_path: Path) -> None:
    """No CA signs the other there, so a token has to be made anew; the CAs are listed with that."""
    root = own_root()
    _, files = below(root, tmp_path, "old")
    _, new_files = below(root, tmp_path, "new")
    async with control_plane(tmp_path, **files) as cf, operator(cf) as op:
        await cf.create_app(APP)
        before = await cf.ticket(APP)
        host, _, port = before.server.rpartition(":")
        server = SocketAddress(host, int(port))
        await op.prepare(**{name: str(path) for name, path in new_files.items()})
        await pinned(server, before.fingerprint)
        listed = await op.authorities()
        assert listed["active"].not_pinned == ""
        assert "both lead to one root" in listed["prepared"].not_pinned

        await op.activate(force=True)
        with pytest.raises(ConfigurationError, match="the fingerprint is of another CA"):
            await pinned(server, before.fingerprint)
        await pinned(server, (await cf.ticket(APP)).fingerprint)
        listed = await op.authorities()
        assert "both lead to one root" in listed["active"].not_pinned
        assert listed["retiring"].not_pinned == ""


async def test_a_rotation_disturbs_no_stream(tmp_path: Path) -> None:
    """Through all of it somebody's stream stays open, and the certificate rotates in time."""
    async with control_plane(tmp_path) as cf, operator(cf) as op, bystander(cf) as there:
        await op.prepare()
        await there.rotates()
        await op.activate(force=True)
        await there.rotates()
        await op.undo_activate()
        await there.rotates()


@pytest.mark.parametrize("count", [1, 17])
async def test_what_a_sidecar_says_to_trust_is_bounded(tmp_path: Path, count: int) -> None:
    """A report with something else than fingerprints, or with too many, is refused whole."""
    async with control_plane(tmp_path) as cf:
        await cf.create_app(APP)
        holder = await enrol(cf, APP, "127.0.3.1")
        roots = ["sha256:" + "0" * 64] * count if count > 1 else ["sha256:XYZ"]
        code, why = await refused(report(cf, holder, *roots))

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert ("16 trusted roots" in why) == (count > 1)
