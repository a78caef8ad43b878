"""Commands on apps: create, update, delete, find.

The rule of this module: an app is known by its name within a space and by its GUID. No two apps
share either at the same time.
"""

from __future__ import annotations

from dataclasses import fields

from control_plane.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from control_plane.model.change import Decision, decide
from control_plane.model.entities import App, AppKey, Entity, OperatingSystem, RouteMapping
from control_plane.model.nearest import MOST_NAMES, nearest
from control_plane.model.reach import NOT_ON_WINDOWS, neighbours, require_app
from control_plane.model.spec import DEFAULT_ORG, DEFAULT_SPACE, AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid, AppName, InstanceGuid, shown


def create_app(state: State, guid: str, spec: AppSpec) -> Decision[App]:
    """Create an app.

    Args:
        guid: the GUID of the app if it is new; an app that exists keeps its own.

    Raises:
        InvalidArgument: the GUID or a value of the spec breaks a rule.
        AlreadyExists: an app of another spec has the name, or another app has the GUID.
    """
    app = spec.parse(guid)
    existing = state.app_named(app.key)
    if existing is not None:
        _require_same(existing, spec.parse(existing.guid))
        return Decision(state, existing)
    _require_free_guid(state, app)
    return decide(state, app, puts=[app], apps=[app.guid])


def update_app(state: State, guid: AppGuid, spec: AppSpec) -> Decision[App]:
    """Make an app what the spec says; ``AppSpec.of`` returns its present spec.

    Raises:
        NotFound: there is no such app.
        InvalidArgument: a value of the spec breaks a rule.
        AlreadyExists: the new name is taken.
        FailedPrecondition: the app would move to Windows, but takes part in networking.
    """
    old = require_app(state, guid)
    new = spec.parse(guid)
    if new == old:
        return Decision(state, old)
    if new.key != old.key and state.app_named(new.key) is not None:
        raise AlreadyExists(f"app name {_full_name(new.key)} is taken by another app", field="name")
    if new.os is OperatingSystem.WINDOWS and _dependants(state, guid):
        raise FailedPrecondition(
            f"{NOT_ON_WINDOWS}: remove its instances, routes, policies and join tokens first",
            field="os",
        )
    return decide(state, new, puts=[new], apps=[guid])


def delete_app(state: State, guid: AppGuid) -> Decision[App | None]:
    """Delete an app, which is the result; if there is none, the result is None.

    Its instances, route mappings, network policies and join tokens go with it.
    """
    app = state.app(guid)
    if app is None:
        return Decision(state, None)
    drops = [*_dependants(state, guid), app]
    return decide(state, app, drops=drops, apps=neighbours(state, guid))


def lookup_app(
    state: State, ref: str, org: str = DEFAULT_ORG, space: str = DEFAULT_SPACE
) -> App | None:
    """Return the app of this name in this space, else the app with this GUID, else None."""
    key = AppKey(org or DEFAULT_ORG, space or DEFAULT_SPACE, AppName(ref))
    return state.app_named(key) or state.app(AppGuid(ref))


def apps_in(state: State, org: str = DEFAULT_ORG, space: str = DEFAULT_SPACE) -> tuple[App, ...]:
    """Return the apps of a space by name."""
    place = (org or DEFAULT_ORG, space or DEFAULT_SPACE)
    found = (app for app in state.apps.values() if app.key.place == place)
    return tuple(sorted(found, key=lambda app: app.key))


def find_app(
    state: State,
    ref: str,
    org: str = DEFAULT_ORG,
    space: str = DEFAULT_SPACE,
    *,
    field: str = "app",
) -> App:
    """Return the app of this name in this space, or else the app with this GUID.

    Raises:
        InvalidArgument: no name is given.
        NotFound: there is no such app.
    """
    if not ref:
        raise InvalidArgument(f"{field.replace('_', ' ')} missing", field=field)
    app = lookup_app(state, ref, org, space)
    if app is None:
        key = AppKey(org or DEFAULT_ORG, space or DEFAULT_SPACE, AppName(ref))
        raise NotFound(
            f"app {shown(ref)} not found in {_place(key)}{_where_to_look(state, key)}", field=field
        )
    return app


def _where_to_look(state: State, key: AppKey) -> str:
    """Return the end of the error for an unknown app; its caller may see all apps."""
    instance = state.instance(InstanceGuid(key.name))
    if instance is not None:
        # Logs name instances by their GUIDs, and commands by app and index.
        app = state.apps[instance.app_guid]
        name = shown(f"{app.key.name}/{instance.index}")
        return f": it is the GUID of instance {name} in {_place(app.key)}"
    # There may be too many apps to search while other calls wait.
    keys = list(state.guid_by_key) if len(state.apps) <= MOST_NAMES else []
    if elsewhere := sorted(_place(each) for each in keys if each.name == key.name):
        return f": one is in {' and one in '.join(elsewhere[:3])}"
    near = nearest(key.name, [each.name for each in keys if each.place == key.place])
    if near:
        return f", did you mean {' or '.join(map(shown, near))}?"
    return ": 'c2c apps --all' lists every app"


def _dependants(state: State, guid: AppGuid) -> tuple[Entity, ...]:
    """Return all that refers to an app, each entity once (it may have a policy to itself)."""
    policies = dict.fromkeys([*state.policies_from(guid), *state.policies_to(guid)])
    return (
        *state.instances_of(guid),
        *(RouteMapping(hostname, guid) for hostname in state.hostnames_of(guid)),
        *policies,
        *state.tokens_of(guid),
    )


def _require_same(existing: App, wanted: App) -> None:
    different = [
        field.name
        for field in fields(App)
        if getattr(existing, field.name) != getattr(wanted, field.name)
    ]
    if different:
        raise AlreadyExists(
            f"app {_full_name(existing.key)} exists with other properties: {', '.join(different)} "
            "('c2c update-app' changes them)",
            field=different[0],
        )


def _require_free_guid(state: State, app: App) -> None:
    holder = state.app(app.guid)
    if holder is not None:
        raise AlreadyExists(
            f"app guid {shown(app.guid)} is taken by app {_full_name(holder.key)}", field="guid"
        )


def _full_name(key: AppKey) -> str:
    return f"{shown(key.name)} in {_place(key)}"


def _place(key: AppKey) -> str:
    return f"org {shown(key.org)} / space {shown(key.space)}"
