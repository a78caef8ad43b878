"""A disk that takes its time holds up nobody but who keeps something on it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.clock import SystemClock
from control_plane.sidecar.app_trust import AppTrust
from control_plane.sidecar.directory import Credentials, SidecarDirectory
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.reports.app_ports import LivePorts
from tests.unit.sidecar.members import authority, credentials, membership

PATIENCE = 10.0
MEMBER = membership(authority("old"))
NEW = credentials(authority("new"), serial=2)


@dataclass(slots=True)
class Disk:
    """A disk that confirms nothing before the test says so."""

    is_asked: threading.Event
    may_confirm: threading.Event
    is_alone: bool = False

    def sync(self, _: int) -> None:
        """Take as long as the test wants."""
        self.is_asked.set()
        self.is_alone = self.is_alone or not self.may_confirm.wait(PATIENCE)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return the disk that files are written to from the moment that the test says so."""
    made = Disk(threading.Event(), threading.Event())
    made.may_confirm.set()
    monkeypatch.setattr(os, "fsync", made.sync)
    return made


@asynccontextmanager
async def busy(disk: Disk, keeping: Awaitable[None]) -> AsyncIterator[asyncio.Future[None]]:
    """Have something be kept that the disk does not confirm before the block ends."""
    disk.is_asked.clear()
    disk.may_confirm.clear()
    task = asyncio.ensure_future(keeping)
    try:
        assert await asyncio.to_thread(disk.is_asked.wait, PATIENCE)
        assert not disk.is_alone, "nobody else had a turn"
        yield task
    finally:
        disk.may_confirm.set()


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


def trusted(files: SidecarDirectory) -> Awaitable[None]:
    """Trust another CA."""
    return LiveCredentials(files, MEMBER.credentials).trust(NEW.trust_bundle)


def ports_told(files: SidecarDirectory) -> Awaitable[None]:
    """Learn of other ports."""
    return LivePorts(files, MEMBER.enrollment).follow(8081, [8081])


def exported(files: SidecarDirectory) -> Awaitable[None]:
    """Have the app trust another CA."""
    trust = AppTrust(files, {"PATH": ""}, [str(files.ca_file)], clock=SystemClock())
    trust.write(MEMBER.credentials.trust_bundle)
    trust.follow(NEW)
    return trust.run()


@pytest.mark.parametrize("keep", [renewed, trusted, ports_told, exported])
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
