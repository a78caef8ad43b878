"""Requests and responses of the protocol as bytes: the only place that touches them.

The rule of this module: whatever a client sends, what comes out is a request or a
``PeerProtocolError``. Of Envoy's first request, 61 KB that describe all its extensions, only what a
server acts on is read; and of what is kept of a request, nothing is long, and nothing is a key.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any, assert_never

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from control_plane.errors import PeerProtocolError
from control_plane.nodes import Variant
from control_plane.server.redaction import REDACTED
from control_plane.server.wire_node import read_node
from control_plane.xds.messages import DeltaRequest, ErrorDetail, Reply, Request, SotwRequest
from control_plane.xds.resource import Resource, TypeUrl

MAX_ERROR_CHARACTERS = 4096
"""What is kept of a client's error text; Envoy's longest name a resource and a reason."""

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def parse(raw: bytes, variant: Variant) -> Request:
    """Read a request of a variant.

    Raises:
        PeerProtocolError: the bytes are none.
    """
    match variant:
        case Variant.SOTW:
            return parse_sotw(raw)
        case Variant.DELTA:
            return parse_delta(raw)
        case _:
            assert_never(variant)


def parse_sotw(raw: bytes) -> SotwRequest:
    """Read a ``DiscoveryRequest``.

    Raises:
        PeerProtocolError: the bytes are none.
    """
    return sotw_request(decode(discovery_pb2.DiscoveryRequest, raw))


def sotw_request(request: Any) -> SotwRequest:  # noqa: ANN401 - made at run time, without stubs
    """Take from a ``DiscoveryRequest`` what a server acts on.

    Raises:
        PeerProtocolError: it asks by resource locators.
    """
    _refuse_locators(request.resource_locators)
    return SotwRequest(
        TypeUrl(request.type_url),
        tuple(request.resource_names),
        request.version_info,
        request.response_nonce,
        _error_detail(request),
        read_node(request),
    )


def parse_delta(raw: bytes) -> DeltaRequest:
    """Read a ``DeltaDiscoveryRequest``.

    Raises:
        PeerProtocolError: the bytes are none.
    """
    request = decode(discovery_pb2.DeltaDiscoveryRequest, raw)
    _refuse_locators(request.resource_locators_subscribe or request.resource_locators_unsubscribe)
    return DeltaRequest(
        TypeUrl(request.type_url),
        tuple(request.resource_names_subscribe),
        tuple(request.resource_names_unsubscribe),
        dict(request.initial_resource_versions),
        request.response_nonce,
        _error_detail(request),
        read_node(request),
    )


def encode(reply: Reply, variant: Variant, identifier: str) -> bytes:
    """Write a response of a variant.

    Args:
        reply: what to say.
        variant: how the client wants it said.
        identifier: which server says it; Envoy shows it as ``control_plane.identifier``.
    """
    match variant:
        case Variant.SOTW:
            return _encode_sotw(reply, identifier)
        case Variant.DELTA:
            return _encode_delta(reply, identifier)
        case _:
            assert_never(variant)


def _encode_sotw(reply: Reply, identifier: str) -> bytes:
    response = discovery_pb2.DiscoveryResponse(
        version_info=reply.version,
        type_url=reply.type_url,
        nonce=reply.nonce,
        control_plane={"identifier": identifier},
    )
    if reply.errors:
        _add_errors(response, reply)
    for resource in reply.resources:
        if resource.name in reply.ttls:
            wrapped = discovery_pb2.Resource()
            _fill(wrapped, resource, reply)
            response.resources.add().Pack(wrapped)
        else:
            response.resources.add(type_url=resource.type_url, value=resource.body)
    return bytes_of(response)


def _encode_delta(reply: Reply, identifier: str) -> bytes:
    response = discovery_pb2.DeltaDiscoveryResponse(
        system_version_info=reply.version,
        type_url=reply.type_url,
        nonce=reply.nonce,
        removed_resources=reply.removed,
        control_plane={"identifier": identifier},
    )
    for resource in reply.resources:
        _fill(response.resources.add(aliases=resource.aliases), resource, reply)
    if reply.errors:
        _add_errors(response, reply)
    for name, version in reply.kept.items():
        _set_ttl(response.resources.add(name=name, version=version), reply)
    for name in reply.unresolved:
        # No content and the version that the client has would be a heartbeat; so it has another.
        response.resources.add(name=name, aliases=[name], version=reply.nonce)
    return bytes_of(response)


def _add_errors(response: Any, reply: Reply) -> None:  # noqa: ANN401 - either kind of response
    for name, error in reply.errors.items():
        response.resource_errors.add(
            resource_name={"name": name},
            error_detail={"code": error.code, "message": error.message},
        )


def _fill(entry: Any, resource: Resource, reply: Reply) -> None:  # noqa: ANN401 - likewise
    entry.name, entry.version = resource.name, resource.version
    entry.resource.type_url = resource.type_url
    entry.resource.value = resource.body
    if reply.ttls:
        _set_ttl(entry, reply)


def _set_ttl(entry: Any, reply: Reply) -> None:  # noqa: ANN401 - likewise
    seconds = reply.ttls.get(entry.name)
    if seconds is not None:
        entry.ttl.FromNanoseconds(round(seconds * 1e9))


def decode(message: Any, raw: bytes) -> Any:  # noqa: ANN401 - made at run time, without stubs
    """Read a message of a class.

    Raises:
        PeerProtocolError: the bytes are none.
    """
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise PeerProtocolError(
            f"{len(raw)} bytes that are no {message.DESCRIPTOR.full_name}"
        ) from error


def _refuse_locators(locators: Collection[Any]) -> None:
    """Refuse names with dynamic parameters: a request with no others looks like a wildcard."""
    if locators:
        raise PeerProtocolError("resource locators are not served: ask by resource names")


def bytes_of(response: Any) -> bytes:  # noqa: ANN401 - made at run time, without stubs
    """Write a message."""
    serialised: bytes = response.SerializeToString()
    return serialised


def _error_detail(request: Any) -> ErrorDetail | None:  # noqa: ANN401 - either kind of request
    if not request.HasField("error_detail"):
        return None
    return ErrorDetail(request.error_detail.code, _without_keys(request.error_detail.message))


def _without_keys(text: str) -> str:
    """Return a client's error text as it may be kept.

    It may quote the Secret that it refuses, and what Envoy says of listeners ends with a newline.
    """
    return _PRIVATE_KEY.sub(REDACTED, text).rstrip()[:MAX_ERROR_CHARACTERS]
