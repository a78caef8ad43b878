"""Why a database cannot be used, in one sentence that says what to do.

The rule of this module: a database that may still be intact is never called damaged, because people
are told to move a damaged one away. A database that no start could use is always called damaged,
whatever made it so.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from sqlalchemy.exc import OperationalError, SQLAlchemyError, StatementError

from control_plane.errors import ConfigurationError
from control_plane.store.files import why_unwritable

ROOM = 128 * 1024
"""How many octets SQLite may need beside the database to open it: for its log and shared memory."""


def unusable(path: Path, error: SQLAlchemyError) -> ConfigurationError:
    """Return the error that SQLite's error means for a database."""
    if not _may_be_fine(error):
        return damaged(path, reason_of(error))
    problem = f"state database {str(path)!r} cannot be used: {reason_of(error)}"
    # If a disk has no room for its shared memory, SQLite calls that an I/O error.
    if obstacle := why_unwritable(path.parent, ROOM):
        problem += f" ({obstacle}): mend that, and start again"
    return ConfigurationError([problem])


def damaged(path: Path, reason: str) -> ConfigurationError:
    """Return the error for a damaged database."""
    problem = (
        f"state database {str(path)!r} is damaged ({reason}): restore it from a "
        "backup, or move it away to start with nothing"
    )
    return ConfigurationError([problem])


def reason_of(error: SQLAlchemyError) -> str:
    """Return what SQLite said, without the statement around it."""
    return str(error.orig) if isinstance(error, StatementError) else str(error)


def _may_be_fine(error: SQLAlchemyError) -> bool:
    """Tell whether it is an obstacle (locked, full, read-only), and the database may be intact.

    SQLITE_ERROR is no such obstacle: it means that a statement does not fit the tables that are
    there.
    """
    if not isinstance(error, OperationalError):
        return False
    return getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
