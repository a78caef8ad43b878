"""Files that only their owner may read, written so that a crash never leaves half of one.

The rule of this module: a private file is read only if it has mode 0600 or 0400 and belongs to the
user who runs this process; otherwise the error names the command that mends it. A file is written
whole beside its place and then renamed into it. So under its name there is, at any moment, either
nothing, the old content, or the new content; what a crash leaves beside it is removed with the next
write, and with the file. Content that belongs together, such as a key and its certificate, goes
into one file, so that no crash can separate it.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from control_plane.errors import ConfigurationError, NotDurable, StorageError
from control_plane.store.lock import LOCK_FILE

_PRIVATE_MODES = (0o600, 0o400)
_WRITABLE_BY_OTHERS = 0o022
_OPEN_TO_OTHERS = 0o077
_OURS = (LOCK_FILE, "c2c.db", "ca.pem")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOTHING_RESERVED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""The errors of a file system that cannot reserve room, although it may have enough."""


def read_file(path: Path) -> bytes:
    """Return the content of a file that has no secrets; symbolic links are followed.

    Raises:
        ConfigurationError: there is no such file, or it cannot be read.
    """
    with _open_file(path) as stream:
        return stream.read()


def read_private(path: Path) -> bytes:
    """Return the content of a private file; symbolic links are followed.

    Raises:
        ConfigurationError: there is no such file, or others own it or may read it.
    """
    with _open_private(path) as stream:
        return stream.read()


def check_private(path: Path) -> None:
    """Check that a file is private.

    Raises:
        ConfigurationError: there is no such file, or others own it or may read it.
    """
    _open_private(path).close()


def write_private(path: Path, data: bytes) -> None:
    """Put a private file in its place, as a whole, and replace what was there.

    When this returns, the content survives a crash of the machine.

    Raises:
        StorageError: the file was not written, and what was there is still there. A full disk is no
            reason for this error if the content is the same.
        NotDurable: the file was written, but may be gone after a crash of the machine.
    """
    _write((path, data, 0o600))


def write_public(path: Path, data: bytes) -> None:
    """Do the same with a file that everybody who can enter its directory may read.

    Raises:
        StorageError: likewise.
    """
    _write((path, data, 0o644))


def write_together(private: tuple[Path, bytes], *public: tuple[Path, bytes]) -> None:
    """Do both with files that belong together: if the disk is full, none of them is replaced.

    Raises:
        StorageError: likewise.
    """
    _write((*private, 0o600), *((*each, 0o644) for each in public))


def remove_private(path: Path) -> None:
    """Remove a file; when this returns, it stays removed even if the machine crashes.

    Raises:
        StorageError: the file was not removed.
        NotDurable: the file was removed, but may be back after a crash of the machine.
    """
    try:
        _beside(path).unlink(missing_ok=True)  # it may have the same secrets
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"file {str(path)!r} was not removed: {error.strerror}") from error
    try:
        _sync_directory(path.parent)
    except OSError as error:
        raise _not_durable(path, "removed", error) from error


def load_or_create(path: Path, create: Callable[[], bytes]) -> bytes:
    """Return the content of a private file, which is created first if there is none.

    If two processes may create the same file at once, they have to hold the lock of its directory.

    Raises:
        ConfigurationError: there is a file, but it may not be read.
        StorageError: the new file was not written.
    """
    if not os.path.lexists(path):
        write_private(path, create())
    return read_private(path)


def private_directory(path: Path) -> None:
    """Make sure of a directory that is closed to all other users.

    Raises:
        ConfigurationError: others own it or may enter it, or it cannot be made.
    """
    mode = _own_directory(path, 0o700)
    if mode & _OPEN_TO_OTHERS:
        raise _open_directory(path, mode, "may look into it", "700")


def guarded_directory(path: Path) -> None:
    """Make sure of a directory that other users may read, but not put or replace files in.

    Raises:
        ConfigurationError: others own it or may write to it, or it cannot be made.
    """
    mode = _own_directory(path, 0o755)
    if mode & _WRITABLE_BY_OTHERS:
        raise _open_directory(path, mode, "may write to it", "go-w")


def why_unwritable(directory: Path, octets: int) -> str:
    """Return the system's reason why so much cannot be written in a directory; "" if it can.

    The reason may be a lack of room, or anything else, as on a file system that became read-only.
    """
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            os.posix_fallocate(file.fileno(), 0, octets)
    except OSError as error:
        if error.errno not in _NOTHING_RESERVED:
            return error.strerror or str(error)
    return ""


def _beside(path: Path) -> Path:
    """Return the path at which the content of a file is written before it is renamed."""
    return path.with_name(f"{path.name}.new")


def _write(*files: tuple[Path, bytes, int]) -> None:
    path = files[0][0]
    try:
        for path, data, mode in files:
            _put_beside(path, data, mode)
        for path, _, _ in files:
            _beside(path).rename(path)
    except OSError as error:
        for each, _, _ in files:
            with suppress(OSError):
                _beside(each).unlink()  # even a full disk has room for an empty file
        if error.errno in _FULL and all(_is_there(*each) for each in files):
            return
        raise StorageError(f"file {str(path)!r} was not written: {error.strerror}") from error
    try:
        for directory in {each.parent for each, _, _ in files}:
            _sync_directory(directory)
    except OSError as error:
        raise _not_durable(path, "written", error) from error


def _put_beside(path: Path, data: bytes, mode: int) -> None:
    beside = _beside(path)
    beside.unlink(missing_ok=True)  # a process that crashed may have left it
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as stream:
        os.fchmod(file, mode)
        stream.write(data)
        stream.flush()
        os.fsync(file)


def _is_there(path: Path, data: bytes, mode: int) -> bool:
    """Tell whether a file has this content already, so that a full disk does not matter."""
    with suppress(OSError):
        return path.read_bytes() == data and stat.S_IMODE(path.stat().st_mode) == mode
    return False


def _own_directory(path: Path, mode: int) -> int:
    """Return the mode of a directory of ours; if there is none, it is made with the given mode."""
    try:
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        found = path.stat()
    except FileExistsError as error:
        raise _unusable(path, "what is there is no directory", kind="directory") from error
    except OSError as error:
        raise _unusable(path, error.strerror, kind="directory") from error
    if found.st_uid != os.geteuid():
        raise _unusable(path, f"it belongs to user {found.st_uid}", kind="directory")
    return stat.S_IMODE(found.st_mode)


def _open_private(path: Path) -> BinaryIO:
    stream = _open_file(path)
    try:
        _check_status(path, os.fstat(stream.fileno()))
    except ConfigurationError:
        stream.close()
        raise
    return stream


def _open_file(path: Path) -> BinaryIO:
    try:
        # Without O_NONBLOCK a named pipe in the file's place would stop us for ever.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise _unusable(path, _of_others(path, error) or error.strerror) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _unusable(path, "it is no regular file")
    return os.fdopen(file, "rb")


def _of_others(path: Path, error: OSError) -> str:
    """Return that a file cannot be opened since another user owns it; "" if that is not why.

    This happens if root copies a backup, and the service that is to start on it runs as another
    user.
    """
    with suppress(OSError):
        if error.errno == errno.EACCES and (owner := path.stat().st_uid) != os.geteuid():
            return _belongs_to(owner)
    return ""


def _belongs_to(owner: int) -> str:
    return f"it belongs to user {owner}, not to the one who reads it"


def _check_status(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise _unusable(path, _belongs_to(found.st_uid))
    mode = stat.S_IMODE(found.st_mode)
    if mode not in _PRIVATE_MODES:
        mend = f"chmod 600 {shlex.quote(str(path))}"
        raise _unusable(path, f"it has mode {mode:04o}, not 0600 or 0400: run {mend}")


def _sync_directory(path: Path) -> None:
    """Make a rename in a directory survive a crash of the machine."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _not_durable(path: Path, what: str, error: OSError) -> NotDurable:
    return NotDurable(
        f"file {str(path)!r} was {what}, but a crash of the machine may undo that: {error.strerror}"
    )


def _open_directory(path: Path, mode: int, what: str, change: str) -> ConfigurationError:
    mend = f"run chmod {change} {shlex.quote(str(path))}"
    if not _is_for_us(path):
        # To run that command on /etc or /tmp would do harm.
        mend = f"it has other things in it, so name one of its own, such as {str(path / 'c2c')!r}"
    return _unusable(path, f"others {what} (mode {mode:04o}): {mend}", kind="directory")


def _is_for_us(path: Path) -> bool:
    """Tell whether a directory is empty, or has what an earlier start or a backup left there."""
    with suppress(OSError):
        return any((path / each).is_file() for each in _OURS) or not any(path.iterdir())
    return False


def _unusable(path: Path, reason: str | None, *, kind: str = "file") -> ConfigurationError:
    return ConfigurationError([f"{kind} {str(path)!r} cannot be used: {reason}"])
