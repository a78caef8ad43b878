"""Requests and responses of the protocol as bytes; no other module reads or writes these bytes.

The rule of this module: whatever a client sends, the result is a request or a
``PeerProtocolError``. Of Envoy's first request, 61 KB that describe all its extensions, only what a
server acts on is read. Nothing that is kept of a request is long, and nothing is a private key.
"""

from __future__ import annotations

import re
from typing import Any, assert_never

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from control_plane.errors import PeerProtocolError
from control_plane.nodes import Variant
from control_plane.server.discovery.wire_names import (
    DEFAULT_LIMITS,
    locators,
    names,
    versions,
)
from control_plane.server.discovery.wire_node import read_node
from control_plane.server.redaction import REDACTED
from control_plane.xds.constraints import Constraints
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import (
    DeltaRequest,
    ErrorDetail,
    Reply,
    Request,
    SotwRequest,
)
from control_plane.xds.resource import Resource, TypeUrl

MAX_ERROR_CHARACTERS = 4096
"""How many characters of a client's error text are kept; Envoy's longest errors name a resource and
a reason."""

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def parse(raw: bytes, variant: Variant, limits: StreamLimits = DEFAULT_LIMITS) -> Request:
    """Parse a request of the given variant.

    Raises:
        PeerProtocolError: the bytes are no such message.
        PeerLimitExceeded: the request names more than the limits allow.
    """
    match variant:
        case Variant.SOTW:
            return parse_sotw(raw, limits)
        case Variant.DELTA:
            return parse_delta(raw, limits)
        case _:
            assert_never(variant)


def parse_sotw(raw: bytes, limits: StreamLimits = DEFAULT_LIMITS) -> SotwRequest:
    """Parse a ``DiscoveryRequest``; raises as ``parse`` does."""
    return sotw_request(decode(discovery_pb2.DiscoveryRequest, raw), limits)


def sotw_request(
    request: Any,  # noqa: ANN401 - made at run time, without stubs
    limits: StreamLimits = DEFAULT_LIMITS,
) -> SotwRequest:
    """Take from a ``DiscoveryRequest`` what a server acts on.

    Raises:
        PeerLimitExceeded: the request names more than the limits allow.
    """
    return SotwRequest(
        TypeUrl(request.type_url),
        names(request.resource_names, limits),
        request.version_info,
        request.response_nonce,
        _error_detail(request),
        read_node(request),
        locators(request.resource_locators, limits),
    )


def parse_delta(raw: bytes, limits: StreamLimits = DEFAULT_LIMITS) -> DeltaRequest:
    """Parse a ``DeltaDiscoveryRequest``; raises as ``parse`` does."""
    request = decode(discovery_pb2.DeltaDiscoveryRequest, raw)
    return DeltaRequest(
        TypeUrl(request.type_url),
        names(request.resource_names_subscribe, limits),
        names(request.resource_names_unsubscribe, limits),
        versions(request.initial_resource_versions, limits),
        request.response_nonce,
        _error_detail(request),
        read_node(request),
        locators(request.resource_locators_subscribe, limits),
        locators(request.resource_locators_unsubscribe, limits),
    )


def encode(reply: Reply, variant: Variant, identifier: str) -> bytes:
    """Encode a response in the given variant.

    Args:
        reply: the response.
        variant: the variant that the client speaks.
        identifier: the server's name for itself; Envoy shows it as ``control_plane.identifier``.
    """
    match variant:
        case Variant.SOTW:
            return _encode_sotw(reply, identifier)
        case Variant.DELTA:
            return _encode_delta(reply, identifier)
        case _:
            assert_never(variant)


def _encode_sotw(reply: Reply, identifier: str) -> bytes:
    response = empty_sotw(reply, identifier)
    for resource in reply.resources:
        if is_wrapped(resource, reply):
            response.resources.add().Pack(wrapped(resource, reply))
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
    for name, whose in reply.removed_variants:
        _name_variant(response.removed_resource_names.add(), name, whose)
    for name, version in reply.kept.items():
        entry = response.resources.add(version=version)
        _name(entry, name, reply)
        _set_ttl(entry, name, reply)
    for name in reply.unresolved:
        # Without content and with the version that the client has, the entry would be a heartbeat;
        # so it gets another version.
        response.resources.add(name=name, aliases=[name], version=reply.nonce)
    return bytes_of(response)


def _add_errors(response: Any, reply: Reply) -> None:  # noqa: ANN401 - either kind of response
    for name, error in reply.errors.items():
        response.resource_errors.add(
            resource_name={"name": name},
            error_detail={"code": error.code, "message": error.message},
        )


def empty_sotw(reply: Reply, identifier: str) -> Any:  # noqa: ANN401 - made at run time
    """Return a ``DiscoveryResponse`` that is complete except for its resources."""
    response = discovery_pb2.DiscoveryResponse(
        version_info=reply.version,
        type_url=reply.type_url,
        nonce=reply.nonce,
        control_plane={"identifier": identifier},
    )
    if reply.errors:
        _add_errors(response, reply)
    return response


def is_wrapped(resource: Resource, reply: Reply) -> bool:
    """Tell whether a SotW response says more of a resource than its content."""
    return resource.name in reply.ttls or resource.name in reply.constraints


def wrapped(resource: Resource, reply: Reply) -> Any:  # noqa: ANN401 - made at run time
    """Return a resource as a ``Resource`` message, with all that the response says of it."""
    entry = discovery_pb2.Resource()
    _fill(entry, resource, reply)
    return entry


def _fill(entry: Any, resource: Resource, reply: Reply) -> None:  # noqa: ANN401 - likewise
    _name(entry, resource.name, reply)
    entry.version = resource.version
    entry.resource.type_url = resource.type_url
    entry.resource.value = resource.body
    if reply.ttls:
        _set_ttl(entry, resource.name, reply)


def _name(entry: Any, name: str, reply: Reply) -> None:  # noqa: ANN401 - likewise
    """Name an entry: "only one of *name* or *resource_name* may be set"."""
    whose = reply.constraints.get(name) if reply.constraints else None
    if whose is None:
        entry.name = name
    else:
        _name_variant(entry.resource_name, name, whose)


def _name_variant(entry: Any, name: str, whose: Constraints | None) -> None:  # noqa: ANN401 - likewise
    entry.name = name
    if whose is not None:
        entry.dynamic_parameter_constraints.ParseFromString(whose.encoded)


def _set_ttl(entry: Any, name: str, reply: Reply) -> None:  # noqa: ANN401 - likewise
    seconds = reply.ttls.get(name)
    if seconds is not None:
        entry.ttl.FromNanoseconds(round(seconds * 1e9))


def decode(message: Any, raw: bytes) -> Any:  # noqa: ANN401 - made at run time, without stubs
    """Parse bytes as a message of this class.

    Raises:
        PeerProtocolError: the bytes are no such message.
    """
    try:
        return message.FromString(raw)
    except DecodeError as error:
        raise PeerProtocolError(
            f"{len(raw)} bytes that are no {message.DESCRIPTOR.full_name}"
        ) from error


def bytes_of(response: Any) -> bytes:  # noqa: ANN401 - made at run time, without stubs
    """Serialise a message."""
    serialised: bytes = response.SerializeToString()
    return serialised


def _error_detail(request: Any) -> ErrorDetail | None:  # noqa: ANN401 - either kind of request
    if not request.HasField("error_detail"):
        return None
    return ErrorDetail(request.error_detail.code, _without_keys(request.error_detail.message))


def _without_keys(text: str) -> str:
    """Return a client's error text in the form in which it may be kept.

    The text may quote the Secret that the client refuses, and Envoy's errors about listeners end
    with a newline.
    """
    return _PRIVATE_KEY.sub(REDACTED, text).rstrip()[:MAX_ERROR_CHARACTERS]
