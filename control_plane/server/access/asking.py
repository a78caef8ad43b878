"""Changes that operators ask for over TCP, and for which they may have to wait for their turn.

The rule of this module: who asks for a change is an operator when it is decided on, and not only
when the call is let in. Otherwise a change that waited behind a revocation would be made after it.
"""

from __future__ import annotations

from contextvars import ContextVar

from control_plane.errors import Unauthenticated
from control_plane.model.change import Decision
from control_plane.model.operators import REVOKED, is_revoked
from control_plane.model.state import State
from control_plane.registry import Command, Result

_serial: ContextVar[int | None] = ContextVar("serial", default=None)
"""The serial of the certificate by which the running call was let in."""


def let_in(serial: int) -> None:
    """Note by which certificate the running call was let in; on the socket there is none."""
    _serial.set(serial)


def unless_revoked(command: Command[Result]) -> Command[Result]:
    """Return a command of the running call, which refuses if its certificate was revoked."""
    serial = _serial.get()
    if serial is None:
        return command

    def decide(state: State) -> Decision[Result]:
        _refuse(serial, state)
        return command(state)

    return decide


def require_unrevoked(state: State) -> None:
    """Check who makes the running call, just before something is done for it.

    Raises:
        Unauthenticated: its certificate was revoked since it was let in.
    """
    if (serial := _serial.get()) is not None:
        _refuse(serial, state)


def _refuse(serial: int, state: State) -> None:
    if is_revoked(state, serial):
        raise Unauthenticated(REVOKED)
