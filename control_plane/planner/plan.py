"""One instance's plan.

The rule of this module: a plan is a function of the State, the instance, its secrets and the names
that may be resolved. It is made anew for every change and never patched; the same facts give the
same bytes, thus the same versions, and nothing is sent. What instances share is built once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from control_plane.envoy import clusters, rbac, secrets, udp
from control_plane.envoy.listeners import C2C_SECRET, ListenerSpec, tcp_listener
from control_plane.model.entities import App, AppProtocol, Instance, Transport
from control_plane.model.ports import SSH_PORT, PortMapping, port_mappings
from control_plane.model.state import State
from control_plane.names import C2C_PORT, DEFAULT_APP_PORT, Address, Port
from control_plane.planner.names import (
    NAME_TABLE_TYPE,
    NameTables,
    PublishedNames,
    UncertifiedNames,
    none_uncertified,
)
from control_plane.planner.options import PlanOptions
from control_plane.planner.shared import Shared
from control_plane.planner.sources import Sources
from control_plane.xds.resource import Resource, TypeUrl, Version
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET
from control_plane.xds.snapshot import Snapshot, TypeSnapshot

ID_SECRET = "id-cert-and-key"  # noqa: S105 - the name of a secret, as Cloud Foundry has it
VALIDATION_SECRET = "id-validation-context"  # noqa: S105 - likewise

SecretContent = Resource | Version | None
"""A secret as it is at hand: its content, only the version that the instance has, or neither."""

NO_PORTS: Mapping[PortMapping, AppProtocol] = MappingProxyType({})

_NOBODY = "127.0.0.1"


class Planner:
    """Makes plans, and keeps the messages that plans share."""

    def __init__(self, options: PlanOptions) -> None:
        """Start with nothing built."""
        self.options = options
        self._names = NameTables(options.internal_domains)
        self._sources = Sources()
        self._cluster = Shared(_cluster)
        self._listener = Shared(_listener)
        self._udp_listener = Shared(_udp_listener)
        self._filter = Shared(_filter)
        self._validation = self._validation_secret()

    def plan(
        self,
        state: State,
        instance: Instance,
        secrets: Mapping[str, SecretContent],
        published: PublishedNames,
        uncertified: UncertifiedNames = none_uncertified,
        draining: Mapping[PortMapping, AppProtocol] = NO_PORTS,
    ) -> Snapshot:
        """Return everything that an instance should have.

        Args:
            state: all that was committed; it has the instance and its app.
            instance: whose plan it is.
            secrets: the instance's secrets by name.
            published: which routes may be resolved.
            uncertified: to which instances they must not lead yet.
            draining: what the app's ports were, where connections of that time may be open.
        """
        app = state.apps[instance.app_guid]
        there = forwarded(app)
        every = {**draining, **there}
        sources = self._sources_by_port(state, app, every)
        listeners = list(self._listeners(instance, there, sources))
        if self.options.unproxied:
            listeners.extend(self._unproxied(state, app, instance))
        return Snapshot(
            {
                CLUSTER: TypeSnapshot.of(self._clusters(instance, every)),
                LISTENER: TypeSnapshot.of(listeners),
                # A tcp app has no use for them, but the connections from when it was none have.
                EXTENSION_CONFIG: TypeSnapshot.of(
                    self._filter(rbac.sources_filter_name(port), of) for port, of in sources.items()
                ),
                SECRET: self._secrets(secrets),
                NAME_TABLE_TYPE: TypeSnapshot.of(
                    [self._names.of(state, app.guid, published, uncertified)]
                ),
            }
        )

    def warm_up(self) -> None:
        """Build a message of each kind, and forget it.

        envoy-data-plane makes its validators when they are used first, which takes 0.5 s in all.
        The server calls this before it listens, so that no client has to wait for it.
        """
        for protocol in AppProtocol:
            _cluster(DEFAULT_APP_PORT, _NOBODY, protocol)
            _listener(ListenerSpec(DEFAULT_APP_PORT, C2C_PORT, protocol), _NOBODY, (_NOBODY,), ())
        _filter(rbac.sources_filter_name(C2C_PORT), (_NOBODY,))

    def farewell(self, snapshot: Snapshot) -> Snapshot:
        """Return what an instance that was removed should have: no way in, and no secret.

        Secrets and filters are neither sent nor withdrawn. Who has them keeps them, since a
        listener that drains needs them; who comes back without them is not given any.

        Args:
            snapshot: what it had so far, if that is known.
        """
        secrets = {C2C_SECRET, ID_SECRET, VALIDATION_SECRET}
        types: dict[TypeUrl, TypeSnapshot] = {
            CLUSTER: TypeSnapshot.of(),
            LISTENER: TypeSnapshot.of(),
            NAME_TABLE_TYPE: TypeSnapshot.of(),
            SECRET: TypeSnapshot.of(pending=secrets),
            EXTENSION_CONFIG: TypeSnapshot.of(pending=snapshot.of_type(EXTENSION_CONFIG).resources),
        }
        return Snapshot(types)

    def _clusters(
        self, instance: Instance, every: Mapping[PortMapping, AppProtocol]
    ) -> list[Resource]:
        ports = {mapping.app_port: protocol for mapping, protocol in every.items()}
        return [
            self._cluster(port, instance.app_address, protocol) for port, protocol in ports.items()
        ]

    def _sources_by_port(
        self, state: State, app: App, mappings: Iterable[PortMapping]
    ) -> dict[Port, tuple[Address, ...]]:
        """Return who may connect, but for the ports that admit by certificate."""
        ports = (each.proxy_port for each in mappings if each.is_c2c or not self._validation)
        return {port: self._sources.of(state, app.guid, Transport.TCP, port) for port in ports}

    def _listeners(
        self,
        instance: Instance,
        there: Mapping[PortMapping, AppProtocol],
        sources: Mapping[Port, tuple[Address, ...]],
    ) -> Iterator[Resource]:
        for mapping, protocol in there.items():
            admitted = sources.get(mapping.proxy_port)
            secret = C2C_SECRET if mapping.is_c2c else ID_SECRET
            validation = VALIDATION_SECRET if admitted is None else ""
            ports = mapping.app_port, mapping.proxy_port
            spec = ListenerSpec(*ports, protocol, secret, validation)
            # The instance itself may look too: its sidecar proves what is served.
            probers = (*self.options.probers, instance.address) if mapping.is_c2c else ()
            yield self._listener(spec, instance.address, admitted, probers)

    def _unproxied(self, state: State, app: App, instance: Instance) -> Iterator[Resource]:
        """Yield the listeners on the app's own ports, unless the app itself is there already."""
        if instance.address == instance.app_address or app.c2c_port is None:
            return
        for port in app.ports:
            sources = self._sources.of(state, app.guid, Transport.TCP, port)
            spec = ListenerSpec(port, port, AppProtocol.TCP, secret="")
            yield self._listener(spec, instance.address, sources, ())
            datagrams = self._sources.of(state, app.guid, Transport.UDP, port)
            if datagrams:
                yield self._udp_listener(port, instance.address, datagrams)

    def _secrets(self, contents: Mapping[str, SecretContent]) -> TypeSnapshot:
        resources = [each for each in contents.values() if isinstance(each, Resource)]
        return TypeSnapshot.of(
            resources + self._validation,
            pending=[name for name, content in contents.items() if content is None],
            recorded={name: v for name, v in contents.items() if isinstance(v, str)},
        )

    def _validation_secret(self) -> list[Resource]:
        if not self.options.router_ca_pem:
            return []
        body = secrets.validation_secret(
            VALIDATION_SECRET, self.options.router_ca_pem, self.options.router_sans
        )
        return [Resource.of(SECRET, VALIDATION_SECRET, body)]


def forwarded(app: App) -> dict[PortMapping, AppProtocol]:
    """Return which ports of an app its Envoys forward to, and what they speak there."""
    mappings = port_mappings(app) if app.c2c_port is not None else ()
    return {each: _protocol(app, each.app_port) for each in mappings}


def _protocol(app: App, port: int) -> AppProtocol:
    return AppProtocol.TCP if port == SSH_PORT and app.ssh else app.protocol


def _cluster(app_port: int, app_address: str, protocol: AppProtocol) -> Resource:
    body = clusters.service_cluster(app_port, app_address, protocol)
    return Resource.of(CLUSTER, clusters.service_cluster_name(app_port), body)


def _listener(
    spec: ListenerSpec,
    address: str,
    sources: tuple[str, ...] | None,
    probers: tuple[str, ...],
) -> Resource:
    body = tcp_listener(spec, address, sources=sources, probers=probers)
    # With a filter chain for each of ten callers it has 11 KiB, and compressed 1 KiB; each instance
    # has one of its own, which is sent once in its life.
    return Resource.of(LISTENER, spec.name, body, pack=True)


def _udp_listener(port: int, address: str, sources: tuple[str, ...]) -> Resource:
    body = udp.udp_listener(port, address, sources=sources)
    return Resource.of(LISTENER, udp.udp_listener_name(port), body)


def _filter(name: str, sources: tuple[str, ...]) -> Resource:
    return Resource.of(EXTENSION_CONFIG, name, rbac.http_rbac(name, sources))
