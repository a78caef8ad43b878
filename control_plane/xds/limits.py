"""How much one client may ask for.

The rule of this module: what a client can make the server remember is bounded, each bound is a
number here, and a client that passes one loses its stream and disturbs nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds for one stream.

    Attributes:
        types: how many resource types it may ask for.
        names: how many resource names it may be subscribed to, over all types.
        name_octets: how long a resource name may be.
        node_id_octets: how long a node id may be.
    """

    types: int = 64
    names: int = 4096
    name_octets: int = 1024
    node_id_octets: int = 256
