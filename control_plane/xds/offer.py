"""What a state-of-the-world response would have, and which of that is no reason to send it.

The rule of this module: "The management server should not send a DiscoveryResponse for any
DiscoveryRequest that has a stale nonce" (xDS protocol). What only stale requests asked for is
deferred: it leaves with the next response that has another reason.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from control_plane.xds.resource import WILDCARD, Resource, Version


@dataclass(frozen=True, slots=True)
class Offer:
    """What a response would have.

    Attributes:
        news: what the client does not have yet, or is owed again: the version of each name, None if
            it does not exist. The client's answer refers to these.
        reasons: the news that justify a response; the others only accompany them.
    """

    resources: tuple[Resource, ...]
    news: Mapping[str, Version | None]
    reasons: Mapping[str, Version | None]


def is_deferred(name: str, deferred: AbstractSet[str], has: Container[str]) -> bool:
    """Tell whether only stale requests asked for a name.

    Args:
        name: the name.
        deferred: the names that only stale requests asked for; ``*`` stands for everything that the
            client does not have.
        has: the names of which the client has content.
    """
    return name in deferred or (WILDCARD in deferred and name not in has)
