"""Which ports of the app a sidecar looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from control_plane.errors import InvalidArgument, StorageError
from control_plane.names import Port
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.reports.app_ports import AppPorts, LivePorts
from tests.unit.sidecar.members import authority, membership

MEMBER = membership(authority())
KNOWN = AppPorts((Port(9090), Port(9091)), Port(9091))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[SidecarDirectory]:
    """Return a directory in which a sidecar has enrolled."""
    made = SidecarDirectory(tmp_path)
    made.write(MEMBER)
    yield made
    made.close()


async def test_what_enrolment_told_counts_until_something_else_is_told(
    directory: SidecarDirectory,
) -> None:
    """An app has to listen where 61443 leads, and is told so; its other ports are looked at."""
    ports = LivePorts(directory, MEMBER.enrollment)
    assert ports.current == KNOWN
    assert (ports.current.needed, ports.current.first) == ((9091,), 9091)

    await ports.follow(8080, [8080])

    assert ports.current == AppPorts((Port(8080),), Port(8080))


async def test_the_next_start_knows_what_was_told_last(directory: SidecarDirectory) -> None:
    """The control plane may be away by then."""
    await LivePorts(directory, MEMBER.enrollment).follow(8081, [8080, 8081])
    member = directory.read()

    assert member is not None
    assert member.credentials.identity.serial == MEMBER.credentials.identity.serial
    assert LivePorts(directory, member.enrollment).current == AppPorts(
        (Port(8080), Port(8081)), Port(8081)
    )


async def test_what_could_not_be_kept_is_kept_when_it_is_told_again(
    directory: SidecarDirectory,
) -> None:
    """A disk that was full for a while leaves no start with the ports of the past."""
    ports = LivePorts(directory, MEMBER.enrollment)
    obstacle = directory.path / "enrollment.json.new"
    obstacle.mkdir()
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(StorageError):
            await ports.follow(8080, [8080])
        assert ports.current == AppPorts((Port(8080),), Port(8080))
        obstacle.rmdir()

        await ports.follow(8080, [8080])

    assert len(logs) == 1
    member = directory.read()
    assert member is not None
    assert member.enrollment.app_ports == (8080,)


async def test_what_is_known_already_is_neither_written_nor_said_again(
    directory: SidecarDirectory,
) -> None:
    """The ports come with each answer of the control plane."""
    ports = LivePorts(directory, MEMBER.enrollment)
    with structlog.testing.capture_logs() as logs:
        await ports.follow(8080, [8080, 8081])
        written = (directory.path / "enrollment.json").stat().st_ino
        await ports.follow(8080, [8080, 8081])

    assert written == (directory.path / "enrollment.json").stat().st_ino
    assert [(each["ports"], each["c2c_port"]) for each in logs] == [((8080, 8081), 8080)]


async def test_ports_that_people_named_stay(directory: SidecarDirectory) -> None:
    """They know better, and mean each of them; nothing is remembered in their place."""
    ports = LivePorts(directory, MEMBER.enrollment, [Port(7000), Port(7001)])

    await ports.follow(8080, [8080])

    assert ports.current == AppPorts((Port(7000), Port(7001)))
    assert (ports.current.needed, ports.current.first) == ((7000, 7001), 7000)
    member = directory.read()
    assert member is not None
    assert member.enrollment == MEMBER.enrollment


async def test_an_older_control_plane_tells_of_no_port(directory: SidecarDirectory) -> None:
    """Then it is the default of apps, as ever, and what is known is not forgotten for it."""
    unknown = LivePorts(directory, replace(MEMBER.enrollment, app_ports=(), c2c_port=0))
    known = LivePorts(directory, MEMBER.enrollment)
    for ports in (unknown, known):
        await ports.follow(0, [])

    assert unknown.current == AppPorts((Port(8080),), Port(8080))
    assert known.current == KNOWN


async def test_what_is_no_port_changes_nothing(directory: SidecarDirectory) -> None:
    """All of it is looked at before any of it counts."""
    ports = LivePorts(directory, MEMBER.enrollment)
    with pytest.raises(InvalidArgument, match="invalid port 70000"):
        await ports.follow(8080, [8080, 70000])

    assert ports.current == KNOWN
