"""The SQLite store: what is committed is read back, whole or not at all, and only by its owner."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.errors import ConfigurationError, InvalidRequest, StorageError
from control_plane.model.change import Change, merged
from control_plane.model.entities import (
    App,
    AppProtocol,
    DrainingCaller,
    DrainingPort,
    Entity,
    Instance,
    InstanceStatus,
    JoinToken,
    NetworkPolicy,
    OperatorCertificate,
    RouteMapping,
    Tombstone,
    Transport,
)
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import Address, AppGuid, Hostname, InstanceGuid, Port
from control_plane.store import sqlite
from control_plane.store.migrations import STEPS
from control_plane.store.protocol import IssuedRecord
from control_plane.store.sqlite import SqliteStore
from tests.unit.model.test_random_commands import COMMANDS, Command
from tests.unit.model.world import entities_of

A, B = AppGuid("guid-a"), AppGuid("guid-b")
NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
APP = AppSpec("a", org="Ärzte", ports=[9090, 8080], protocol="tcp", ssh=True, c2c_port=9090)
ENTITIES: tuple[Entity, ...] = (
    APP.parse(A),
    AppSpec("w", os="windows", health_check_type="process").parse(B),
    Instance(
        InstanceGuid("a0"),
        A,
        0,
        Address("10.0.0.1"),
        Address("::1"),
        InstanceStatus.GONE,
        has_sidecar=True,
        has_resolver=True,
    ),
    RouteMapping(Hostname("a.apps.internal"), A),
    NetworkPolicy(A, B, Transport.UDP, Port(1), Port(65535)),
    JoinToken("d" * 64, A, NOW, 3, "10.0.0.0/8", "token-1", created_at=NOW, uses=5),
    OperatorCertificate(2**159 + 1, "alice", NOW, NOW, issued_by=2**127, revoked_at=NOW),
    OperatorCertificate(1, "", NOW),
    Tombstone(InstanceGuid("a1"), AppGuid("guid-of-an-app-that-was-deleted"), NOW),
    Tombstone(InstanceGuid("a2"), A, NOW, Address("10.0.0.2"), Address("::2")),
    DrainingPort(A, Port(8080), Port(61001), AppProtocol.HTTP2, NOW),
    DrainingCaller(A, AppGuid("guid-of-an-app-that-was-deleted"), NOW),
)
ISSUED = IssuedRecord(
    instance_guid=InstanceGuid("a0"),
    secret="c2c-cert-and-key",
    version="v1",
    serial=2**159 + 1,
    names=("a0", "a.apps.internal", "10.0.0.1"),
    not_before=NOW,
    not_after=NOW + timedelta(hours=24),
    issuer="ab" * 32,
    sent_digest="cd" * 32,
    unacked=("a.apps.internal",),
)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    """Open a store for a while."""
    store = await SqliteStore.open(path)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the database is; spaces and percent signs are part of some people's paths."""
    return tmp_path / "data %20#?" / "state.db"


def instance(guid: str, address: str, index: int = 0, app: AppGuid = A) -> Instance:
    """Return an instance."""
    return Instance(InstanceGuid(guid), app, index, Address(address), Address("127.0.0.1"))


def app(guid: AppGuid, name: str) -> App:
    """Return an app."""
    return AppSpec(name).parse(guid)


async def read(path: Path) -> State:
    """Return what a new process would start with."""
    async with opened(path) as store:
        return State.of(await store.load())


async def test_everything_comes_back_as_it_was(path: Path) -> None:
    """Every kind of entity, with each of its fields, survives the way to the disk and back."""
    async with opened(path) as store:
        assert await store.load() == []
        await store.commit(Change(ENTITIES))

        assert set(await store.load()) == set(ENTITIES)

    async with opened(path) as again:
        assert set(await again.load()) == set(ENTITIES)


async def test_changes_replace_and_remove_rows(path: Path) -> None:
    """A put takes the place of the row with its key, and a drop takes it away."""
    first, renamed = app(A, "a"), replace(app(A, "z"), ssh=True)
    async with opened(path) as store:
        await store.commit(Change((first, app(B, "b"), *ENTITIES[2:])))
        await store.commit(Change((renamed,), ENTITIES[2:]))

    assert await read(path) == State.of([renamed, app(B, "b")])


async def test_a_batch_may_pass_an_address_around(path: Path) -> None:
    """What matters is where it ends: no order of moves within a transaction offends the disk."""
    a, b, c = instance("a0", "10.0.0.1"), instance("b0", "10.0.0.2", 1), instance("c0", "::3", 2)
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), a, b)))
        await store.commit(
            merged(
                [
                    Change((c,)),
                    Change((replace(a, address=Address("10.0.0.9")),)),
                    Change((replace(c, address=a.address),)),
                    Change((replace(a, address=b.address),), (b,)),
                    Change((instance("d0", "::3", 1),)),
                ]
            )
        )

    moved = [replace(a, address=b.address), replace(c, address=a.address)]
    assert await read(path) == State.of([app(A, "a"), *moved, instance("d0", "::3", 1)])


@settings(max_examples=25)
@given(st.lists(st.lists(COMMANDS, min_size=1, max_size=12), min_size=1, max_size=8))
def test_whatever_commands_come_disk_and_state_agree(batches: list[list[Command]]) -> None:
    """After each batch of random commands the disk has exactly the State that they led to."""

    async def run(path: Path) -> None:
        state = State.of(app(AppGuid(name), name) for name in "abc")
        async with opened(path) as store:
            await store.commit(Change(entities_of(state)))
            for batch in batches:
                changes = []
                for command in batch:
                    try:
                        decision = command(state)
                    except InvalidRequest:
                        continue
                    state = decision.state
                    changes.append(decision.change)
                await store.commit(merged(changes))
                assert State.of(await store.load()) == state

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(run(Path(directory) / "state.db"))


async def test_a_transaction_is_written_whole_or_not_at_all(path: Path) -> None:
    """One row that breaks a reference takes back all that was written with it."""
    stray = RouteMapping(Hostname("x.apps.internal"), AppGuid("nobody"))
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"),)))
        with pytest.raises(StorageError) as caught:
            await store.commit(Change((app(B, "b"), stray)))

        assert str(caught.value) == "the change was not written: FOREIGN KEY constraint failed"
        assert await store.load() == [app(A, "a")]
        await store.commit(Change((app(B, "b"),)))

    assert await read(path) == State.of([app(A, "a"), app(B, "b")])


async def test_a_full_disk_is_a_clear_error_until_there_is_room(path: Path) -> None:
    """What was committed before stays readable, and the store works on once it can."""
    many = tuple(RouteMapping(Hostname(f"h{n}.apps.internal"), A) for n in range(2000))
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"),)))
        await pragma(store, "max_page_count = 1")  # no less than it has already
        with pytest.raises(StorageError) as caught:
            await store.commit(Change(many))

        assert str(caught.value) == "the change was not written: database or disk is full"
        assert await store.load() == [app(A, "a")]
        await pragma(store, "max_page_count = 1000000")
        await store.commit(Change(many))

    assert len((await read(path)).hostnames_of(A)) == 2000


async def pragma(store: SqliteStore, setting: str) -> object:
    """Read or change a setting of the store's one connection."""
    with store._engine.connect() as connection:
        answer = connection.exec_driver_sql(f"PRAGMA {setting}")
        return answer.scalar() if answer.returns_rows else None


async def test_each_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    """A write-ahead log that is synchronised with each transaction, and references that count."""
    async with opened(path) as store:
        assert await pragma(store, "journal_mode") == "wal"
        assert await pragma(store, "synchronous") == 2
        assert await pragma(store, "foreign_keys") == 1


async def test_others_work_while_the_disk_is_waited_for(path: Path) -> None:
    """They are told in the event loop, before the call returns, and not of what SQLite refuses."""
    told: list[threading.Thread] = []

    def meanwhile() -> None:
        told.append(threading.current_thread())

    async with opened(path) as store:
        await store.commit(Change((app(A, "a"),)), meanwhile)
        assert told == [threading.main_thread()]
        with pytest.raises(StorageError):
            await store.commit(Change((app(B, "a"),)), meanwhile)

        assert told == [threading.main_thread()]


async def test_a_cancelled_commit_is_whole_or_nothing_and_blocks_nobody(path: Path) -> None:
    """Whoever stops waiting in the middle of a transaction leaves the store usable."""
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"),)))
        for turns in range(40):
            pair = (app(B, "b"), instance("b0", "10.0.0.2", app=B))
            task = asyncio.create_task(store.commit(Change(pair)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

            written = set(await store.load()) - {app(A, "a")}
            assert written in (set(), set(pair))
            await store.commit(Change((), tuple(reversed(pair))))


async def test_writers_take_turns(path: Path) -> None:
    """Commits and records that are asked for at once are all written."""
    mappings = [RouteMapping(Hostname(f"h{n}.apps.internal"), A) for n in range(20)]
    records = [replace(ISSUED, secret=f"secret-{n}") for n in range(20)]
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), instance("a0", "10.0.0.1"))))
        await asyncio.gather(
            *(store.commit(Change((mapping,))) for mapping in mappings),
            *(store.record_issued([record]) for record in records),
        )

        assert len(await store.issued()) == 20
        assert len(State.of(await store.load()).hostnames_of(A)) == 20


@contextmanager
def hung(store: SqliteStore) -> Iterator[None]:
    """Have a transaction take as long as the block does."""
    ended = threading.Event()
    store._thread.submit(ended.wait)
    try:
        yield
    finally:
        ended.set()


async def test_a_writer_whose_turn_does_not_come_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told in words of ours what is in its way, and the store works on."""
    monkeypatch.setattr(sqlite, "_TURN_SECONDS", 0.05)
    async with opened(path) as store:
        with hung(store), pytest.raises(StorageError) as caught:
            await store.commit(Change((app(A, "a"),)))
        await store.commit(Change((app(B, "b"),)))

    assert str(caught.value) == (
        "the change was not written: what is written before it takes more than 0.05 s"
    )
    assert await read(path) == State.of([app(B, "b")])


async def test_records_of_certificates_come_back_as_they_were(path: Path) -> None:
    """The newest of each secret counts, and a serial number has up to 160 bits."""
    identity = replace(ISSUED, secret="id-cert-and-key", serial=1)
    newer = replace(ISSUED, version="v2", serial=3, names=("a0",))
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), instance("a0", "10.0.0.1"))))
        await store.record_issued([])
        await store.record_issued([ISSUED, identity])
        assert await store.issued() == [ISSUED, identity]

        await store.record_issued([replace(newer, version="never sent"), newer])

    async with opened(path) as again:
        assert await again.issued() == [newer, identity]


async def test_a_record_is_written_with_its_change_or_not_at_all(path: Path) -> None:
    """Whoever enrols is an instance with the record of its first identity, or neither is there."""
    stray = RouteMapping(Hostname("x.apps.internal"), AppGuid("nobody"))
    entities = (app(A, "a"), instance("a0", "10.0.0.1"))
    async with opened(path) as store:
        with pytest.raises(StorageError):
            await store.commit(Change((*entities, stray)), records=[ISSUED])
        await store.commit(Change(entities))
        assert await store.issued() == []

        newer = replace(ISSUED, serial=2)
        await store.commit(Change((app(B, "b"),)), records=[ISSUED, newer])

    async with opened(path) as again:
        assert await again.issued() == [newer]


async def test_records_go_with_their_instance_and_not_before(path: Path) -> None:
    """A changed instance keeps them; a removed one has none, also if it is registered again."""
    held = instance("a0", "10.0.0.1")
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), held)))
        await store.record_issued([ISSUED, replace(ISSUED, instance_guid=InstanceGuid("a9"))])
        await store.commit(Change((replace(held, status=InstanceStatus.READY),)))
        assert await store.issued() == [ISSUED]

        await store.commit(Change((), (held,)))
        assert await store.issued() == []
        await store.commit(Change((held,)))
        assert await store.issued() == []


async def test_nothing_is_recorded_of_an_instance_that_is_not_there(path: Path) -> None:
    """A record that came after its instance was removed would stay, as nothing else removes it."""
    late = replace(ISSUED, instance_guid=InstanceGuid("a9"))
    there, gone = instance("a0", "10.0.0.1"), instance("a9", "10.0.0.9")
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), there), (gone,)), None, [late])
        await store.record_issued([ISSUED, late])
        assert _recorded(path) == [there.guid]

        await store.commit(Change((app(B, "b"),)), records=[late])
        assert _recorded(path) == [there.guid]


async def test_records_of_nobody_are_gone_after_a_start(path: Path) -> None:
    """An older release left them when it removed an instance just before it wrote them."""
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), instance("a0", "10.0.0.1"))))
        await store.record_issued([ISSUED])
    with closing(sqlite3.connect(path)) as by_hand:
        by_hand.execute(
            "INSERT INTO issued_certificates SELECT 'a9', secret, version, serial, names, "
            "not_before, not_after, issuer, chain, unacked FROM issued_certificates"
        )
        by_hand.commit()
    assert _recorded(path) == ["a0", "a9"]
    async with opened(path):
        pass

    assert _recorded(path) == ["a0"]


def _recorded(path: Path) -> list[str]:
    """Return of which instances the database has records."""
    with closing(sqlite3.connect(path)) as by_hand:
        rows = by_hand.execute("SELECT instance_guid FROM issued_certificates ORDER BY 1")
        return [guid for (guid,) in rows]


async def test_every_file_is_private(path: Path) -> None:
    """The database, SQLite's files beside it, and the lock: mode 0600, whatever the umask."""
    old = os.umask(0)
    try:
        async with opened(path) as store:
            await store.commit(Change((app(A, "a"),)))
            modes = {each.name: each.stat().st_mode for each in path.parent.iterdir()}
    finally:
        os.umask(old)

    assert set(modes) == {"state.db", "state.db-wal", "state.db-shm", "lock"}
    assert {stat.S_IMODE(mode) for mode in modes.values()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_database_that_others_may_read_is_refused(path: Path) -> None:
    """It has hashes of join tokens, and whoever can write it decides who may talk to whom."""
    async with opened(path):
        path.chmod(0o644)

    with pytest.raises(ConfigurationError, match="it has mode 0644, not 0600 or 0400"):
        await SqliteStore.open(path)
    path.chmod(0o600)
    async with opened(path):
        pass


async def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """Nothing is created there."""
    tmp_path.chmod(0o755)

    with pytest.raises(ConfigurationError, match=f"run chmod 700 {tmp_path}"):
        await SqliteStore.open(tmp_path / "state.db")

    assert list(tmp_path.iterdir()) == []


HINT = "restore it from a backup, or move it away to start with nothing"


async def test_a_file_that_is_no_database_is_told_as_damaged(path: Path) -> None:
    """The sentence names the file, what is wrong with it, and what to do."""
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"this is not a database" * 100)
    path.chmod(0o600)

    with pytest.raises(ConfigurationError) as caught:
        await SqliteStore.open(path)

    assert caught.value.problems == (
        f"state database '{path}' is damaged (file is not a database): {HINT}",
    )


async def test_a_database_with_broken_pages_is_told_as_damaged(path: Path) -> None:
    """It is looked through when it is opened, not when somebody needs the row."""
    many = tuple(RouteMapping(Hostname(f"h{n}.apps.internal"), A) for n in range(2000))
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), *many)))
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8192)

    with pytest.raises(ConfigurationError) as caught:
        await SqliteStore.open(path)

    assert caught.value.problems[0].startswith(f"state database '{path}' is damaged (")
    assert caught.value.problems[0].endswith(HINT)


async def test_a_damage_that_no_query_meets_is_told_as_such(path: Path) -> None:
    """SQLite's own check finds what would only come out once more is written."""
    async with opened(path) as store:
        await store.commit(Change(ENTITIES))
    with path.open("r+b") as file:
        file.seek(36)  # of the header: the number of pages that are free (sqlite.org/fileformat2)
        file.write((5).to_bytes(4))

    with pytest.raises(ConfigurationError) as caught:
        await SqliteStore.open(path)

    assert "should be 5" in caught.value.problems[0]
    assert caught.value.problems[0].endswith(HINT)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (
            "DELETE FROM apps WHERE os = 'windows'",
            "a row of network_policies refers to one of apps that is missing",
        ),
        (
            "UPDATE apps SET protocol = 'h3'",
            "a row cannot be read: 'h3' is not a valid AppProtocol",
        ),
        (
            "UPDATE join_tokens SET expires_at = 'soon'",
            "a row cannot be read: Invalid isoformat string: 'soon'",
        ),
        ("UPDATE apps SET ports = '8'", "a row cannot be read: 'int' object is not iterable"),
        ("UPDATE apps SET ports = '{'", "a row cannot be read: "),
        ("UPDATE schema_version SET version = 'x'", "the version of its schema is x"),
        ("UPDATE schema_version SET version = -1", "the version of its schema is -1"),
        ("INSERT INTO schema_version VALUES (2)", f"the version of its schema is {len(STEPS)}, 2"),
        ("DELETE FROM schema_version", "the version of its schema is missing"),
        ("UPDATE schema_version SET version = 1", "duplicate column name: chain"),
        ("DROP TABLE tombstones", "no such table: tombstones"),
        ("ALTER TABLE apps DROP COLUMN ssh", "no such column: apps.ssh"),
    ],
)
async def test_a_row_that_makes_no_sense_is_told_as_damaged(
    path: Path, statement: str, reason: str
) -> None:
    """Whatever somebody did to the file by hand, the start fails with a sentence."""
    async with opened(path) as store:
        await store.commit(Change(ENTITIES))
    by_hand = sqlite3.connect(path)
    with by_hand:
        by_hand.execute(statement)
    by_hand.close()

    with pytest.raises(ConfigurationError) as caught:
        await read(path)

    assert caught.value.problems[0].startswith(f"state database '{path}' is damaged ({reason}")


async def test_a_locked_database_is_not_told_as_damaged(path: Path) -> None:
    """Nobody should move away a file because a backup is being taken of it."""
    async with opened(path) as store:
        await store.commit(Change(ENTITIES))
        await pragma(store, "busy_timeout = 10")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigurationError) as caught:
            await store.load()
        other.close()

        assert caught.value.problems == (
            f"state database '{path}' cannot be used: database is locked",
        )
        assert set(await store.load()) == set(ENTITIES)


async def test_a_directory_has_one_process_at_a_time(path: Path) -> None:
    """The second one is told which process is in its way, and the lock ends with its holder."""
    async with opened(path):
        with pytest.raises(ConfigurationError) as caught:
            await SqliteStore.open(path.with_name("other.db"))
        other = open_elsewhere(path)

        sentence = (
            f"directory '{path.parent}' is in use by process {os.getpid()}: "
            "stop that one, or choose another directory"
        )
        assert caught.value.problems == (sentence,)
        assert f"is in use by process {os.getpid()}" in other.stderr

    assert open_elsewhere(path).returncode == 0


def open_elsewhere(path: Path) -> subprocess.CompletedProcess[str]:
    """Open the store in another process."""
    script = (
        "import asyncio, sys; from pathlib import Path\n"
        "from control_plane.store.sqlite import SqliteStore\n"
        "async def main():\n"
        "    await (await SqliteStore.open(Path(sys.argv[1]))).close()\n"
        "asyncio.run(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).parents[3],
    )


async def test_a_failed_start_gives_up_the_directory(path: Path) -> None:
    """Who repairs the file can start at once."""
    path.parent.mkdir(mode=0o700)
    path.write_bytes(b"this is not a database" * 100)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError):
        await SqliteStore.open(path)
    path.unlink()

    async with opened(path) as store:
        assert await store.load() == []


async def test_a_lock_that_cannot_be_made_is_a_clear_error(path: Path) -> None:
    """A directory in the lock's place is told as such."""
    path.parent.mkdir(mode=0o700)
    (path.parent / "lock").mkdir()

    with pytest.raises(ConfigurationError) as caught:
        await SqliteStore.open(path)

    assert caught.value.problems == (f"directory '{path.parent}' cannot be used: Is a directory",)


async def test_a_lock_that_cannot_be_written_is_a_clear_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is left open, what an earlier process wrote stays, and the next try may succeed."""
    path.parent.mkdir(mode=0o700)
    lock = path.parent / "lock"
    lock.write_text("4194304\n")
    files = Path("/proc/self/fd")
    before = len(list(files.iterdir()))

    def full(_file: int, _line: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ConfigurationError) as caught:
            await SqliteStore.open(path)

    assert caught.value.problems == (
        f"directory '{path.parent}' cannot be used: No space left on device",
    )
    assert lock.read_text() == "4194304\n"
    assert len(list(files.iterdir())) == before
    async with opened(path):
        assert lock.read_text() == f"{os.getpid()}\n"


async def test_no_hash_of_a_token_is_in_an_error(path: Path) -> None:
    """Neither the sentence nor the traceback behind it shows what was to be written."""
    of_nobody = JoinToken("5ec12e7" * 9, AppGuid("nobody"), NOW, 1)
    many = tuple(JoinToken(f"{n:08x}{'5ec12e7' * 8}", A, NOW, 1) for n in range(2000))
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"),)))
        with pytest.raises(StorageError) as dangling:
            await store.commit(Change((of_nobody,)))
        await pragma(store, "max_page_count = 1")
        with pytest.raises(StorageError) as full:
            await store.commit(Change(many))

    assert "INSERT INTO join_tokens" in "".join(traceback.format_exception(full.value))
    for error in (dangling.value, full.value):
        assert "5ec12e7" not in "".join(traceback.format_exception(error))


async def test_five_thousand_instances_are_read_back(path: Path) -> None:
    """A fleet fits, and comes back in one piece."""
    fleet = [instance(f"i{n}", f"10.0.{n >> 8}.{n & 255}", n) for n in range(5000)]
    async with opened(path) as store:
        await store.commit(Change((app(A, "a"), *fleet)))

        assert len(State.of(await store.load()).instances_of(A)) == 5000
