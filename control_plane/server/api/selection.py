"""Which apps a request is about: one app, the apps of a space, or all.

The rule of this module: all requests that may be about several apps select them in the same way.
"""

from __future__ import annotations

from typing import Protocol

from control_plane.model.apps import apps_in, find_app
from control_plane.model.entities import App, Instance
from control_plane.model.state import State


class Selecting(Protocol):
    """A request that may name an app, or else a space."""

    @property
    def app(self) -> str:
        """Name or GUID of the app; "" for none."""

    @property
    def org(self) -> str:
        """The org of the app, or of the space."""

    @property
    def space(self) -> str:
        """The space of the app, or the selected space."""

    @property
    def in_space(self) -> bool:
        """Whether a request that names no app is about this space only."""


def asked_apps(state: State, request: Selecting) -> tuple[App, ...]:
    """Return the apps that a request is about, sorted by org, space and name.

    Raises:
        NotFound: there is no such app.
    """
    if request.app:
        return (find_app(state, request.app, request.org, request.space),)
    if request.in_space:
        return apps_in(state, request.org, request.space)
    return state.all_apps()


def asked_instances(state: State, request: Selecting) -> tuple[Instance, ...]:
    """Return the instances of these apps, grouped by app and sorted by index.

    Raises:
        NotFound: there is no such app.
    """
    apps = asked_apps(state, request)
    return tuple(each for app in apps for each in state.instances_of(app.guid))
