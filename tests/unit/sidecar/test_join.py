"""What an earlier start is worth when the control plane cannot be asked."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from control_plane.ca import new_key_pair
from control_plane.errors import ConfigurationError, StorageError
from control_plane.names import Address
from control_plane.settings import SocketAddress
from control_plane.sidecar import directory as module
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.enrolment.join import Joining
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.retry import Retry
from tests.unit.reconciler.clocks import ManualClock
from tests.unit.sidecar.members import ADDRESS, authority, membership
from tests.waiting import eventually

NOWHERE = SocketAddress("no-such-host.invalid", 18001)


async def test_an_address_that_the_machine_has_no_more_is_not_kept(tmp_path: Path) -> None:
    """An instance that has moved starts no Envoy before it knows where it is."""
    directory = SidecarDirectory(tmp_path)
    member = membership(authority())
    assert member.credentials.identity.address == ADDRESS  # of a network that is not here
    directory.write(member)
    options = SidecarOptions(server=NOWHERE, directory=tmp_path)
    retry = Retry(ManualClock(), lambda: 0.5)
    with structlog.testing.capture_logs() as logs:
        joining = asyncio.create_task(
            Joining(options, directory, retry=retry, new_key=new_key_pair).join()
        )
        await eventually(lambda: logs, "the first attempt failed")
        joining.cancel()
        await asyncio.gather(joining, return_exceptions=True)

    assert [each["what"] for each in logs] == ["find the own address"]


@pytest.mark.parametrize(
    ("later", "objection"),
    [
        (timedelta(days=-1), r"it begins at 2026-01-01T1\S+, {here}: set the clock"),
        (timedelta(days=1), r"it ended at 2026-01-02T\S+, {here}"),
    ],
)
async def test_an_identity_of_another_time_is_said_so(
    tmp_path: Path, later: timedelta, objection: str
) -> None:
    """Where there is no token either, the sidecar ends with that and with what its clock says."""
    directory, clock = SidecarDirectory(tmp_path), ManualClock()
    directory.write(membership(authority()))
    clock.set(later)
    options = SidecarOptions(server=NOWHERE, directory=tmp_path)
    retry = Retry(clock, lambda: 0.5)
    with pytest.raises(ConfigurationError) as refused:
        await Joining(options, directory, retry=retry, new_key=new_key_pair).join()

    here = rf"and the clock of this machine says {clock.now():%Y-%m-%dT%H:%M:%SZ}"
    assert re.fullmatch(
        rf"identity in '{tmp_path}' cannot be used, and there is no join token for another \(c2c "
        rf"join-token\): {objection.format(here=here)}",
        str(refused.value),
    )


async def test_a_token_that_is_left_over_is_in_no_way(tmp_path: Path) -> None:
    """Where no CA is named with it, the identity is not of another control plane."""
    directory, before = SidecarDirectory(tmp_path), membership(authority())
    nobody = replace(before.enrollment, xds_port=1)
    directory.write(replace(before, enrollment=nobody))
    options = SidecarOptions(
        server=SocketAddress("127.0.0.1", 1),
        directory=tmp_path,
        address=Address(ADDRESS),
        app_address=Address("127.0.0.1"),
        token="c2cjt_spent",
    )
    retry = Retry(ManualClock(), lambda: 0.5)

    joined = await Joining(options, directory, retry=retry, new_key=new_key_pair).join()

    kept = directory.read()
    assert kept is not None
    for each in (joined, kept):
        assert each.enrollment == nobody
        assert each.credentials.identity.serial == before.credentials.identity.serial


@pytest.mark.parametrize("app_address", ["127.0.0.1", "127.0.0.2"])
async def test_a_full_disk_keeps_who_has_not_moved_at_its_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app_address: str
) -> None:
    """What is on the disk counts, unless it says that the instance is where it is no more."""
    directory, ours = SidecarDirectory(tmp_path), authority()
    before = membership(ours)
    directory.write(before)

    monkeypatch.setattr(module, "why_unwritable", lambda *_: "No space left on device")
    options = SidecarOptions(
        server=NOWHERE,
        directory=tmp_path,
        address=Address(ADDRESS),
        app_address=Address(app_address),
    )
    retry = Retry(ManualClock(), lambda: 0.5)
    joining = Joining(options, directory, retry=retry, new_key=new_key_pair)
    with structlog.testing.capture_logs() as logs:
        if app_address != before.enrollment.app_address:
            with pytest.raises(StorageError):
                await joining.join()
            return
        kept = await joining.join()

    assert kept.credentials.identity.serial == before.credentials.identity.serial
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("identity.renewal_failed", "error")
    ]
