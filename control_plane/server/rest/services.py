"""REST-JSON: the services of one type, polled over HTTP.

The rule of this module: "the JSON canonical transform of proto3 is used to encode DiscoveryRequest
and DiscoveryResponse messages. ADS is not available for REST-JSON polling" (xDS protocol). The path
of a method is the one in its ``google.api.http`` option. A poll is a stream of its node like any
other (``control_plane.server.discovery.polling``). If there is nothing new, it is answered with 304
at once: a client that polls comes again by itself, and Envoy waits for one second only.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from http import HTTPStatus
from typing import Any

import grpc
import structlog

# These modules register the services, which have the paths.
from envoy.service.cluster.v3 import cds_pb2  # noqa: F401
from envoy.service.endpoint.v3 import eds_pb2  # noqa: F401
from envoy.service.extension.v3 import config_discovery_pb2  # noqa: F401
from envoy.service.listener.v3 import lds_pb2  # noqa: F401
from envoy.service.route.v3 import rds_pb2, srds_pb2  # noqa: F401
from envoy.service.runtime.v3 import rtds_pb2  # noqa: F401
from envoy.service.secret.v3 import sds_pb2  # noqa: F401
from google.api import annotations_pb2
from google.protobuf import descriptor_pool

from control_plane import log_events
from control_plane.errors import ControlPlaneError, InvalidArgument
from control_plane.server.discovery.methods import SERVICES, DiscoveryMethods
from control_plane.server.discovery.services import DiscoveryService
from control_plane.server.http.connections import Connections
from control_plane.server.http.server import TEXT, Answer
from control_plane.server.limits import ServerLimits
from control_plane.server.listening import cannot_listen
from control_plane.server.rest.connection import HttpConnection, Posted
from control_plane.server.rest.peer import RestPeer
from control_plane.server.rest.wire_json import encode_json, parse_json
from control_plane.server.status import code_of, status_of
from control_plane.xds.resource import TypeUrl

MOST_CONNECTIONS = 10_000
"""How many connections may be open: as many as streams may wait for gRPC to look at them."""

JSON = "application/json"

# As google/rpc/code.proto maps them.
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


def paths() -> dict[str, TypeUrl]:
    """Return the paths, and the type that is polled at each."""
    return {_path(each): each.only for each in SERVICES if each.polled and each.only}


def _path(methods: DiscoveryMethods) -> str:
    service = descriptor_pool.Default().FindServiceByName(methods.service)
    options: Any = service.methods_by_name[methods.polled or ""].GetOptions()
    path: str = options.Extensions[annotations_pb2.http].post
    return path


class RestServer:
    """Serves the resources of a discovery service."""

    def __init__(
        self,
        service: DiscoveryService,
        limits: ServerLimits,
        *,
        identifier: str,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Take what is needed to answer; nothing listens yet.

        Args:
            service: lets clients in, and knows what they should have.
            limits: how much clients may ask for.
            identifier: the server's name for itself, in every response.
            tls: the server's certificate, and the CAs whose clients it accepts; None for plaintext.

        Raises:
            InvalidArgument: the TLS does not ask for client certificates.
        """
        if tls is not None and tls.verify_mode is not ssl.CERT_REQUIRED:
            raise InvalidArgument("the TLS of REST-JSON needs verify_mode CERT_REQUIRED")
        self._service = service
        self._limits = limits
        self._identifier = identifier
        self._tls = tls
        self._types = paths()
        self._connections = Connections(self._serve, most=MOST_CONNECTIONS)
        self._log = structlog.get_logger(__name__)

    async def start(self, address: str) -> str:
        """Listen; return the address with the port that it got. ``stop`` must always follow.

        Args:
            address: an IP address and a port, 0 for any that is free; or ``unix:path``.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        seconds = None if self._tls is None else self._limits.handshake_seconds
        tls = {"ssl": self._tls, "ssl_handshake_timeout": seconds}
        host, _, port = address.rpartition(":")
        try:
            if host == "unix":
                await self._connections.listen_at(port, **tls)
                return address
            bare = host.removeprefix("[").removesuffix("]")
            return f"{host}:{await self._connections.listen(bare, int(port), **tls)}"
        except (OSError, ValueError, OverflowError) as error:  # the last: it is no port number
            number = error.errno if isinstance(error, OSError) else None
            raise cannot_listen(address, number, "address of REST-JSON") from error

    async def stop(self) -> None:
        """Stop listening, and end the open connections."""
        await self._connections.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await HttpConnection(
            reader,
            writer,
            partial(self._answer, peer=RestPeer.of(writer)),
            most_octets=self._limits.request_octets,
            seconds=self._limits.first_request_seconds,
        ).run()

    async def _answer(self, request: Posted, peer: RestPeer) -> Answer:
        only = self._types.get(request.path)
        if only is None:
            known = ", ".join(sorted(self._types))
            return _told(HTTPStatus.NOT_FOUND, f"there is nothing but {known}")
        read = partial(parse_json, request.body, self._limits.stream)
        write = partial(encode_json, identifier=self._identifier)
        try:
            body = await self._service.poll(only, read, write, peer)
        except Exception as error:  # noqa: BLE001 - the service has counted it, and logged a defect
            status = _STATUS.get(code_of(error), HTTPStatus.INTERNAL_SERVER_ERROR)
            is_ours = status is HTTPStatus.INTERNAL_SERVER_ERROR
            if is_ours and isinstance(error, ControlPlaneError):
                self._log.error(log_events.CALL_FAILED, method=request.path, reason=str(error))
            return _told(status, status_of(error).message)
        if body is None:
            return Answer(HTTPStatus.NOT_MODIFIED, b"")
        return Answer(HTTPStatus.OK, body, JSON)


def _told(status: HTTPStatus, sentence: str) -> Answer:
    return Answer(status, f"{sentence}\n".encode(), TEXT)
