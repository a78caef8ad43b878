"""Renewal against a control plane that the test plays, over real mTLS."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import structlog

from control_plane.api.v1 import identity_pb2, identity_pb2_grpc
from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    KeyFactory,
    KeyPair,
    Profile,
    ServerRequest,
    create_authority,
    issue,
    new_key_pair,
    parse_csr,
    peer_identity,
)
from control_plane.clock import Clock, SystemClock
from control_plane.errors import InvalidArgument
from control_plane.names import SERVER_NAME, Address
from control_plane.settings import SocketAddress
from control_plane.sidecar import directory as module
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.enrolment import renew as renewing
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.enrolment.renew import MOVED_SECONDS, Renewal, renew
from tests.envoy.harness import DEADLINE, until
from tests.sidecar.platform import free_port
from tests.unit.reconciler.clocks import ManualClock, settled
from tests.unit.sidecar.members import GUID, LIFETIME, authority, credentials, identity_chain
from tests.waiting import eventually

Context = grpc.aio.ServicerContext[identity_pb2.RenewRequest, identity_pb2.RenewResponse]

_SYSTEM = SystemClock()


@dataclass(slots=True)
class Issuer(identity_pb2_grpc.IdentityServiceServicer):
    """Answers as the test says, and remembers who asked for what."""

    by: Authority
    guid: str = GUID
    bundle: bytes = b""
    port: int = 0
    refuses: bool = False
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[identity_pb2.RenewRequest] = field(default_factory=list)
    callers: list[int] = field(default_factory=list)

    async def Renew(
        self, request: identity_pb2.RenewRequest, context: Context
    ) -> identity_pb2.RenewResponse:
        """Issue the next certificate."""
        self.requests.append(request)
        shown = next(iter(context.auth_context()["x509_pem_cert"]))
        self.callers.append(peer_identity(shown, DEFAULT_TRUST_DOMAIN).serial)
        key = parse_csr(request.csr)
        now, serial = datetime.now(UTC), 100 + len(self.requests)
        chain = identity_chain(self.by, key, guid=self.guid, now=now, serial=serial)
        bundle = self.bundle or self.by.trust_bundle_pem
        await self.may_answer.wait()
        if self.refuses:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this instance was removed")
        return identity_pb2.RenewResponse(certificate=chain, trust_bundle=bundle.decode())


@asynccontextmanager
async def issuer(by: Authority) -> AsyncIterator[Issuer]:
    """Serve renewal over mTLS until the block ends."""
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, (SERVER_NAME,), ())
    own = issue(by, Profile(), request, key=new_key_pair, now=datetime.now(UTC), serial=9)
    pair = (own.private_key_pem or b"", own.certificate_chain_pem)
    server = grpc.aio.server()
    service = Issuer(by)
    service.may_answer.set()
    identity_pb2_grpc.add_IdentityServiceServicer_to_server(service, server)
    service.port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials([pair], by.trust_bundle_pem, require_client_auth=True),
    )
    await server.start()
    try:
        yield service
    finally:
        await server.stop(None)


@pytest.fixture
def ca() -> Authority:
    """Return a CA that is valid now, as TLS wants it."""
    return create_authority(
        "c2c CA", now=datetime.now(UTC), lifetime=timedelta(days=1), key=new_key_pair(), serial=7
    )


@dataclass(slots=True)
class Keys:
    """Makes keys, and remembers them."""

    made: list[KeyPair] = field(default_factory=list)

    def __call__(self) -> KeyPair:
        """Make one."""
        self.made.append(new_key_pair())
        return self.made[-1]


async def test_each_renewal_has_a_new_key_and_shows_the_last_identity(ca: Authority) -> None:
    """A key that was stolen once is worth nothing after the next renewal."""
    keys = Keys()
    async with issuer(ca) as service:
        server = SocketAddress("127.0.0.1", service.port)
        held = credentials(ca, now=datetime.now(UTC), serial=1)
        for _ in range(2):
            held = await renew(server, held, new_key=keys)

    assert service.callers == [1, 101]
    assert held.identity.serial == 102
    assert held.identity.key is keys.made[1]
    assert len({parse_csr(each.csr).spki for each in service.requests}) == 2


async def test_a_renewal_that_is_not_answered_is_given_up(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is fine and the control plane hangs: the next attempt finds another."""
    monkeypatch.setattr(renewing, "RENEW_SECONDS", 0.2)
    async with issuer(ca) as service:
        service.may_answer.clear()
        server = SocketAddress("127.0.0.1", service.port)
        held = credentials(ca, now=datetime.now(UTC))
        with pytest.raises(grpc.aio.AioRpcError) as given_up:
            async with asyncio.timeout(DEADLINE):
                await renew(server, held, new_key=new_key_pair)

    assert given_up.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert given_up.value.details() == f"no answer from {server} within 0.2 s"


async def test_an_identity_of_another_instance_is_refused(ca: Authority) -> None:
    """A control plane that mixes instances up does not make this one another."""
    async with issuer(ca) as service:
        service.guid = f"{GUID}-2"
        server = SocketAddress("127.0.0.1", service.port)
        held = credentials(ca, now=datetime.now(UTC))
        with pytest.raises(InvalidArgument, match=f"instance {GUID}-2 came back for instance"):
            await renew(server, held, new_key=new_key_pair)


async def test_a_bundle_that_cannot_be_read_is_refused(ca: Authority) -> None:
    """An identity without anybody to trust would be of no use."""
    async with issuer(ca) as service:
        service.bundle = b"nonsense"
        server = SocketAddress("127.0.0.1", service.port)
        with pytest.raises(InvalidArgument, match=r"not X\.509 certificates in PEM"):
            await renew(server, credentials(ca, now=datetime.now(UTC)), new_key=new_key_pair)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what a thread would do be done at once, so that a test waits for the clock only."""

    async def at_once(work: Callable[[], object]) -> object:
        return work()

    monkeypatch.setattr(asyncio, "to_thread", at_once)


@asynccontextmanager
async def _renewal(
    directory: Path,
    by: Authority,
    port: int,
    *,
    new_key: KeyFactory = new_key_pair,
    lifetime: timedelta = LIFETIME,
) -> AsyncIterator[tuple[ManualClock, LiveCredentials]]:
    """Renew, with a clock that the test moves; the identity is so old at its end."""
    clock, files = ManualClock(), SidecarDirectory(directory)
    live = LiveCredentials(files, credentials(by, lifetime=lifetime))
    server = SocketAddress("127.0.0.1", port)
    renewal = Renewal(server, live, new_key=new_key, clock=clock, draw=lambda: 1.0)
    running = asyncio.ensure_future(renewal.run())
    try:
        yield clock, live
        assert not running.done(), "it goes on without end"
    finally:
        running.cancel()
        await asyncio.wait([running])
        files.close()


async def test_a_renewal_that_fails_is_repeated_and_grows_louder(tmp_path: Path) -> None:
    """A warning while there is time, an error at the end, and then the only thing that helps."""
    with structlog.testing.capture_logs() as logs:
        async with _renewal(tmp_path, authority(), free_port()) as (clock, live):
            identity = live.current.identity
            life = identity.not_after - identity.not_before

            async def move_to(moment: datetime) -> None:
                """Move the clock, and wait for an attempt that fails after that."""
                left = (identity.not_after - moment).total_seconds()
                await clock.advance((moment - clock.now()).total_seconds())

                async def failed() -> bool:
                    # One that was under way when the clock moved tells of the moment before.
                    await clock.advance(1)
                    return bool(logs) and logs[-1]["seconds_left"] <= left

                await until(failed, what="an attempt failed")

            await move_to(identity.renew_at)
            first = logs[-1]
            await move_to(identity.not_after - life / 5)
            urgent = logs[-1]
            await move_to(identity.not_after)
            over = logs[-1]

    assert {each["event"] for each in logs} == {"identity.renewal_failed"}
    assert [each["log_level"] for each in (first, urgent, over)] == ["warning", "error", "error"]
    assert over["seconds_left"] == 0
    assert "onnect" in first["reason"]
    assert over["reason"].endswith("start the sidecar again with a new token (c2c join-token))")


@pytest.mark.usefixtures("no_threads")
async def test_nothing_is_renewed_before_its_time(tmp_path: Path) -> None:
    """Half of the life passes before a key is made for the next."""
    keys = Keys()
    async with _renewal(tmp_path, authority(), free_port(), new_key=keys) as (clock, live):
        left = live.current.identity.renew_at - clock.now()
        await clock.advance(left.total_seconds() - 1)
        assert keys.made == []

        await clock.advance(1)
        assert len(keys.made) == 1


@pytest.mark.usefixtures("no_threads")
async def test_a_clock_that_was_set_is_noticed_within_a_minute(tmp_path: Path) -> None:
    """Whoever slept until then by the clock of before would sleep past its end."""
    keys = Keys()
    async with _renewal(tmp_path, authority(), free_port(), new_key=keys) as (clock, live):
        await settled()
        clock.set(live.current.identity.renew_at - clock.now())
        await clock.advance(59)
        assert keys.made == []

        await clock.advance(1)
        assert len(keys.made) == 1


async def test_a_clock_that_was_set_back_too_far_is_said_within_a_minute(tmp_path: Path) -> None:
    """By it the renewal is days away, while the control plane counts on; set right, it rests."""
    with structlog.testing.capture_logs() as logs:
        async with _renewal(tmp_path, authority(), free_port()) as (clock, live):
            await settled()
            clock.set(timedelta(days=-2))
            await clock.advance(300)
            clock.set(timedelta(days=2))
            await clock.advance(900)

    (told,) = logs
    assert (told["event"], told["log_level"]) == ("identity.renewal_failed", "error")
    assert told["reason"].startswith("by the clock here the identity has not begun")
    assert told["not_after"] == live.current.identity.not_after


@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("lifetime", [LIFETIME, timedelta(minutes=10)], ids=["long", "short"])
async def test_the_longest_pause_is_a_minute_or_a_twentieth_of_a_shorter_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lifetime: timedelta
) -> None:
    """Pauses double from a sixteenth of it, so that no life is over before many attempts."""
    monkeypatch.setattr(module, "why_unwritable", lambda *_: "No space left on device")
    with structlog.testing.capture_logs() as logs:
        async with _renewal(tmp_path, authority(), 1, lifetime=lifetime) as (clock, live):
            identity = live.current.identity
            life = (identity.not_after - identity.not_before).total_seconds()
            await clock.advance((identity.renew_at - clock.now()).total_seconds())
            await clock.advance(3 * life / 20)

    longest = min(60.0, life / 20)
    pauses = [each["again_in"] for each in logs[:6]]
    assert pauses == [round(min(longest / 16 * 2**each, longest), 1) for each in range(6)]


@asynccontextmanager
async def _renewing(
    directory: Path, service: Issuer, *, new_key: KeyFactory = new_key_pair, clock: Clock = _SYSTEM
) -> AsyncIterator[tuple[LiveCredentials, Callable[[], Awaitable[bool]]]]:
    """Renew at once; the second value waits until that is done."""
    files = SidecarDirectory(directory)
    live = LiveCredentials(files, credentials(service.by, now=datetime.now(UTC)))
    server, before = SocketAddress("127.0.0.1", service.port), live.current.identity
    renewal = Renewal(server, live, new_key=new_key, clock=clock, draw=lambda: 1.0)
    running = asyncio.ensure_future(renewal.run())
    live.renewal_wanted.set()

    async def renewed() -> bool:
        return live.current.identity is not before

    try:
        yield live, lambda: until(renewed, what="the identity is renewed")
        await settled()
        assert not running.done(), "it goes on without end"
    finally:
        running.cancel()
        await asyncio.wait([running])
        files.close()


async def test_a_renewal_that_is_asked_for_does_not_wait(tmp_path: Path, ca: Authority) -> None:
    """An identity whose CA leaves is replaced at once, and once."""
    keys = Keys()
    async with (
        issuer(ca) as service,
        _renewing(tmp_path, service, new_key=keys) as (live, is_renewed),
    ):
        before = live.current.identity.serial
        await is_renewed()

    assert service.callers == [before]
    assert len(keys.made) == 1


async def test_a_renewal_takes_back_no_ca_that_was_told_meanwhile(
    tmp_path: Path, ca: Authority
) -> None:
    """An answer that was on its way for long may be of before a CA was prepared."""
    async with issuer(ca) as service:
        service.may_answer.clear()
        async with _renewing(tmp_path, service) as (live, is_renewed):
            await eventually(lambda: service.requests, "the renewal is under way")
            told = live.current.trust_bundle + authority("new CA").trust_bundle_pem
            await live.trust(told)
            service.may_answer.set()
            await is_renewed()

            assert live.current.trust_bundle == told
            assert (tmp_path / "ca.pem").read_bytes() == told


async def test_a_renewal_brings_the_ca_of_its_answer(tmp_path: Path, ca: Authority) -> None:
    """A control plane that takes no reports tells of a CA by renewals only."""
    async with issuer(ca) as service:
        service.bundle = ca.trust_bundle_pem + authority("new CA").trust_bundle_pem
        async with _renewing(tmp_path, service) as (live, is_renewed):
            await is_renewed()

            assert live.current.trust_bundle == service.bundle


async def test_a_full_disk_is_found_out_before_an_identity_is_asked_for(
    tmp_path: Path, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is issued counts from then on, and streams that show the one before are ended."""
    monkeypatch.setattr(module, "why_unwritable", lambda *_: "No space left on device")
    with structlog.testing.capture_logs() as logs:
        async with issuer(ca) as service, _renewing(tmp_path, service):
            await eventually(lambda: logs, "the renewal failed")

    assert (logs[0]["event"], logs[0]["log_level"]) == ("identity.renewal_failed", "warning")
    assert logs[0]["reason"].endswith("cannot keep an identity: No space left on device")
    assert service.requests == []


async def test_what_is_refused_for_good_is_an_error_at_once(tmp_path: Path, ca: Authority) -> None:
    """However much time is left, it helps nothing."""
    with structlog.testing.capture_logs() as logs:
        async with issuer(ca) as service, _renewing(tmp_path, service):
            service.refuses = True
            await eventually(lambda: logs, "the renewal failed")

    assert (logs[0]["event"], logs[0]["log_level"]) == ("identity.renewal_failed", "error")
    assert "this instance was removed" in logs[0]["reason"]


async def test_a_clock_that_is_ahead_renews_after_pauses_and_says_so(
    tmp_path: Path, ca: Authority
) -> None:
    """Each new identity is due at once by that clock, and each ends streams; once set, it rests."""
    clock = ManualClock()
    ahead = 0.6 * LIFETIME
    clock.set(datetime.now(UTC) + ahead - clock.now())
    with structlog.testing.capture_logs() as logs:
        async with issuer(ca) as service, _renewing(tmp_path, service, clock=clock):

            def told() -> list[str]:
                """Return why renewals failed."""
                return [each["reason"] for each in logs if each["log_level"] == "error"]

            await eventually(told, "the renewal is told")
            await clock.advance(3.7)
            assert len(service.requests) == 1

            await clock.advance(0.1)
            await eventually(lambda: len(told()) == 2, "it is renewed after a pause")
            clock.set(-ahead)
            await clock.advance(7.5)
            await eventually(lambda: len(service.requests) == 3, "it is renewed once more")
            await eventually(lambda: len(logs) == 5, "the renewal is told")
            await clock.advance(600)

    assert len(service.requests) == 3
    assert all(
        each.endswith("the clock here is ahead of the control plane's: set the clock")
        for each in told()
    )


@asynccontextmanager
async def _at_a_lost_address(
    directory: Path, service: Issuer, *, may_move: bool
) -> AsyncIterator[ManualClock]:
    """Run an instance whose machine has not the address that its identity says."""
    clock, files = ManualClock(), SidecarDirectory(directory)
    clock.set(datetime.now(UTC) - clock.now())
    live = LiveCredentials(files, credentials(service.by, now=datetime.now(UTC)))
    renewal = Renewal(
        SocketAddress("127.0.0.1", service.port),
        live,
        new_key=new_key_pair,
        clock=clock,
        draw=lambda: 1.0,
        may_move=may_move,
    )
    running = asyncio.ensure_future(renewal.run())
    try:
        yield clock
    finally:
        running.cancel()
        await asyncio.wait([running])
        files.close()


async def test_a_machine_that_gets_another_address_takes_the_instance_there(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the old address it would be called, and let in, where it is no more; for ever."""
    routes = [OSError(errno.ENETUNREACH, "Network is unreachable")]

    async def address_towards(_: SocketAddress) -> Address:
        if routes:
            raise routes.pop()
        return Address("127.0.0.1")

    monkeypatch.setattr(renewing, "address_towards", address_towards)
    with structlog.testing.capture_logs() as logs:
        async with (
            issuer(ca) as service,
            _at_a_lost_address(tmp_path, service, may_move=True) as clock,
        ):

            async def asked() -> bool:
                await clock.advance(1)
                return bool(service.requests)

            await until(asked, what="it asks to move")

    assert logs[0]["reason"] == "Network is unreachable"
    assert (service.requests[0].address, service.requests[0].app_address) == ("127.0.0.1", "")


async def test_an_address_that_people_named_is_kept(ca: Authority, tmp_path: Path) -> None:
    """They know why: it may be on its way back, or another machine may get it."""
    async with (
        issuer(ca) as service,
        _at_a_lost_address(tmp_path, service, may_move=False) as clock,
    ):
        await clock.advance(10 * MOVED_SECONDS)

    assert service.requests == []
