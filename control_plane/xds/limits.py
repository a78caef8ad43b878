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
        names: how many resource names it may be subscribed to, over all types. What a delta client
            says that it has from an earlier stream counts too.
        name_octets: how long a resource name may be.
        version_characters: how long a version may be that it says it has; ours have 16.
        node_id_octets: how long a node id may be.
    """

    types: int = 64
    names: int = 4096
    name_octets: int = 1024
    version_characters: int = 256
    node_id_octets: int = 256
