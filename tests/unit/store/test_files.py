"""Private files: who may read them, and that no crash ever leaves half of one."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from control_plane.app.control_plane import DATABASE_FILE
from control_plane.errors import ConfigurationError, NotDurable, StorageError
from control_plane.settings.retired import CA_FILE
from control_plane.store.files import (
    check_private,
    guarded_directory,
    load_or_create,
    private_directory,
    read_file,
    read_private,
    remove_private,
    why_unwritable,
    write_private,
    write_public,
    write_together,
)
from control_plane.store.lock import LOCK_FILE

CRASH = """
import os, signal, sys
from pathlib import Path
from control_plane.store.files import load_or_create

steps = 0
def crashing(call):
    def wrapper(*args, **kwargs):
        global steps
        step = steps = steps + 1
        if step == int(sys.argv[2]) and sys.argv[3] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call(*args, **kwargs)
        finally:
            if step == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
    return wrapper

for name in ("unlink", "open", "fsync", "rename", "close"):
    setattr(os, name, crashing(getattr(os, name)))
load_or_create(Path(sys.argv[1]), lambda: b"key and certificate" * 10_000)
"""
"""Creates a file, and kills itself before or after one of its system calls."""

WHOLE = b"key and certificate" * 10_000


def crash(path: Path, step: int, moment: str) -> subprocess.CompletedProcess[str]:
    """Create the file in a process that dies before or after a step, if it has that many."""
    return subprocess.run(
        [sys.executable, "-c", CRASH, str(path), str(step), moment],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=Path(__file__).parents[3],
    )


def test_a_crash_at_any_step_leaves_nothing_or_the_whole_file(tmp_path: Path) -> None:
    """Killed before or after each system call, the next start reads the file or creates it.

    What a dead process left beside it is never read, is private, and goes with the next write.
    """
    step = 0
    while True:
        step += 1
        for moment in ("before", "after"):
            path = tmp_path / f"{moment}-{step}" / "ca.pem"
            path.parent.mkdir(mode=0o700)
            done = crash(path, step, moment)
            if done.returncode == 0:
                assert step > 7, "the steps of writing a file were not counted"
                return
            assert done.returncode == -signal.SIGKILL, done.stderr

            for left in path.parent.iterdir():
                assert stat.S_IMODE(left.stat().st_mode) == 0o600
            if path.exists():
                assert read_private(path) == WHOLE
                assert load_or_create(path, lambda: b"another") == WHOLE
            else:
                assert load_or_create(path, lambda: b"another") == b"another"
            write_private(path, b"new")
            assert [each.name for each in path.parent.iterdir()] == ["ca.pem"]
            assert read_private(path) == b"new"


def test_content_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole file is synchronised, then renamed, then its directory is synchronised."""
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synchronise(file: int) -> None:
        found = os.fstat(file)
        directory = stat.S_ISDIR(found.st_mode)
        calls.append("fsync directory" if directory else f"fsync {found.st_size} octets")
        fsync(file)

    def move(source: Path, target: Path) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synchronise)
    monkeypatch.setattr(os, "rename", move)

    write_private(tmp_path / "ca.pem", b"content")

    assert calls == ["fsync 7 octets", "rename", "fsync directory"]


def test_a_file_that_is_removed_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what a crash left beside it; the directory is synchronised once both are gone."""
    path, beside = tmp_path / "ca.pem", tmp_path / "ca.pem.new"
    write_private(path, b"key")
    beside.write_bytes(b"key")
    left: list[list[str]] = []
    fsync = os.fsync

    def synchronise(file: int) -> None:
        left.append(os.listdir(file))
        fsync(file)

    monkeypatch.setattr(os, "fsync", synchronise)

    remove_private(path)
    remove_private(path)

    assert left == [[], []]


def test_a_file_that_cannot_be_removed_is_a_clear_error(tmp_path: Path) -> None:
    """Whoever believed it gone would believe that of its keys."""
    with pytest.raises(StorageError) as caught:
        remove_private(tmp_path)

    assert str(caught.value) == f"file '{tmp_path}' was not removed: Is a directory"


def test_what_is_put_in_the_way_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that appears at the last moment leads no secret to another file."""
    path, elsewhere = tmp_path / "ca.pem", tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    unlink = Path.unlink

    def unlink_and_link(beside: Path, *, missing_ok: bool = False) -> None:
        unlink(beside, missing_ok=missing_ok)
        beside.symlink_to(elsewhere)

    with monkeypatch.context() as racing:
        racing.setattr(Path, "unlink", unlink_and_link)
        with pytest.raises(StorageError, match="File exists"):
            write_private(path, b"key")

    assert elsewhere.read_bytes() == b""
    assert not path.exists()


def test_no_file_is_left_open(tmp_path: Path) -> None:
    """Neither of what was written or read, nor of what was refused."""
    files = Path("/proc/self/fd")
    before = len(list(files.iterdir()))
    path = tmp_path / "ca.pem"

    write_private(path, b"key")
    read_private(path)
    check_private(path)
    path.chmod(0o644)
    for refused in (path, tmp_path):
        with pytest.raises(ConfigurationError):
            read_private(refused)
    remove_private(path)

    assert len(list(files.iterdir())) == before


def test_a_written_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Mode 0600 from the first moment on."""
    old = os.umask(0)
    try:
        write_private(tmp_path / "ca.pem", b"content")
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "ca.pem").stat().st_mode) == 0o600


def test_writing_replaces_what_was_there(tmp_path: Path) -> None:
    """The new content comes whole, in the place of the old."""
    path = tmp_path / "ca.pem"
    write_private(path, b"old, and longer")

    write_private(path, b"new")

    assert read_private(path) == b"new"


def test_a_file_is_created_once(tmp_path: Path) -> None:
    """The second start reads what the first one made."""
    path = tmp_path / "ca.pem"

    assert load_or_create(path, lambda: b"first") == b"first"
    assert load_or_create(path, lambda: b"second") == b"first"


def test_a_directory_that_takes_no_file_is_a_clear_error(tmp_path: Path) -> None:
    """What was there stays, and the sentence says which file and why."""
    path = tmp_path / "missing" / "ca.pem"

    with pytest.raises(StorageError) as caught:
        write_private(path, b"content")

    assert str(caught.value) == f"file '{path}' was not written: No such file or directory"


def test_a_disk_that_is_full_keeps_what_is_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is left beside, what was there stays, and may be "written" again as it is."""
    private, public = tmp_path / "ca.key", tmp_path / "ca.pem"
    write_private(private, b"key")
    write_public(public, b"certificate")

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    write_private(private, b"key")
    write_public(public, b"certificate")
    for path, data in ((private, b"another"), (public, b"another"), (tmp_path / "new", b"key")):
        with pytest.raises(StorageError, match="No space left on device"):
            write_private(path, data)
    with pytest.raises(StorageError, match="No space left on device"):
        write_private(public, b"certificate")  # which others may read

    assert sorted(each.name for each in tmp_path.iterdir()) == ["ca.key", "ca.pem"]
    assert (private.read_bytes(), public.read_bytes()) == (b"key", b"certificate")


def test_files_that_belong_together_are_replaced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk has no room for the last one, all stay as they were, and nothing else is left."""
    key, certificate = tmp_path / "me.key", tmp_path / "me.pem"
    write_together((key, b"old key"), (certificate, b"old certificate"))
    fsync = os.fsync

    def full(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().name == "me.pem.new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    with monkeypatch.context() as filled:
        filled.setattr(os, "fsync", full)
        write_together((key, b"old key"), (certificate, b"old certificate"))
        with pytest.raises(StorageError, match="No space left on device"):
            write_together((key, b"new key"), (certificate, b"new certificate"))

    assert sorted(each.name for each in tmp_path.iterdir()) == ["me.key", "me.pem"]
    assert (read_private(key), certificate.read_bytes()) == (b"old key", b"old certificate")
    write_together((key, b"new key"), (certificate, b"new certificate"))
    assert (read_private(key), certificate.read_bytes()) == (b"new key", b"new certificate")
    assert stat.S_IMODE(certificate.stat().st_mode) == 0o644


def test_a_write_that_may_not_last_is_an_error_whatever_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails is not one that is full: the same content may be gone after a crash."""
    path = tmp_path / "ca.key"
    write_private(path, b"key")

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        write_private(path, b"key")


def test_what_a_crash_may_undo_is_said_to_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory could not be synced: there is the new content, or none, and that is said."""
    path = tmp_path / "ca.key"
    write_private(path, b"key")
    sync = os.fsync

    def fail(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(file)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NotDurable) as written:
        write_private(path, b"another")
    assert path.read_bytes() == b"another"
    with pytest.raises(NotDurable) as removed:
        remove_private(path)
    assert not path.exists()

    assert [str(each.value) for each in (written, removed)] == [
        f"file '{path}' was {what}, but a crash of the machine may undo that: Input/output error"
        for what in ("written", "removed")
    ]


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(tmp_path: Path, mode: int) -> None:
    """Only its owner may read it, and no more is asked."""
    path = tmp_path / "key.pem"
    path.write_bytes(b"key")
    path.chmod(mode)

    check_private(path)
    assert read_private(path) == b"key"


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o660, 0o620, 0o601, 0o700, 0o4600])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """Any other mode than 0600 and 0400 is told with the command that helps."""
    path = tmp_path / "key.pem"
    path.write_bytes(b"key")
    path.chmod(mode)

    sentence = (
        f"file '{path}' cannot be used: it has mode {mode:04o}, not 0600 or 0400: "
        f"run chmod 600 {path}"
    )
    for use in (read_private, check_private):
        with pytest.raises(ConfigurationError) as caught:
            use(path)
        assert caught.value.problems == (sentence,)


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could change it at any time."""
    path = tmp_path / "key.pem"
    write_private(path, b"key")
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    with pytest.raises(ConfigurationError) as caught:
        read_private(path)

    assert caught.value.problems == (
        f"file '{path}' cannot be used: it belongs to user {owner}, not to the one who reads it",
    )


def test_who_may_not_even_open_a_file_of_another_user_is_told_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that root copied back, say; the kernel only says Permission denied."""
    path = tmp_path / "ca.pem"
    write_private(path, b"key")
    owner = path.stat().st_uid
    theirs = f"it belongs to user {owner}, not to the one who reads it"

    def refuse(*_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    for user, reason in ((owner + 1, theirs), (owner, "Permission denied")):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        with pytest.raises(ConfigurationError) as caught:
            read_private(path)
        assert caught.value.problems == (f"file '{path}' cannot be used: {reason}",)


def test_a_symbolic_link_is_followed_to_what_counts(tmp_path: Path) -> None:
    """Mounted secrets are links; the mode of the file itself decides."""
    target, link = tmp_path / "target", tmp_path / "key.pem"
    write_private(target, b"key")
    link.symlink_to(target)
    assert read_private(link) == b"key"

    target.chmod(0o644)
    with pytest.raises(ConfigurationError, match="mode 0644"):
        read_private(link)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A directory, a pipe that nobody writes to, and nothing at all are each told as such."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)

    for path, reason in (
        (tmp_path, "it is no regular file"),
        (pipe, "it is no regular file"),
        (tmp_path / "missing", "No such file or directory"),
    ):
        for read in (read_private, read_file):
            with pytest.raises(ConfigurationError) as caught:
                read(path)
            assert caught.value.problems == (f"file '{path}' cannot be used: {reason}",)


def test_a_file_without_secrets_may_be_anybodys(tmp_path: Path) -> None:
    """A certificate is read whatever the mode of its file."""
    path = tmp_path / "ca.pem"
    path.write_bytes(b"certificate")
    path.chmod(0o644)

    assert read_file(path) == b"certificate"


def test_a_directory_is_made_private(tmp_path: Path) -> None:
    """With its parents, and only for its owner."""
    path = tmp_path / "a" / "data"

    private_directory(path)
    private_directory(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("number", "lack"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EDQUOT, "Disk quota exceeded"),
        (errno.EROFS, "Read-only file system"),
        (errno.EIO, "Input/output error"),
        (errno.EOPNOTSUPP, ""),
        (errno.EINVAL, ""),
        (errno.ENOSYS, ""),
    ],
    ids=errno.errorcode.get,
)
def test_what_cannot_be_written_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, lack: str
) -> None:
    """A file system that reserves nothing may have room all the same."""
    asked: list[tuple[int, int]] = []

    def fail(_file: int, start: int, octets: int) -> None:
        asked.append((start, octets))
        raise OSError(number, os.strerror(number))

    assert why_unwritable(tmp_path, 4096) == ""
    monkeypatch.setattr(os, "posix_fallocate", fail)

    assert why_unwritable(tmp_path, 4096) == lack
    assert asked == [(0, 4096)]
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_new_files_takes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that the kernel made read-only after an error says so when a file is opened."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", fail)

    assert why_unwritable(tmp_path, 4096) == "Read-only file system"


def test_a_guarded_directory_is_made_for_others_to_read_in(tmp_path: Path) -> None:
    """And for nobody else to write to, whatever the umask."""
    path = tmp_path / "data"
    old = os.umask(0)
    try:
        guarded_directory(path)
    finally:
        os.umask(old)

    assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("mode", [0o770, 0o757, 0o1777])
def test_a_directory_that_others_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Whoever may write there could put another CA in the place of ours."""
    path = tmp_path / "my data"
    path.mkdir()
    path.chmod(mode)

    with pytest.raises(ConfigurationError) as caught:
        guarded_directory(path)

    sentence = (
        f"directory '{path}' cannot be used: others may write to it (mode {mode:04o}): "
        f"run chmod go-w '{path}'"
    )
    assert caught.value.problems == (sentence,)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711, 0o770])
def test_a_private_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    """What is private in it is so by its own mode too; where others may read it is no matter."""
    tmp_path.chmod(mode)

    with pytest.raises(ConfigurationError) as caught:
        private_directory(tmp_path)

    sentence = (
        f"directory '{tmp_path}' cannot be used: others may look into it (mode {mode:04o}): "
        f"run chmod 700 {tmp_path}"
    )
    assert caught.value.problems == (sentence,)
    if mode != 0o770:
        guarded_directory(tmp_path)


@pytest.mark.parametrize("ours", [LOCK_FILE, DATABASE_FILE, CA_FILE])
@pytest.mark.parametrize("make", [private_directory, guarded_directory])
def test_nobody_is_told_to_close_a_directory_that_others_use(
    tmp_path: Path, make: Callable[[Path], None], ours: str
) -> None:
    """The command that mends a directory of ours would break /etc, or /tmp for everybody else."""
    tmp_path.chmod(0o777)
    (tmp_path / "of others").touch()

    with pytest.raises(ConfigurationError) as caught:
        make(tmp_path)

    (sentence,) = caught.value.problems
    advice = f"it has other things in it, so name one of its own, such as '{tmp_path}/c2c'"
    assert sentence.endswith(f"(mode 0777): {advice}")
    (tmp_path / ours).touch()
    with pytest.raises(ConfigurationError, match="run chmod"):
        make(tmp_path)


def test_a_directory_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner can put files there whatever its mode."""
    owner = tmp_path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)

    with pytest.raises(ConfigurationError) as caught:
        private_directory(tmp_path)

    assert caught.value.problems == (
        f"directory '{tmp_path}' cannot be used: it belongs to user {owner}",
    )


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    """A file in its place is told as such, and so is a link that leads nowhere."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")

    reasons = {
        "file/data": "Not a directory",
        "file": "what is there is no directory",
        "link": "what is there is no directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(ConfigurationError) as caught:
            private_directory(tmp_path / name)
        assert caught.value.problems == (f"directory '{tmp_path / name}' cannot be used: {reason}",)
