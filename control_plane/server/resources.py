"""Resources made of messages: what a node should have, in the form in which its owner has it.

The rule of this module: a resource has the type and the name of its message, and the same content
gives the same bytes and so the same version. A virtual host can be asked for by its domains too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message

from control_plane.errors import InvalidArgument
from control_plane.names import shown
from control_plane.server.discovery.wire_constraints import read_constraints
from control_plane.xds.resource import NOTHING, Denied, Resource, TypeUrl
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, LB_ENDPOINT, VIRTUAL_HOST
from control_plane.xds.snapshot import Snapshot, TypeSnapshot

_TYPE_URL_PREFIX = "type.googleapis.com/"

_WRAPPERS = frozenset({"google.protobuf.Any", "envoy.service.discovery.v3.Resource"})
"""Messages that carry another message. No client asks for resources of these types."""

_NO_ENDPOINTS: Mapping[TypeUrl, tuple[str, ...]] = MappingProxyType({ENDPOINT: ()})

_NO_COLLECTIONS: Mapping[TypeUrl, tuple[str, ...]] = MappingProxyType({LB_ENDPOINT: ()})

_NAME_FIELDS = ("name", "cluster_name")
"""The fields in which messages keep their names; in a ``ClusterLoadAssignment`` it is
``cluster_name``."""


def snapshot_of(resources: Iterable[Message | Resource | Denied]) -> Snapshot:
    """Collect resources by type.

    Raises:
        InvalidArgument: a message has no name, or the name ``*``; or two of one type have a name or
            alias in common; or a resource that exists is denied too; or the variants of a name are
            ambiguous; or a type has no URL.
    """
    by_type: dict[TypeUrl, list[Resource]] = {}
    denied: dict[TypeUrl, dict[str, str]] = {}
    for each in resources:
        if isinstance(each, Denied):
            check_type_url(each.type_url)
            denied.setdefault(each.type_url, {})[each.name] = each.reason
            continue
        resource = each if isinstance(each, Resource) else resource_of(each)
        check_type_url(resource.type_url)
        by_type.setdefault(resource.type_url, []).append(resource)
    types = {}
    for url in by_type | denied:
        try:
            types[url] = TypeSnapshot.of(by_type.get(url, ()), denied=denied.get(url))
        except ValueError as error:
            raise InvalidArgument(f"{url.removeprefix(_TYPE_URL_PREFIX)}: {error}") from error
    return Snapshot(MappingProxyType(types))


def check_type_url(url: str) -> None:
    """Refuse a type name in place of the type's URL, because no client could read it in an ``Any``.

    Raises:
        InvalidArgument: it has no slash.
    """
    if "/" not in url:
        raise InvalidArgument(f"a type URL is {_TYPE_URL_PREFIX}<type>, not {shown(url)}")


def resource_of(
    message: Message, *, ttl: float | None = None, constraints: Message | None = None
) -> Resource:
    """Return a message as a resource: same content, same bytes, same version.

    Args:
        message: such as a ``Listener``.
        ttl: the seconds without word from the server after which a client that supports TTLs drops
            the resource; None for never.
        constraints: ``DynamicParameterConstraints`` that say which clients this variant is for, if
            the name has several variants; None if the resource is for all clients.

    Raises:
        InvalidArgument: this is no message, or it packs another; or it has no name, or a name that
            a virtual host must not have; or the TTL is too short or too long; or the constraints
            are no such message, say nothing, or are given for a virtual host.
    """
    _check_message(message)
    full_name = message.DESCRIPTOR.full_name
    if full_name in _WRAPPERS:
        raise InvalidArgument(
            f"a resource is the message that a {full_name} carries: give that one, or its bytes by "
            "Resource.of(...)"
        )
    fields: Mapping[str, object] = message.DESCRIPTOR.fields_by_name
    field = next((each for each in _NAME_FIELDS if each in fields), None)
    name = getattr(message, field) if field is not None else ""
    if not isinstance(name, str) or not name:
        raise InvalidArgument(f"a message {full_name} that tells no name needs a Resource.of(...)")
    type_url = TypeUrl(_TYPE_URL_PREFIX + full_name)
    aliases = _aliases(name, message) if type_url == VIRTUAL_HOST else ()
    awaits = _awaits(type_url, message)
    body = message.SerializeToString(deterministic=True)
    whose = None if constraints is None else read_constraints(constraints)
    try:
        return Resource.of(type_url, name, body, aliases, ttl=ttl, constraints=whose, awaits=awaits)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def _check_message(given: object) -> None:
    """Refuse what is no message: a dict, or another library's message, is easily taken for one."""
    if not isinstance(given, Message):
        kind = f"{type(given).__module__}.{type(given).__qualname__}"
        raise InvalidArgument(f"a resource is a message of google.protobuf, not a {kind}")


def _awaits(
    type_url: TypeUrl,
    message: Any,  # noqa: ANN401 - made at run time
) -> Mapping[TypeUrl, tuple[str, ...]]:
    """Return what a client waits for after it is sent a message, as far as the message tells."""
    if type_url == ENDPOINT:
        names = [
            each.leds_cluster_locality_config.leds_collection_name
            for each in message.endpoints
            if each.HasField("leds_cluster_locality_config")
        ]
        return {LB_ENDPOINT: tuple(names)} if names else _NO_COLLECTIONS
    if type_url != CLUSTER or message.HasField("cluster_type"):
        return NOTHING
    if message.type != message.EDS:
        return _NO_ENDPOINTS
    service = message.eds_cluster_config.service_name
    return {ENDPOINT: (service,)} if service else NOTHING


def _aliases(name: str, virtual_host: Any) -> list[str]:  # noqa: ANN401 - made at run time
    """Return the names by which Envoy asks for a virtual host when a request is for its domains.

    Raises:
        InvalidArgument: the name of the virtual host does not tell its route configuration.
    """
    routes, _, own_name = name.rpartition("/")
    if not (routes and own_name):
        raise InvalidArgument(
            f"a VirtualHost is named <route configuration>/<name of its own>, not {shown(name)}"
        )
    return [f"{routes}/{domain.lower()}" for domain in virtual_host.domains]
