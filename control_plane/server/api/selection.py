"""Which apps a request is about: one, those of a space, or every one.

The rule of this module: the requests that may be about several apps all say it in the same way.
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
        """Where the app is, or the space."""

    @property
    def space(self) -> str:
        """Where the app is, or which space it is."""

    @property
    def in_space(self) -> bool:
        """Whether it is about no other space, where it names no app."""


def asked_apps(state: State, request: Selecting) -> tuple[App, ...]:
    """Return the apps that a request is about, by org, space and name.

    Raises:
        NotFound: there is no such app.
    """
    if request.app:
        return (find_app(state, request.app, request.org, request.space),)
    if request.in_space:
        return apps_in(state, request.org, request.space)
    return state.all_apps()


def asked_instances(state: State, request: Selecting) -> tuple[Instance, ...]:
    """Return their instances, those of an app together and by index.

    Raises:
        NotFound: there is no such app.
    """
    apps = asked_apps(state, request)
    return tuple(each for app in apps for each in state.instances_of(app.guid))
