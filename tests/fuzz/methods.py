"""Every method that a control plane serves, by who may call it: as the code says, not as a list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import descriptor_pool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from control_plane.app.administration import ADMIN_SERVICES
from control_plane.nodes import Variant
from control_plane.server.discovery import methods

_REFLECTION = {
    reflection.SERVICE_NAME: reflection.SERVICE_NAME,
    "grpc.reflection.v1.ServerReflection": reflection.SERVICE_NAME,
}
"""Where the definition of each version is to be found; they are the same."""


class Caller(Enum):
    """Who has a port of the control plane to call at."""

    OPERATOR = "operator"
    INSTANCE = "instance"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Attributes:
        request: the type of what it is asked with.
        takes_many: whether a call has any number of requests.
        gives_many: whether it has any number of answers.
    """

    caller: Caller
    path: str
    request: type[Message]
    takes_many: bool
    gives_many: bool

    def __str__(self) -> str:
        """Return what a test of it is named after."""
        service, _, name = self.path.removeprefix("/").rpartition("/")
        return f"{service.removeprefix('envoy.service.')}.{name}"


def _defined(caller: Caller, service: str, definition: str = "") -> Iterator[Method]:
    for each in descriptor_pool.Default().FindServiceByName(definition or service).methods:
        yield Method(
            caller,
            f"/{service}/{each.name}",
            GetMessageClass(each.input_type),
            each.client_streaming,
            each.server_streaming,
        )


def _discovery() -> Iterator[Method]:
    requests = {
        Variant.SOTW: discovery_pb2.DiscoveryRequest,
        Variant.DELTA: discovery_pb2.DeltaDiscoveryRequest,
    }
    for each in methods.SERVICES:
        for name, variant in each.streaming.items():
            path = f"/{each.service}/{name}"
            yield Method(Caller.INSTANCE, path, requests[variant], takes_many=True, gives_many=True)
        if each.polled is not None:
            path, request = f"/{each.service}/{each.polled}", requests[Variant.SOTW]
            yield Method(Caller.INSTANCE, path, request, takes_many=False, gives_many=False)


METHODS: tuple[Method, ...] = (
    *(
        method
        for service in (*ADMIN_SERVICES, health.SERVICE_NAME)
        for method in _defined(Caller.OPERATOR, service)
    ),
    *(
        method
        for service, definition in _REFLECTION.items()
        for method in _defined(Caller.OPERATOR, service, definition)
    ),
    *_discovery(),
    *_defined(Caller.INSTANCE, "c2c.v1.IdentityService"),
    *_defined(Caller.INSTANCE, "c2c.v1.SidecarService"),
    *_defined(Caller.STRANGER, "c2c.v1.EnrollmentService"),
)
