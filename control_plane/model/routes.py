"""Commands on internal routes: map one to an app, and unmap it.

The rule of this module: a route is a name under an internal domain, stored in lower case; it exists
as long as it is mapped to an app, and several apps may share it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from control_plane.errors import InvalidArgument, LimitExceeded
from control_plane.model.change import Decision, decide
from control_plane.model.entities import RouteMapping
from control_plane.model.reach import callers, require_app, require_networking
from control_plane.model.state import State
from control_plane.names import (
    AppGuid,
    Domain,
    Hostname,
    parse_domain,
    parse_host,
    route_hostname,
    shown,
)

MAX_DESTINATIONS = 100
"""Cloud Foundry's limit for a route."""


@dataclass(frozen=True, slots=True)
class RouteResult:
    """What became of a route mapping.

    Attributes:
        already: whether the mapping was as requested before, so that nothing changed.
    """

    mapping: RouteMapping
    already: bool


def map_route(
    state: State, app: AppGuid, host: str, domain: str, internal_domains: Collection[Domain]
) -> Decision[RouteResult]:
    """Make a host under an internal domain resolve to an app's instances.

    Args:
        host: the route's first label, in any letter case.
        internal_domains: the domains that internal routes may be under.

    Raises:
        InvalidArgument: the host or the domain breaks a rule of names, or the domain is not
            internal.
        NotFound: there is no such app.
        FailedPrecondition: the app runs on Windows.
        LimitExceeded: the route has as many destinations as a route may have.
    """
    mapping = RouteMapping(_parse_route(host, domain, internal_domains), app)
    require_networking(state, app)
    destinations = state.apps_of(mapping.hostname)
    if app in destinations:
        return Decision(state, RouteResult(mapping, already=True))
    if len(destinations) >= MAX_DESTINATIONS:
        raise LimitExceeded(
            f"a route can be mapped to at most {MAX_DESTINATIONS} destinations: "
            f"{shown(mapping.hostname)}",
            field="hostname",
        )
    result = RouteResult(mapping, already=False)
    return decide(state, result, puts=[mapping], apps=callers(state, app))


def unmap_route(state: State, app: AppGuid, host: str, domain: str) -> Decision[RouteResult]:
    """Make a route no longer resolve to an app's instances, also under a former internal domain.

    Raises:
        InvalidArgument: the host or the domain breaks a rule of names.
        NotFound: there is no such app.
    """
    mapping = RouteMapping(route_hostname(parse_host(host), parse_domain(domain)), app)
    require_app(state, app)
    if app not in state.apps_of(mapping.hostname):
        return Decision(state, RouteResult(mapping, already=True))
    result = RouteResult(mapping, already=False)
    return decide(state, result, drops=[mapping], apps=callers(state, app))


def _parse_route(host: str, domain: str, internal_domains: Collection[Domain]) -> Hostname:
    label, parent = parse_host(host), parse_domain(domain)
    if parent not in internal_domains:
        known = ", ".join(sorted(internal_domains))
        raise InvalidArgument(
            f"domain {shown(parent)} is not an internal domain, known are: {known}", field="domain"
        )
    return route_hostname(label, parent)
