"""What an earlier start is worth when the control plane cannot be asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from control_plane.ca import new_key_pair
from control_plane.settings import SocketAddress
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.join import Joining
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
