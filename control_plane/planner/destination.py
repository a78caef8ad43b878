"""What people mean by a destination: a URL, a route, one instance, an address, or an app.

The rule of this module: a name means the app that answers to it, so routes come first, whatever
else might have that name. Of a text pasted from a browser only the host counts.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from control_plane.errors import InvalidArgument, NotFound
from control_plane.model.apps import find_app, lookup_app
from control_plane.model.entities import App
from control_plane.model.state import State
from control_plane.names import Address, Hostname, parse_address, shown
from control_plane.planner import advice

_APP_AND_INDEX = re.compile(r"([^/:]+)/([^/:]+)")
_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_INDEX_AND_ROUTE = re.compile(r"(0|[1-9]\d{0,8})\.(.+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Destination:
    """The app, instance or address that is meant.

    Attributes:
        app: None if no app has the route or the address.
        route: None if the app's routes decide which is meant; "" for an address.
        index: the instance that is meant, if it is a single one.
        address: the address that is meant, if one is.
    """

    app: App | None
    route: Hostname | None = None
    index: int | None = None
    address: Address | None = None


def destinations(state: State, text: str, org: str, space: str) -> tuple[Destination, ...]:
    """Return each app that is meant; for a route, all apps that have it.

    Raises:
        InvalidArgument: no destination is given, or an address that no instance can have.
        NotFound: there is no such app, nor anything that could be a route.
    """
    if named := _app_and_index(state, text, org, space):
        return (named,)
    host = _host(text)
    if text and not host:
        raise InvalidArgument(
            f"destination must be an app, an instance or a route, and has no host: {shown(text)}",
            field="destination",
        )
    route = Hostname(host.lower().removesuffix("."))
    if found := _of_route(state, route):
        return found
    if (app := lookup_app(state, host, org, space)) is not None:
        return (Destination(app),)
    if (address := _address(host)) is not None:
        return (_at(state, address),)
    if (indexed := _INDEX_AND_ROUTE.fullmatch(route)) is not None:
        found = _of_route(state, Hostname(indexed[2]), int(indexed[1]))
        if found:
            return found
    if "." in route:
        return (Destination(None, route),)
    return (Destination(find_app(state, host, org, space, field="destination")),)


def _of_route(state: State, route: Hostname, index: int | None = None) -> tuple[Destination, ...]:
    return tuple(Destination(state.apps[guid], route, index) for guid in state.apps_of(route))


def _app_and_index(state: State, text: str, org: str, space: str) -> Destination | None:
    named = _APP_AND_INDEX.fullmatch(text)
    if named is None:
        return None
    app = lookup_app(state, named[1], org, space)
    if app is None:
        return None
    index = int(named[2]) if _INDEX.fullmatch(named[2]) else None
    if index is None or all(each.index != index for each in state.instances_of(app.guid)):
        raise NotFound(
            f"app {shown(named[1])} has no instance {shown(named[2])[1:-1]}: "
            f"'{advice.instances(app)}' lists them",
            field="destination",
        )
    return Destination(app, index=index)


def _host(text: str) -> str:
    """Return the host in a text that may be a URL, or have a port or a path."""
    if _address(text) is not None:
        return text
    try:
        place = urlsplit(text if "://" in text else f"//{text}").netloc.rpartition("@")[2]
    except ValueError:
        return text
    # Not urlsplit's ``hostname``, which is in lower case: the case of an app's name matters.
    return place.partition("]")[0].removeprefix("[") if "]" in place else place.partition(":")[0]


def _address(text: str) -> Address | None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return None
    return parse_address(text, field="destination")


def _at(state: State, address: Address) -> Destination:
    instance = state.instance_at(address)
    if instance is None:
        return Destination(None, Hostname(""), address=address)
    return Destination(state.apps[instance.app_guid], Hostname(""), instance.index, address)
