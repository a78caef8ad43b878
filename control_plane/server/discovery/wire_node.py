"""How a client describes itself: what is kept of its ``Node`` message, and a message made of that.

The rule of this module: of the 61 KB that describe all of Envoy's extensions, only what a server
acts on or shows to operators is read, and nothing that is kept is long.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2

from control_plane.xds.messages import Node

MAX_NODE_CHARACTERS = 256
"""How many characters are kept of each text by which a client describes itself."""

MAX_METADATA_OCTETS = 16_384
"""How long a client's metadata may be; longer metadata is not kept at all."""

MAX_FEATURES = 64
"""How many of a client's features are looked at; Envoy knows six."""


def read_node(request: Any) -> Node | None:  # noqa: ANN401 - any kind of request
    """Return the node that a request says it comes from; None if it does not say so."""
    if not request.HasField("node"):
        return None
    node = request.node
    return Node(
        node.id,
        node.cluster[:MAX_NODE_CHARACTERS],
        _user_agent(node)[:MAX_NODE_CHARACTERS],
        frozenset(each[:MAX_NODE_CHARACTERS] for each in node.client_features[:MAX_FEATURES]),
        _locality(node),
        _metadata(node),
    )


def node_message(node: Node | None) -> base_pb2.Node:
    """Return what is kept of a client's description of itself, as Envoy's own message."""
    if node is None:
        return base_pb2.Node()
    region, zone, sub_zone = node.locality
    name, _, version = node.user_agent.partition("/")
    message = base_pb2.Node(
        id=node.id,
        cluster=node.cluster,
        user_agent_name=name,
        client_features=sorted(node.client_features),
    )
    if version:
        message.user_agent_version = version
    if any(node.locality):
        message.locality.region, message.locality.zone = region, zone
        message.locality.sub_zone = sub_zone
    if node.metadata:
        message.metadata.ParseFromString(node.metadata)
    return message


def _locality(node: Any) -> tuple[str, str, str]:  # noqa: ANN401 - made at run time, without stubs
    if not node.HasField("locality"):
        return ("", "", "")
    place = node.locality
    region, zone, sub_zone = place.region, place.zone, place.sub_zone
    return (
        region[:MAX_NODE_CHARACTERS],
        zone[:MAX_NODE_CHARACTERS],
        sub_zone[:MAX_NODE_CHARACTERS],
    )


def _metadata(node: Any) -> bytes:  # noqa: ANN401 - made at run time, without stubs
    if node.metadata.ByteSize() > MAX_METADATA_OCTETS:
        return b""
    serialised: bytes = node.metadata.SerializeToString()
    return serialised


def _user_agent(node: Any) -> str:  # noqa: ANN401 - made at run time, without stubs
    """Return name and version as HTTP writes them: ``envoy/1.40.0``."""
    name: str = node.user_agent_name
    version: str = node.user_agent_version
    if node.HasField("user_agent_build_version"):
        number = node.user_agent_build_version.version
        version = f"{number.major_number}.{number.minor_number}.{number.patch}"
    return f"{name}/{version}" if version else name
