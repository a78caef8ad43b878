"""The client of the name table: what an ACK stands for, and what survives a bad control plane."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.clock import SystemClock
from control_plane.errors import PermissionDenied
from control_plane.names import InstanceGuid
from control_plane.planner.names import NAME_TABLE, NAME_TABLE_TYPE
from control_plane.sidecar.dns.client import (
    RESOURCE_NAME,
    TYPE_URL,
    ChannelFactory,
    NameTableClient,
)
from control_plane.sidecar.dns.saved import SavedTable
from control_plane.sidecar.dns.table import NameTable, labels_of
from tests.dns.control import INSTANCE, control_plane_on
from tests.dns.world import ADDRESSES, APP_B
from tests.waiting import eventually

NAMES = {APP_B: ADDRESSES}


class Followed:
    """A client, and the tables that it put into force."""

    def __init__(
        self, connect: ChannelFactory, file: Path, instance: InstanceGuid = INSTANCE
    ) -> None:
        """Describe a client."""
        self.tables: list[NameTable] = []
        self.client = NameTableClient(
            instance,
            connect,
            apply=self.tables.append,
            saved=SavedTable(file, instance),
            clock=SystemClock(),
            random=Random(1),
        )

    @property
    def versions(self) -> list[str]:
        """The versions that were in force, in order."""
        return [table.version for table in self.tables]


@asynccontextmanager
async def following(
    connect: ChannelFactory, file: Path, instance: InstanceGuid = INSTANCE
) -> AsyncIterator[Followed]:
    """Run a client."""
    followed = Followed(connect, file, instance)
    task = asyncio.create_task(followed.client.run())
    try:
        yield followed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_table_is_in_force_before_it_is_acked(tmp_path: Path) -> None:
    """When the ACK arrives, the table of that version is in force and saved, 50 times in a row."""
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file) as followed:
        in_force: list[str] = []
        saved: list[bytes] = []

        def note() -> None:
            in_force.append(followed.versions[-1])
            saved.append(file.read_bytes())

        control.at_ack = note
        versions = []
        for number in range(1, 51):
            versions.append(control.set({APP_B: [f"10.255.0.{number}"]}))
            await control.acks(number)

    assert control.acked == in_force == versions
    assert all(each.encode() in content for each, content in zip(versions, saved, strict=True))


async def test_a_bad_table_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    """A table with a bad address is NACKed with the reason; the next good one is taken."""
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file) as followed:
        good = control.set(NAMES)
        await control.acks(1)
        control.set({APP_B: ["10.255.0.4", "nonsense"]})
        await control.nacks(1)
        assert control.nacked == ["not an IP address: 'nonsense'"]
        assert followed.versions == [good]
        better = control.set({APP_B: ["10.255.0.9"]})
        await control.acks(2)

    assert control.acked == followed.versions == [good, better]


async def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    """Bytes that are no name table are NACKed."""
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file) as followed:
        control.set_body(b"\xff\xff\xff")
        await control.nacks(1)

    assert control.nacked[0].startswith(f"not a {TYPE_URL}: ")
    assert followed.tables == []


async def test_a_table_of_more_octets_than_grpc_usually_takes_is_followed(tmp_path: Path) -> None:
    """Who may call a thousand instances by a hundred routes is sent more than 4 MiB at once."""
    long = ".".join(["a" * 63, "b" * 63, "c" * 63, "apps.internal"])
    names = {f"{number}.{long}": ["10.255.0.4"] for number in range(20_000)}
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file) as followed:
        version = control.set(names)
        await control.acks(1)

    assert file.stat().st_size > 4 * 2**20
    assert followed.versions == [version]


async def test_a_table_that_is_withdrawn_leaves_its_domains(tmp_path: Path) -> None:
    """Once it has no table any more an instance resolves nothing, and still forwards nothing."""
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file) as followed:
        version = control.set(NAMES)
        await control.acks(1)
        control.withdraw()
        await control.acks(2)

    assert control.acked == [version, None]
    assert followed.tables[-1].names == {}
    assert followed.tables[-1].is_internal(labels_of(APP_B))


async def test_a_table_that_never_was_is_not_withdrawn(tmp_path: Path) -> None:
    """To be told of its absence first changes nothing, and the table is taken when it comes."""
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file) as followed:
        control.withdraw()
        await control.acks(1)
        assert followed.tables == []
        version = control.set(NAMES)
        await control.acks(2)

    assert control.acked == [None, version]
    assert followed.versions == [version]


def test_both_ends_mean_the_same_resource() -> None:
    """What the planner plans for an instance is what its sidecar subscribes to."""
    assert (TYPE_URL, RESOURCE_NAME) == (NAME_TABLE_TYPE, NAME_TABLE)


async def test_each_stream_shows_the_newest_identity(tmp_path: Path) -> None:
    """A stream that the server ends, as it does with those of old identities, is opened anew."""
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file):
        control.set(NAMES)
        for number in range(1, 4):
            await control.acks(number)
            (live,) = control.open
            live.end(PermissionDenied("a newer identity was issued"))
        await control.acks(4)

    assert control.opened_with == [(f"connection-{number}.test",) for number in range(1, 5)]


async def test_the_table_stays_while_the_control_plane_is_away(tmp_path: Path) -> None:
    """A control plane that stops changes nothing; one that comes back is followed again."""
    file = tmp_path / "table"
    async with control_plane_on() as control, following(control.connect, file) as followed:
        version = control.set(NAMES)
        await control.acks(1)
        assert followed.client.connected
        await control.server.__aexit__(None, None, None)
        await eventually(lambda: not followed.client.connected, "the end of the stream")
        assert followed.client.table is followed.tables[-1]
        assert followed.versions == [version]
        async with control_plane_on(control.server.address, control.authority) as next_one:
            newer = next_one.set({APP_B: ["10.255.0.9"]})
            await next_one.acks(1)

    assert next_one.acked == [newer]
    assert followed.versions == [version, newer]


async def test_a_sidecar_that_starts_again_has_its_table_at_once(tmp_path: Path) -> None:
    """Without any control plane the last table is in force, from a file that only we can read."""
    file = tmp_path / "table"
    async with control_plane_on() as control:
        version = control.set(NAMES)
        async with following(control.connect, file) as before:
            await control.acks(1)
            assert control.acked == [version]

    async with following(control.connect, file) as after:
        await eventually(lambda: bool(after.tables), "the saved table")

    assert after.tables == before.tables
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["table"]


async def test_the_table_of_another_instance_is_not_used(tmp_path: Path) -> None:
    """What an instance may resolve is nobody else's: a file of another instance is left alone."""
    file = tmp_path / "table"
    async with control_plane_on() as control:
        control.set(NAMES)
        async with following(control.connect, file):
            await control.acks(1)
        async with following(control.connect, file, InstanceGuid("instance-2")) as other:
            await eventually(lambda: len(control.opened_with) == 2, "the other's stream")

    assert other.tables == []


@pytest.mark.parametrize("rest", [b"", b"\xff\xff", b"\x0a\x01x"])
async def test_a_file_that_cannot_be_read_is_no_table(tmp_path: Path, rest: bytes) -> None:
    """A damaged file costs a warning; the control plane's table is taken as usual."""
    file = tmp_path / "table"
    file.write_bytes(INSTANCE.encode() + b"\n" + rest)
    async with control_plane_on() as control:
        version = control.set(NAMES)
        with capture_logs() as logs:
            async with following(control.connect, file) as followed:
                await control.acks(1)

    assert followed.versions == [version]
    assert logs[0]["event"] == log_events.NAME_TABLE_LOST


async def test_a_table_that_cannot_be_saved_is_used_all_the_same(tmp_path: Path) -> None:
    """A disk that refuses costs a warning, neither the table nor its ACK."""
    file = tmp_path / "absent" / "table"
    async with control_plane_on() as control:
        version = control.set(NAMES)
        with capture_logs() as logs:
            async with following(control.connect, file) as followed:
                await control.acks(1)

    assert followed.versions == [version]
    assert [each["event"] for each in logs] == [
        log_events.NAME_TABLE_APPLIED,
        log_events.NAME_TABLE_UNSAVED,
    ]


async def test_what_could_not_be_replaced_is_not_used_after_a_restart(tmp_path: Path) -> None:
    """Names may have gone with the new table, so a start answers by none rather than by the old."""
    file = tmp_path / "table"
    async with control_plane_on() as control:
        control.set(NAMES)
        async with following(control.connect, file) as followed:
            await control.acks(1)
            (tmp_path / ".table.new").mkdir()  # in the way of the next one
            version = control.set({APP_B: ["10.255.0.9"]})
            await control.acks(2)

    assert followed.versions[-1] == control.acked[-1] == version
    assert SavedTable(file, INSTANCE).load() is None


def test_what_was_begun_is_not_left_beside_the_table(tmp_path: Path) -> None:
    """A write that failed half-way leaves no file in the directory."""
    file = tmp_path / "table"
    (file / "in the way").mkdir(parents=True)

    with pytest.raises(OSError, match="directory"):
        SavedTable(file, INSTANCE).save(b"resource")

    assert [each.name for each in tmp_path.iterdir()] == ["table"]
