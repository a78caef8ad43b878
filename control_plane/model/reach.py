"""Which apps a change concerns; this follows from which app may call which.

The rule of this module: an app's resources depend on the app, on the addresses of the apps that may
connect to it (its listeners admit them), and on the routes and addresses of the apps that it may
connect to (its name table lists them). Nothing else reaches across apps, so a change to an app
concerns its neighbours and no app further away.
"""

from __future__ import annotations

from control_plane.errors import FailedPrecondition, NotFound
from control_plane.model.entities import App, OperatingSystem
from control_plane.model.state import State
from control_plane.names import AppGuid, shown

NOT_ON_WINDOWS = "container-to-container networking is not available for apps hosted on Windows"
"""The sentence of Cloud Foundry's announcement."""


def callers(state: State, app: AppGuid) -> frozenset[AppGuid]:
    """Return the app and those that may connect to it: all whose name tables list its routes."""
    return frozenset({app, *(policy.source for policy in state.policies_to(app))})


def neighbours(state: State, app: AppGuid) -> frozenset[AppGuid]:
    """Return the app and those at the other end of its policies, which its addresses concern."""
    return callers(state, app) | {policy.destination for policy in state.policies_from(app)}


def require_app(state: State, guid: AppGuid, *, field: str = "app") -> App:
    """Return the app with this GUID.

    Raises:
        NotFound: there is none.
    """
    app = state.app(guid)
    if app is None:
        raise NotFound(f"app {shown(guid)} not found", field=field)
    return app


def require_networking(state: State, guid: AppGuid, *, field: str = "app") -> App:
    """Return the app with this GUID, if it may take part in container-to-container networking.

    Raises:
        NotFound: there is none.
        FailedPrecondition: its containers run Windows.
    """
    app = require_app(state, guid, field=field)
    if app.os is OperatingSystem.WINDOWS:
        raise FailedPrecondition(NOT_ON_WINDOWS, field=field)
    return app
