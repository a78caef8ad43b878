"""Why a database cannot be used, in one sentence that says what to do.

The rule of this module: a database that may be as good as ever is never called damaged, since
people are told to move a damaged one away. One that no start could use always is, whatever made it
so.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy.exc import OperationalError, SQLAlchemyError, StatementError

from control_plane.errors import ConfigurationError
from control_plane.store.files import why_unwritable

ROOM = 128 * 1024
"""Octets that SQLite may need beside the database to open it: its log and its shared memory."""


def unusable(path: Path, error: SQLAlchemyError) -> ConfigurationError:
    """Return what SQLite's error means for a database."""
    if not _may_be_fine(error):
        return damaged(path, reason_of(error))
    problem = f"state database {str(path)!r} cannot be used: {reason_of(error)}"
    # SQLite calls a disk without room for its shared memory one that has an I/O error.
    if obstacle := why_unwritable(path.parent, ROOM):
        problem += f" ({obstacle}): mend that, and start again"
    return ConfigurationError([problem])


def damaged(path: Path, reason: str) -> ConfigurationError:
    """Return that a database is damaged."""
    problem = (
        f"state database {str(path)!r} is damaged ({reason}): restore it from a "
        "backup, or move it away to start with nothing"
    )
    return ConfigurationError([problem])


def reason_of(error: SQLAlchemyError) -> str:
    """Return what SQLite said, without the statement around it."""
    return str(error.orig) if isinstance(error, StatementError) else str(error)


def _may_be_fine(error: SQLAlchemyError) -> bool:
    """Tell whether something is in the way (locked, full, read-only) of what may be fine.

    SQLITE_ERROR is none of these: a statement does not fit the tables that are there.
    """
    if not isinstance(error, OperationalError):
        return False
    return getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
