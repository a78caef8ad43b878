"""What an instance's ports need: clusters, listeners, and the filters that say who may connect.

The rule of this module: this follows from the app, the instance, and the policies and instances
that may call it. It is remembered together with these, which a State that changed elsewhere has as
the same objects. Most plans are made because a certificate or a name changed, and find it
unchanged.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from control_plane.envoy import clusters, rbac, udp
from control_plane.envoy.listeners import ListenerSpec, tcp_listener
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import (
    App,
    AppProtocol,
    Instance,
    NetworkPolicy,
    Source,
    Transport,
)
from control_plane.model.ports import PortMapping, forwarded
from control_plane.model.state import State
from control_plane.names import C2C_PORT, DEFAULT_APP_PORT, Address, AppGuid, InstanceGuid, Port
from control_plane.planner.options import PlanOptions
from control_plane.planner.shared import Shared
from control_plane.planner.sources import Sources
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER
from control_plane.xds.snapshot import TypeSnapshot

ID_SECRET = "id-cert-and-key"  # noqa: S105 - the name of a secret, as Cloud Foundry has it
VALIDATION_SECRET = "id-validation-context"  # noqa: S105 - likewise


@dataclass(frozen=True, slots=True)
class Gone:
    """What an app's ports were, as far as connections from then may still be open.

    Attributes:
        ports: the port mappings, and the protocol of each.
        callers: the apps that were allowed to connect to one of the ports.
    """

    ports: Mapping[PortMapping, AppProtocol]
    callers: frozenset[AppGuid]


NOTHING_GONE = Gone(MappingProxyType({}), frozenset())

_SAMPLE = Address("127.0.0.1")

_Types = Mapping[TypeUrl, TypeSnapshot]

_Facts = tuple[
    App,
    Instance,
    Gone,
    tuple[NetworkPolicy, ...],
    tuple[tuple[Instance, ...], ...],
]
"""Everything that the result follows from: the app, the instance, what is gone, the policies that
let an app connect, and the instances of these apps."""


class Ports:
    """Makes what ports need, and keeps the messages that several instances share."""

    def __init__(self, options: PlanOptions) -> None:
        """Start with nothing built."""
        self._options = options
        self._sources = Sources()
        self._cluster = Shared(_cluster)
        self._datagram_cluster = Shared(_datagram_cluster)
        self._listener = Shared(_listener)
        self._udp_listener = Shared(_udp_listener)
        self._filter = Shared(_filter)
        self._remembered: dict[InstanceGuid, tuple[_Facts, _Types]] = {}

    def of(self, state: State, app: App, instance: Instance, gone: Gone) -> _Types:
        """Return the clusters, listeners and filters of an instance.

        Args:
            gone: what the ports were, as far as connections from then may be open.
        """
        policies = state.policies_to(app.guid)
        callers = tuple([state.instances_of(each.source) for each in policies])
        facts = app, instance, gone, policies, callers
        known = self._remembered.get(instance.guid)
        # Equal facts are nearly always the same objects, so comparing them costs nothing.
        if known is not None and known[0] == facts:
            return known[1]
        types = self._made(state, app, instance, gone)
        if known is not None:
            # Others hold on to the objects that did not change; new ones would be kept a second
            # time.
            before = known[1]
            types = {url: before[url] if before[url] == now else now for url, now in types.items()}
        self._remembered[instance.guid] = facts, types
        return types

    def warm_up(self) -> None:
        """Build a message of each kind, and forget it.

        envoy-data-plane makes its validators when they are first used, which takes 0.5 s in all.
        The server calls this before it listens, so that no client has to wait for that.
        """
        anybody = (Source(AppGuid("app"), (_SAMPLE,)),)
        for protocol in AppProtocol:
            spec = ListenerSpec(DEFAULT_APP_PORT, C2C_PORT, protocol)
            self._cluster(DEFAULT_APP_PORT, _SAMPLE, protocol)
            self._listener(spec, _SAMPLE, anybody, ())
        self._filter(rbac.sources_filter_name(C2C_PORT, "app"), (_SAMPLE,))

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._remembered.pop(instance, None)

    def forget_app(self, app: AppGuid) -> None:
        """Forget an app that was deleted."""
        self._sources.forget(app)

    def _made(self, state: State, app: App, instance: Instance, gone: Gone) -> _Types:
        there = forwarded(app)
        every = {**gone.ports, **there}
        sources = self._sources_by_port(state, app, every)
        listeners = list(self._listeners(instance, there, sources))
        services = self._clusters(instance, gone.ports, there)
        if self._options.unproxied and _has_room(app, instance):
            listeners.extend(self._unproxied(state, app, instance))
            for port, datagrams in self._datagrams(state, app):
                services.append(self._datagram_cluster(port, instance.app_address))
                listeners.append(self._udp_listener(port, instance.address, datagrams))
        return {
            CLUSTER: TypeSnapshot.of(services),
            LISTENER: TypeSnapshot.of(listeners),
            # A tcp app has no use for filters, but connections from when it spoke HTTP have.
            EXTENSION_CONFIG: TypeSnapshot.of(
                self._filter(rbac.sources_filter_name(port, caller), addresses)
                for port, of in sources.items()
                for caller, addresses in _callers(of, gone).items()
            ),
        }

    def _clusters(
        self, instance: Instance, *mappings: Mapping[PortMapping, AppProtocol]
    ) -> list[Resource]:
        """Return a cluster for each port of the app; if mappings disagree, the last one decides."""
        ports: dict[Port, AppProtocol] = {}
        for mapping, protocol in itertools.chain(*(each.items() for each in mappings)):
            # But TCP does not replace HTTP: an HTTP cluster passes bytes too, and requests that
            # drain need it.
            if protocol is not AppProtocol.TCP or mapping.app_port not in ports:
                ports[mapping.app_port] = protocol
        return [
            self._cluster(port, instance.app_address, protocol) for port, protocol in ports.items()
        ]

    def _sources_by_port(
        self, state: State, app: App, mappings: Iterable[PortMapping]
    ) -> dict[Port, tuple[Source, ...]]:
        """Return who may connect to each port, except for ports that admit by certificate."""
        by_certificate = bool(self._options.router_ca_pem)
        ports = (each.proxy_port for each in mappings if each.is_c2c or not by_certificate)
        return {port: self._sources.of(state, app.guid, Transport.TCP, port) for port in ports}

    def _listeners(
        self,
        instance: Instance,
        there: Mapping[PortMapping, AppProtocol],
        sources: Mapping[Port, tuple[Source, ...]],
    ) -> Iterator[Resource]:
        for mapping, protocol in there.items():
            admitted = sources.get(mapping.proxy_port)
            secret = C2C_SECRET if mapping.is_c2c else ID_SECRET
            validation = VALIDATION_SECRET if admitted is None else ""
            ports = mapping.app_port, mapping.proxy_port
            spec = ListenerSpec(*ports, protocol, secret, validation)
            # The instance itself may connect too: its sidecar proves what is served.
            probers = (*self._options.probers, instance.address) if mapping.is_c2c else ()
            yield self._listener(spec, instance.address, admitted, probers)

    def _unproxied(self, state: State, app: App, instance: Instance) -> Iterator[Resource]:
        """Yield the listeners on the app's own ports."""
        for port in app.ports:
            sources = self._sources.of(state, app.guid, Transport.TCP, port)
            spec = ListenerSpec(port, port, AppProtocol.TCP, secret="")
            yield self._listener(spec, instance.address, sources, ())

    def _datagrams(self, state: State, app: App) -> Iterator[tuple[Port, tuple[Address, ...]]]:
        """Yield the app's ports to which policies let apps send datagrams, with their addresses."""
        for port in app.ports:
            if sources := _addresses(self._sources.of(state, app.guid, Transport.UDP, port)):
                yield port, sources


def _has_room(app: App, instance: Instance) -> bool:
    """Tell whether Envoy may listen on the app's own ports: the app has another address."""
    return instance.address != instance.app_address and app.c2c_port is not None


def _callers(sources: Iterable[Source], gone: Gone) -> dict[AppGuid, tuple[Address, ...]]:
    """Return who may send requests; callers that could until a moment ago have no addresses."""
    allowed = {each.app: each.addresses for each in sources}
    return {**dict.fromkeys(gone.callers, ()), **allowed}


def _addresses(sources: Iterable[Source]) -> tuple[Address, ...]:
    return tuple(address for source in sources for address in source.addresses)


def _cluster(app_port: int, app_address: str, protocol: AppProtocol) -> Resource:
    body = clusters.service_cluster(app_port, app_address, protocol)
    return Resource.of(CLUSTER, clusters.service_cluster_name(app_port), body)


def _datagram_cluster(app_port: int, app_address: str) -> Resource:
    body = clusters.datagram_cluster(app_port, app_address)
    return Resource.of(CLUSTER, clusters.datagram_cluster_name(app_port), body)


def _listener(
    spec: ListenerSpec,
    address: str,
    sources: tuple[Source, ...] | None,
    probers: tuple[str, ...],
) -> Resource:
    body = tcp_listener(spec, address, sources=sources, probers=probers)
    # With filter chains for ten apps a listener has 11 KiB, and compressed 1 KiB. Each instance has
    # one of its own, which is sent once in its life.
    return Resource.of(LISTENER, spec.name, body, pack=True)


def _udp_listener(port: int, address: str, sources: tuple[str, ...]) -> Resource:
    body = udp.udp_listener(port, address, sources=sources)
    return Resource.of(LISTENER, udp.udp_listener_name(port), body)


def _filter(name: str, sources: tuple[str, ...]) -> Resource:
    return Resource.of(EXTENSION_CONFIG, name, rbac.http_rbac(name, sources))
