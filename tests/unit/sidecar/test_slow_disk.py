"""A disk that takes its time holds up nobody but who keeps something on it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from control_plane.ca import new_key_pair
from control_plane.clock import SystemClock
from control_plane.settings import SocketAddress
from control_plane.sidecar.app_trust import AppTrust
from control_plane.sidecar.directory import Credentials, SidecarDirectory
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.enrolment.renew import Renewal
from control_plane.sidecar.reports.app_ports import LivePorts
from tests.slow_disk import Disk, busy
from tests.unit.reconciler.clocks import settled
from tests.unit.sidecar.members import authority, credentials, membership
from tests.unit.sidecar.test_report import world
from tests.waiting import eventually

MEMBER = membership(authority("old"))
NEW = credentials(authority("new"), serial=2)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return the disk that files are written to from the moment that the test says so."""
    made = Disk.of(monkeypatch)
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: made.sync(0))
    return made


def is_kept(files: SidecarDirectory, live: LiveCredentials, expected: Credentials) -> bool:
    """Tell whether these credentials are current, and on disk."""
    member = files.read()
    assert member is not None
    wanted = (expected.identity.chain_pem, expected.trust_bundle)
    return live.current == expected and wanted == (
        member.credentials.identity.chain_pem,
        member.credentials.trust_bundle,
    )


def renewed(files: SidecarDirectory) -> Awaitable[None]:
    """Take another identity."""
    live = LiveCredentials(files, MEMBER.credentials)
    return live.renewed(NEW.identity, NEW.trust_bundle, asked=live.current)


async def looked_for_room(files: SidecarDirectory) -> None:
    """Be about to ask for another identity, which has to fit on the disk."""
    live, nobody = LiveCredentials(files, MEMBER.credentials), SocketAddress("127.0.0.1", 1)
    live.renewal_wanted.set()
    await Renewal(nobody, live, new_key=new_key_pair, clock=SystemClock(), draw=lambda: 0.5).run()


def trusted(files: SidecarDirectory) -> Awaitable[None]:
    """Trust another CA."""
    return LiveCredentials(files, MEMBER.credentials).trust(NEW.trust_bundle)


def ports_told(files: SidecarDirectory) -> Awaitable[None]:
    """Learn of other ports."""
    return LivePorts(files, MEMBER.enrollment).follow(8081, [8081])


def trust_of(files: SidecarDirectory) -> AppTrust:
    """Return what keeps the files by which the app trusts our CA."""
    return AppTrust(files, {"PATH": ""}, [str(files.ca_file)], clock=SystemClock())


async def exported(files: SidecarDirectory) -> None:
    """Have the app trust our CA."""
    await trust_of(files).write(MEMBER.credentials.trust_bundle)


def exported_again(files: SidecarDirectory) -> Awaitable[None]:
    """Have the app trust another CA."""
    trust = trust_of(files)
    trust.follow(NEW)
    return trust.run()


@pytest.mark.parametrize(
    "keep", [renewed, looked_for_room, trusted, ports_told, exported, exported_again]
)
async def test_others_have_their_turn_meanwhile(
    tmp_path: Path, disk: Disk, keep: Callable[[SidecarDirectory], Awaitable[None]]
) -> None:
    """The process that keeps its identity, ports and CAs there answers DNS queries, too."""
    files = SidecarDirectory(tmp_path)
    files.write(MEMBER)
    async with busy(disk, keep(files)) as keeping:
        assert not keeping.done()
    keeping.cancel()
    await asyncio.wait([keeping])
    files.close()


async def test_one_change_waits_for_the_other(tmp_path: Path, disk: Disk) -> None:
    """A CA that is told while the disk is busy with a renewal takes back no identity."""
    files = SidecarDirectory(tmp_path)
    files.write(MEMBER)
    live = LiveCredentials(files, MEMBER.credentials)
    asked = live.current
    async with busy(disk, live.renewed(NEW.identity, asked.trust_bundle, asked=asked)) as renewing:
        trusting = asyncio.ensure_future(live.trust(NEW.trust_bundle))
    await asyncio.gather(renewing, trusting)

    assert is_kept(files, live, NEW)
    files.close()


async def test_who_stops_waits_for_no_disk(tmp_path: Path, disk: Disk) -> None:
    """What the control plane has told is being stored, and an instance that stops says so."""
    async with world(tmp_path) as here:

        async def told() -> None:
            here.server.answer_all(bundle=NEW.trust_bundle.decode())

        async with busy(disk, told()):
            await here.reporter.retire()
            await here.reporter.leave()
        assert not disk.is_alone
        first, retired, *_, left = here.server.reports
        assert (first.draining, retired.draining, retired.leaving) == (False, True, False)
        assert left.leaving


async def test_the_last_ca_is_the_one_that_the_app_trusts(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CA that is told while the files are first written is written after the other."""
    begun = []

    def begins(write: Callable[[], object]) -> Awaitable[object]:
        begun.append(write)
        return to_thread(write)

    to_thread = asyncio.to_thread
    files = SidecarDirectory(tmp_path)
    files.write(MEMBER)
    trust = trust_of(files)
    running = asyncio.ensure_future(trust.run())
    async with busy(disk, trust.write(MEMBER.credentials.trust_bundle)) as writing:
        monkeypatch.setattr(asyncio, "to_thread", begins)
        trust.follow(NEW)
        await settled()
        assert not begun
    written = Path((await writing)["SSL_CERT_FILE"])
    await eventually(
        lambda: written.read_bytes().endswith(NEW.trust_bundle), "the other CA is written"
    )
    running.cancel()
    await asyncio.wait([running])
    files.close()


async def test_what_is_current_is_on_disk_though_nobody_waits_any_more(
    tmp_path: Path, disk: Disk
) -> None:
    """A reporter that stops halfway leaves no identity that only Envoy knows."""
    files = SidecarDirectory(tmp_path)
    files.write(MEMBER)
    live = LiveCredentials(files, MEMBER.credentials)
    async with busy(
        disk, live.renewed(NEW.identity, NEW.trust_bundle, asked=live.current)
    ) as renewing:
        renewing.cancel()
        await asyncio.sleep(0)
        assert live.current == MEMBER.credentials
    await asyncio.wait([renewing])

    assert renewing.cancelled()
    assert is_kept(files, live, NEW)
    files.close()
