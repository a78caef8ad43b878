"""The server as a library: any resources for any node, without apps, routes or certificates.

The rule of this module: one call states everything that a node, or each node of a group, should
have. To call it again with the same content does nothing.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from control_plane.clock import Clock, SystemClock
from control_plane.errors import ConfigurationError, FailedPrecondition, InvalidArgument
from control_plane.nodes import Nodes, StreamObserver
from control_plane.server.access.admission import Admission
from control_plane.server.access.certificate_end import CertificateEnds
from control_plane.server.access.request_time import RequestTime
from control_plane.server.csds.client_status import ClientStatusService
from control_plane.server.csds.port import client_status_port
from control_plane.server.discovery.methods import SERVICES
from control_plane.server.discovery.services import DiscoveryService
from control_plane.server.groups import GroupOf, Groups
from control_plane.server.health import Health
from control_plane.server.limits import ServerLimits
from control_plane.server.listening import listen_at, stop
from control_plane.server.lrs.load_reports import LoadReportingService, LoadReports
from control_plane.server.resources import check_type_url, resource_of, snapshot_of
from control_plane.server.status import StatusInterceptor
from control_plane.xds.delivery import Delivery, deliveries
from control_plane.xds.limits import StreamLimits
from control_plane.xds.resource import Denied, Resource
from control_plane.xds.resource_type import ENVOY_TYPES, ResourceType, ResourceTypes

__all__ = ["ANY_NODE", "MOST_NAMES", "MOST_STREAMS", "ResourceServer", "resource_of"]

ANY_NODE = "*"
"""The node id that stands for every node for which nothing else was set."""

MOST_NAMES = 65_536
"""How many names one stream may have, unless other limits are given. A delta client that reconnects
states every resource that it has, even if it asked for all of them by a wildcard; with a lower
bound, a client that was sent more would be shut out for good. A request of 4 MiB hardly has room
for so many names."""

MOST_STREAMS = 4096
"""How many streams one node may have, and how many it may open in a minute, unless other limits are
given. When Envoy uses the services of single types, it opens one stream for each cluster, route
configuration and secret that another resource names; those beyond the bound would never arrive."""

_STOP_SECONDS = 1.0


class ResourceServer:
    """An xDS server for resources of one's own.

    Attributes:
        address: where the server listens; once it is started, with the port that it got.
    """

    def __init__(  # noqa: PLR0913 - one argument for each part that may be another
        self,
        address: str = "127.0.0.1:0",
        *,
        credentials: grpc.ServerCredentials | None = None,
        types: Iterable[ResourceType] = (),
        group_of: GroupOf | None = None,
        admission: Admission | None = None,
        limits: ServerLimits | None = None,
        load_reports: LoadReports | None = None,
        identifier: str = "c2c-control-plane",
        clock: Clock | None = None,
    ) -> None:
        """Describe a server; ``async with`` starts and stops it.

        Args:
            address: ``host:port``, or ``unix:path``; port 0 for any that is free.
            credentials: its TLS; None for plaintext.
            types: resource types, one's own or Envoy's, whose delivery differs from the defaults.
            group_of: returns the group of a node, if resources are set for groups; None if they are
                set for each node by its id.
            admission: who may open a stream, and until when; everybody by default.
            limits: how much clients may ask for; None for the defaults, but with ``MOST_NAMES`` and
                ``MOST_STREAMS``.
            load_reports: what clients are to report of their requests, and to whom (LRS); by
                default nothing.
            identifier: the server's name for itself, in every response.
            clock: the time for back-off and limits.

        Raises:
            InvalidArgument: types wait for each other, or one has a batch of none, or no type URL.
        """
        self.address = address
        self._credentials = credentials
        self._limits = limits or ServerLimits(
            stream=StreamLimits(names=MOST_NAMES),
            streams_per_node=MOST_STREAMS,
            new_streams_per_node_and_minute=MOST_STREAMS,
        )
        self._clock = clock or SystemClock()
        self._nodes = Nodes()
        self._nodes.observe(CertificateEnds(self._clock))
        self._groups = None if group_of is None else Groups(self._nodes, group_of)
        if self._groups is not None:
            self._nodes.observe(self._groups)
        self._make_service = partial(
            DiscoveryService,
            self._nodes,
            clock=self._clock,
            admission=admission,
            types=_with_envoys(types),
            limits=self._limits,
            identifier=identifier,
        )
        self._identifier = identifier
        self._service: DiscoveryService | None = None
        self._load_reports = load_reports
        self._make_reporting = partial(
            LoadReportingService,
            nodes=self._nodes,
            clock=self._clock,
            admission=admission,
            limits=self._limits,
        )
        self._running = AsyncExitStack()
        self._thread: int | None = None

    async def __aenter__(self) -> Self:
        """Start to listen; this is possible again after the server was stopped.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        options = self._limits.channel_options()
        interceptors = [RequestTime(self._limits), StatusInterceptor()]
        server = grpc.aio.server(interceptors=interceptors, options=options)
        health = Health(each.service for each in SERVICES)
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        service = self._make_service()
        service.add_to(server)
        reporting = self._make_reporting(self._load_reports) if self._load_reports else None
        if reporting is not None:
            reporting.add_to(server)
        self.address = await listen_at(server, self.address, self._credentials)
        self._running.push_async_callback(stop, server, _STOP_SECONDS)
        self._running.callback(service.shut_down)
        self._running.callback(health.drain)
        self._service = service
        self._thread = threading.get_ident()
        if reporting is not None:
            self._running.callback(reporting.shut_down)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End every stream with UNAVAILABLE, and stop listening."""
        self._service = self._thread = None
        await self._running.aclose()

    @asynccontextmanager
    async def rest(
        self, address: str = "127.0.0.1:0", *, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[str]:
        """Answer polls over REST-JSON too, as long as the block runs; the block gets the address.

        Args:
            address: an IP address and a port, 0 for any that is free; or ``unix:path``.
            tls: the server's TLS, with ``verify_mode`` CERT_REQUIRED; None for plaintext.

        Raises:
            FailedPrecondition: the server was not started.
            ConfigurationError: the address cannot be listened on, or h11 is missing.
            InvalidArgument: the TLS does not ask for a client certificate.
        """
        if self._service is None:
            raise FailedPrecondition("start the server before it can be polled over REST-JSON")
        try:
            from control_plane.server.rest.services import RestServer  # noqa: PLC0415 - it needs h11
        except ModuleNotFoundError as error:
            needed = f"REST-JSON needs {error.name}: pip install {error.name}"
            raise ConfigurationError([needed]) from error
        server = RestServer(self._service, self._limits, identifier=self._identifier, tls=tls)
        try:
            yield await server.start(address)
        finally:
            await server.stop()

    def client_status(
        self, address: str = "127.0.0.1:0", *, credentials: grpc.ServerCredentials | None = None
    ) -> AbstractAsyncContextManager[str]:
        """Tell operators which client has what (CSDS), as long as the block runs.

        The block gets the address. Reflection is served there too, for grpcurl.

        Args:
            address: where only operators connect: ``host:port``, or ``unix:path``.
            credentials: its TLS; None for plaintext.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        service = ClientStatusService(self._nodes, self._clock)
        return client_status_port(service, address, credentials, self._limits)

    def set_resources(self, node_id: str, resources: Iterable[Message | Resource | Denied]) -> None:
        """State everything that a node should have; whatever else it has is withdrawn.

        Args:
            node_id: ``node.id`` of the client, or the group of its node if the server has
                ``group_of``; ``*`` for every node for which nothing else is set.
            resources: messages such as ``Listener`` or ``Secret``; ``Resource`` values for messages
                of one's own that do not tell their name, and for resources that have a TTL or
                variants; and ``Denied`` values for names that do not exist, with the reason.

        Raises:
            InvalidArgument: no client has such an id; or a message has no name, or the name ``*``;
                or two messages of one type have the same name; or two virtual hosts of the same
                route configuration have a domain in common; or a resource that exists is denied
                too; or two variants of a name could be meant for the same client.
            FailedPrecondition: the server runs in another thread.
        """
        self._check_thread()
        self._check_id(node_id)
        snapshot = snapshot_of(resources)
        if node_id == ANY_NODE:
            self._nodes.set_default(snapshot)
        else:
            (self._groups or self._nodes).set(node_id, snapshot)

    def forget(self, node_id: str) -> None:
        """Drop what a node or group should have: it is sent nothing, or what is set for ``*``.

        Raises:
            InvalidArgument: no client has such an id.
            FailedPrecondition: the server runs in another thread.
        """
        self._check_thread()
        self._check_id(node_id)
        if node_id == ANY_NODE:
            self._nodes.set_default(None)
        else:
            (self._groups or self._nodes).forget(node_id)

    def observe(self, observer: StreamObserver) -> None:
        """Tell an observer of everything that happens on streams from now on."""
        self._nodes.observe(observer)

    def deliveries(self, node_id: str) -> list[Delivery]:
        """Return how far each resource got on its way to a node, for each of the node's streams."""
        snapshot = self._nodes.snapshot(node_id)
        if snapshot is None:
            return []
        return [
            delivery
            for live in self._nodes.streams(node_id)
            for delivery in deliveries(live.stream, snapshot)
        ]

    def _check_id(self, node_id: object) -> None:
        """Refuse an id under which no client would ever be served; a group's name may be empty."""
        if not isinstance(node_id, str) or not (node_id or self._groups):
            what = "node id" if self._groups is None else "group"
            raise InvalidArgument(f"a {what} is a str, and no client has {node_id!r}")

    def _check_thread(self) -> None:
        """Refuse a call from another thread: the event loop may sleep, and would not wake up."""
        if self._thread not in {None, threading.get_ident()}:
            raise FailedPrecondition(
                "the server runs in another thread: call it there, by loop.call_soon_threadsafe"
            )


def _with_envoys(types: Iterable[ResourceType]) -> ResourceTypes:
    by_url = {each.url: each for each in (*ENVOY_TYPES, *types)}
    for url in by_url:
        check_type_url(url)
    try:
        return ResourceTypes.of(by_url.values())
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
