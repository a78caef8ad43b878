"""Requests and responses of the protocol as JSON, in protobuf's own mapping.

The rule of this module: a request in JSON gives the same result as the same request in bytes
(``control_plane.server.discovery.wire``): whatever a client sends, the result is a request or a
``PeerProtocolError``. Unknown fields are ignored, as protobuf does with bytes.
"""

from __future__ import annotations

import json
from typing import Any, cast

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, descriptor_pool
from google.protobuf.json_format import Error, MessageToDict, ParseDict
from google.protobuf.message import DecodeError

from control_plane.errors import MessageError, PeerProtocolError
from control_plane.names import shown
from control_plane.server.descriptors import ImportingPool
from control_plane.server.discovery.wire import empty_sotw, is_wrapped, sotw_request, wrapped
from control_plane.server.discovery.wire_names import DEFAULT_LIMITS
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import Reply, SotwRequest
from control_plane.xds.resource import Resource

_POOL = cast("descriptor_pool.DescriptorPool", ImportingPool())


def parse_json(raw: bytes, limits: StreamLimits = DEFAULT_LIMITS) -> SotwRequest:
    """Parse a ``DiscoveryRequest``.

    Raises:
        PeerProtocolError: the text is no such message.
        PeerLimitExceeded: the request names more than the limits allow.
    """
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PeerProtocolError(f"the body is no JSON: {_reason(error)}") from error
    if not isinstance(fields, dict):
        raise PeerProtocolError("the body is no DiscoveryRequest: it is no object")
    _drop_extensions(fields)
    try:
        request = ParseDict(fields, discovery_pb2.DiscoveryRequest(), ignore_unknown_fields=True)
    except Exception as error:  # such as protobuf's SystemError for text that is no Unicode
        raise PeerProtocolError(f"the body is no DiscoveryRequest: {_reason(error)}") from error
    return sotw_request(request, limits)


def encode_json(reply: Reply, identifier: str) -> bytes:
    """Encode a ``DiscoveryResponse``.

    Args:
        reply: the response.
        identifier: the server's name for itself.

    Raises:
        MessageError: a resource, or what it carries in an ``Any``, is of a type that is not known
            here, or is no message of its type, or has a value that JSON cannot express.
    """
    response: dict[str, Any] = MessageToDict(empty_sotw(reply, identifier))
    if reply.resources:
        response["resources"] = [_resource(each, reply) for each in reply.resources]
    return json.dumps(response).encode()


def _resource(resource: Resource, reply: Reply) -> dict[str, Any]:
    packed = any_pb2.Any(type_url=resource.type_url, value=resource.body)
    if is_wrapped(resource, reply):
        packed.Pack(wrapped(resource, reply))
    try:
        return MessageToDict(packed, descriptor_pool=_POOL)
    except (TypeError, DecodeError, Error) as error:
        what_to_do = "; import the modules of all types of one's own that it carries"
        raise MessageError(
            f"resource {shown(resource.name)} cannot be written as JSON: {error}"
            f"{what_to_do if isinstance(error, TypeError) else ''}"
        ) from error


def _drop_extensions(fields: dict[str, Any]) -> None:
    """Drop fields that take 25 ms in each of Envoy's requests and say nothing that is acted on."""
    node = fields.get("node")
    if isinstance(node, dict):
        node.pop("extensions", None)


def _reason(error: Exception) -> str:
    return shown(str(error)).strip("'\"")
