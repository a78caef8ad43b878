"""How a setting that is a path is read.

The rule of this module: a path that is returned is absolute and text, so that it is the same
wherever it is used, and can be written into any output.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from control_plane.errors import InvalidArgument
from control_plane.names import is_text, shown
from control_plane.settings.values import read_text


def read_path(value: object) -> Path:
    """Return an absolute path; relative paths start at the working directory, ``~`` is the home."""
    text = read_text(value)
    try:
        path = Path(text).expanduser().absolute()
    except RuntimeError:
        raise InvalidArgument(
            f"path has no home directory to begin at, name it from / on: {shown(text)}"
        ) from None
    except OSError:  # the working directory was removed
        raise InvalidArgument(
            f"path has no working directory to begin at, name it from / on: {shown(text)}"
        ) from None
    # Certificates, configurations and gRPC, to which paths are passed, accept nothing else.
    if not is_text(str(path)) or "\0" in text:
        raise InvalidArgument(f"path must be UTF-8 text without NUL: {shown(str(path))}")
    return path


def read_directory(value: object) -> Path:
    """Return the path of a directory, or of one that can be made."""
    path = read_path(value)
    with suppress(OSError):  # no permission to look: the code that uses it will find out
        if path.exists() and not path.is_dir():
            raise InvalidArgument(f"not a directory: {shown(str(path))}")
    return path


def read_file_path(value: object) -> Path:
    """Return the path of a file that exists."""
    path = read_path(value)
    if reason := why_no_file(path):
        raise InvalidArgument(f"{reason}: {shown(str(path))}")
    return path


def why_no_file(path: Path) -> str:
    """Return why there is no regular file; "" if there is one.

    A file may be read more than once, so the pipe of <(command) will not do.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "file not found"
    except OSError as error:
        return error.strerror or str(error)
    return "" if stat.S_ISREG(mode) else "no regular file"
