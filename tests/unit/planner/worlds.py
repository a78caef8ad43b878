"""Worlds to plan for, and plans read back with protobuf's own classes.

The rule of this module: a plan is judged by what Envoy would read, never by how it was made.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from envoy.config.core.v3 import extension_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.udp.udp_proxy.v3 import udp_proxy_pb2
from google.protobuf.wrappers_pb2 import StringValue
from xds.type.matcher.v3 import ip_pb2

from control_plane.api.v1 import name_table_pb2
from control_plane.model.apps import create_app
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import register_instance, set_status
from control_plane.model.policies import PolicySpec, add_policies
from control_plane.model.routes import map_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import AppGuid, Domain, Hostname, InstanceGuid
from control_plane.planner import (
    NAME_TABLE,
    NAME_TABLE_TYPE,
    Planner,
    PlanOptions,
    PublishedNames,
    SecretContent,
    UncertifiedNames,
    none_uncertified,
)
from control_plane.xds.resource_type import EXTENSION_CONFIG, LISTENER
from control_plane.xds.snapshot import Snapshot

DOMAIN = Domain("apps.internal")


def app(state: State, name: str, **spec: Any) -> State:  # noqa: ANN401 - any field of AppSpec
    """Return a State with one more app; its GUID is its name."""
    return create_app(state, name, AppSpec(name, **spec)).state


def instance(
    state: State,
    name: str,
    address: str,
    *,
    app_address: str = "127.0.0.1",
    status: InstanceStatus = InstanceStatus.READY,
) -> State:
    """Return a State with one more instance, ready: ``b0`` is one of app ``b``."""
    state = register_instance(state, name, AppGuid(name[0]), address, app_address).state
    return set_status(state, InstanceGuid(name), status).state


def route(state: State, name: str, host: str) -> State:
    """Return a State in which a route leads to an app."""
    return map_route(state, AppGuid(name), host, DOMAIN, (DOMAIN,)).state


def policy(
    state: State, source: str, destination: str, ports: str = "61443", protocol: str = "tcp"
) -> State:
    """Return a State with one more policy, for a port or for a range such as ``8080-8090``."""
    start, _, end = ports.partition("-")
    spec = PolicySpec(source, destination, protocol, int(start), int(end or start))
    return add_policies(state, [spec]).state


def story(**spec: Any) -> State:  # noqa: ANN401 - any field of AppSpec
    """Return the announcement's world: app ``a`` with one instance, app ``b`` with two."""
    state = app(app(State(), "a"), "b", **spec)
    state = instance(state, "a0", "10.0.0.1")
    state = instance(state, "b0", "10.0.1.1")
    return instance(state, "b1", "10.0.1.2")


def plan(
    state: State,
    name: str = "b0",
    *,
    options: PlanOptions | None = None,
    planner: Planner | None = None,
    secrets: Mapping[str, SecretContent] | None = None,
    published: PublishedNames | None = None,
    uncertified: UncertifiedNames = none_uncertified,
) -> Snapshot:
    """Plan for one instance; unless told otherwise every route may be resolved, to everybody."""
    planner = planner or Planner(options or PlanOptions())
    return planner.plan(
        state,
        state.instances[InstanceGuid(name)],
        secrets or {},
        published or state.hostnames_of,
        uncertified,
    )


def listeners(snapshot: Snapshot) -> dict[str, Any]:
    """Return the listeners of a plan by name."""
    found = snapshot.of_type(LISTENER).resources.values()
    return {each.name: listener_pb2.Listener.FromString(each.body) for each in found}


def ports(snapshot: Snapshot) -> list[int]:
    """Return the ports that a plan listens on, in order."""
    return sorted(each.address.socket_address.port_value for each in listeners(snapshot).values())


def chains(snapshot: Snapshot, listener: str) -> dict[str, str]:
    """Return the filter chain of each address that a listener admits: who may come, and how far."""
    matched = listeners(snapshot)[listener].filter_chain_matcher.matcher_tree.exact_match_map.map
    found = {}
    for address, match in matched.items():
        chain = StringValue()
        assert match.action.typed_config.Unpack(chain)
        found[address] = chain.value
    return found


def requesters(snapshot: Snapshot) -> dict[str, set[str]]:
    """Return who may send requests, by name of the HTTP filter."""
    found: dict[str, set[str]] = {}
    for resource in snapshot.of_type(EXTENSION_CONFIG).resources.values():
        config = extension_pb2.TypedExtensionConfig.FromString(resource.body)
        rules = rbac_pb2.RBAC.FromString(config.typed_config.value).rules
        found[config.name] = {
            principal.direct_remote_ip.address_prefix
            for policy in rules.policies.values()
            for principal in policy.principals
        }
    return found


def datagram_sources(snapshot: Snapshot, port: int) -> set[str]:
    """Return whose datagrams the UDP listener on a port forwards."""
    listener = listeners(snapshot)[f"listener-udp-{port}"]
    config = udp_proxy_pb2.UdpProxyConfig.FromString(
        listener.listener_filters[0].typed_config.value
    )
    matcher = ip_pb2.IPMatcher.FromString(
        config.matcher.matcher_tree.custom_match.typed_config.value
    )
    return {each.address_prefix for range_ in matcher.range_matchers for each in range_.ranges}


def names(snapshot: Snapshot) -> dict[str, list[str]]:
    """Return the name table of a plan: addresses by name."""
    resource = snapshot.of_type(NAME_TABLE_TYPE).resources[NAME_TABLE]
    table = name_table_pb2.NameTable.FromString(resource.body)
    return {each.name: list(each.addresses) for each in table.names}


def only(**hosts: Collection[str]) -> PublishedNames:
    """Say which routes of which app may be resolved."""
    return lambda app: [Hostname(f"{host}.{DOMAIN}") for host in hosts.get(app, ())]
