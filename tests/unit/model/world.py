"""A small world for the model's tests: apps named by one letter, and their instances."""

from __future__ import annotations

from datetime import UTC, datetime

from control_plane.model.apps import create_app
from control_plane.model.change import Decision
from control_plane.model.entities import Entity, NetworkPolicy, RouteMapping, Transport
from control_plane.model.instances import register_instance
from control_plane.model.policies import PolicySpec, add_policies
from control_plane.model.routes import RouteResult, map_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import Address, AppGuid, Domain, Port

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
DOMAINS = frozenset({Domain("apps.internal"), Domain("mesh.example")})

A, B, C, D = (AppGuid(f"guid-{letter}") for letter in "abcd")


def world(*names: str) -> State:
    """Return a State with these apps: app ``a`` has the GUID ``guid-a``."""
    state = State()
    for name in names or "abcd":
        state = create_app(state, f"guid-{name}", AppSpec(name)).state
    return state


def entities_of(state: State) -> tuple[Entity, ...]:
    """Return everything in a State, apps first because all others refer to them."""
    return (
        *state.apps.values(),
        *state.instances.values(),
        *(RouteMapping(name, app) for name, apps in state.apps_by_hostname.items() for app in apps),
        *state.all_policies(),
        *state.all_tokens(),
        *state.operator_certificates.values(),
        *state.all_tombstones(),
        *state.all_draining(),
    )


def register(state: State, guid: str, app: AppGuid, address: str) -> State:
    """Return a State with one more instance."""
    return register_instance(state, guid, app, address).state


def mapping(state: State, app: AppGuid, host: str) -> Decision[RouteResult]:
    """Map a host under apps.internal."""
    return map_route(state, app, host, "apps.internal", DOMAINS)


def allow(
    state: State, source: AppGuid, destination: AppGuid, port: int = 61443, protocol: str = "tcp"
) -> State:
    """Return a State with one more policy."""
    spec = PolicySpec(source, destination, protocol, port, port)
    return add_policies(state, [spec]).state


def policy(source: AppGuid, destination: AppGuid, port: int = 61443) -> NetworkPolicy:
    """Return a policy for one TCP port."""
    return NetworkPolicy(source, destination, Transport.TCP, Port(port), Port(port))


def sources_of(state: State, app: AppGuid, transport: Transport, port: int) -> tuple[Address, ...]:
    """Return the addresses of all instances that a policy lets connect to a port, sorted."""
    sources = state.sources_by_app(app, transport, port)
    return tuple(sorted(each for source in sources for each in source.addresses))
