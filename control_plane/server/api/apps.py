"""AppService: the apps whose instances serve each other (protos/c2c/v1/app.proto).

The rule of this module: a request becomes one command, and the app that it names is looked up
inside that command, so that no other change comes in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from control_plane.api.v1 import app_pb2, app_pb2_grpc
from control_plane.errors import AlreadyExists, NotFound
from control_plane.model.apps import create_app, delete_app, find_app, update_app
from control_plane.model.change import Decision
from control_plane.model.entities import App, OperatingSystem
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import shown
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.api.messages import AT_ONCE, app_message
from control_plane.server.turns import unhurried

_CHANGEABLE = frozenset({"name", "ports", "c2c_port", "protocol", "os", "ssh", "health_check_type"})
"""The fields of UpdateAppRequest that an AppSpec has under the same name. A field that a request
does not have, and empty ``ports``, leave the app as it is."""


class AppService(app_pb2_grpc.AppServiceServicer):
    """Creates, changes, shows and deletes apps."""

    def __init__(self, registry: Registry, new_guid: Callable[[], str]) -> None:
        """Serve the apps of a registry.

        Args:
            registry: the one writer.
            new_guid: makes the GUID of an app that is created without one.
        """
        self._registry = registry
        self._new_guid = new_guid

    async def CreateApp(
        self, request: app_pb2.CreateAppRequest, context: Context
    ) -> app_pb2.CreateAppResponse:
        """Register an app, or find that it is registered already."""
        guid = request.guid or self._new_guid()
        committed = await self._registry.execute(lambda state: _create(state, request, guid))
        return app_pb2.CreateAppResponse(
            app=app_message(committed.state, committed.result),
            already=not committed.change,
            revision=committed.revision,
        )

    async def UpdateApp(
        self, request: app_pb2.UpdateAppRequest, context: Context
    ) -> app_pb2.UpdateAppResponse:
        """Change those properties of an app that the request has."""
        committed = await self._registry.execute(lambda state: _update(state, request))
        return app_pb2.UpdateAppResponse(
            app=app_message(committed.state, committed.result),
            already=not committed.change,
            revision=committed.revision,
        )

    async def GetApp(
        self, request: app_pb2.GetAppRequest, context: Context
    ) -> app_pb2.GetAppResponse:
        """Show one app."""
        state = self._registry.state
        app = find_app(state, request.app, request.org, request.space)
        return app_pb2.GetAppResponse(app=app_message(state, app))

    async def ListApps(
        self, request: app_pb2.ListAppsRequest, context: Context
    ) -> app_pb2.ListAppsResponse:
        """Show every app, or the apps of a space or an org."""
        state = self._registry.state
        return app_pb2.ListAppsResponse(
            apps=[
                app_message(state, app)
                async for app in unhurried(state.all_apps(), AT_ONCE)
                if request.org in ("", app.key.org) and request.space in ("", app.key.space)
            ]
        )

    async def DeleteApp(
        self, request: app_pb2.DeleteAppRequest, context: Context
    ) -> app_pb2.DeleteAppResponse:
        """Forget an app and all that belongs to it, or find that there is none."""
        committed = await self._registry.execute(lambda state: _delete(state, request))
        return app_pb2.DeleteAppResponse(already=not committed.change, revision=committed.revision)


def _create(state: State, request: app_pb2.CreateAppRequest, guid: str) -> Decision[App]:
    spec = AppSpec(
        name=request.name,
        org=request.org,
        space=request.space,
        ports=tuple(request.ports),
        protocol=request.protocol,
        os=request.os,
        ssh=request.ssh,
        health_check_type=request.health_check_type,
        c2c_port=request.c2c_port,
    )
    decision = create_app(state, guid, spec)
    if request.guid and decision.result.guid != request.guid:
        raise AlreadyExists(
            f"app {shown(request.name)} exists with another guid: {decision.result.guid}",
            field="guid",
        )
    return decision


def _update(state: State, request: app_pb2.UpdateAppRequest) -> Decision[App]:
    app = find_app(state, request.app, request.org, request.space)
    present = {each.name: value for each, value in request.ListFields()}
    changes = {name: present[name] for name in _CHANGEABLE & present.keys()}
    spec = replace(AppSpec.of(app), **changes)
    if spec.os == OperatingSystem.WINDOWS and "c2c_port" not in changes:
        spec = replace(spec, c2c_port=None)  # what it was on Linux is none on Windows
    return update_app(state, app.guid, spec)


def _delete(state: State, request: app_pb2.DeleteAppRequest) -> Decision[App | None]:
    try:
        app = find_app(state, request.app, request.org, request.space)
    except NotFound:
        return Decision(state, None)
    return delete_app(state, app.guid)
