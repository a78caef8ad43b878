"""Make before break: in which order the types of one stream are served.

The rules of this module (quotations are from the xDS protocol, "Eventual consistency
considerations"):

- "CDS updates (if any) must always be pushed first", then EDS, LDS and RDS, the last two after the
  client answered what comes before. One refused cluster does not keep the listeners waiting.
- "Stale CDS clusters and related EDS endpoints (ones no longer being referenced) can then be
  removed": as long as a listener is refused nothing is withdrawn that the one before it may use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from control_plane.xds.resource import WILDCARD, TypeUrl
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.translation import Machine


class Ordering:
    """What the types of one stream wait for."""

    __slots__ = ("_at_rest", "_content", "_machines", "_types")

    def __init__(
        self,
        types: ResourceTypes,
        machines: Mapping[TypeUrl, Machine],
        at_rest: Mapping[TypeUrl, TypeSnapshot],
        content: Callable[[TypeUrl, Snapshot], TypeSnapshot],
    ) -> None:
        """Start before the first request.

        Args:
            types: what is known of each resource type.
            machines: those of the stream.
            at_rest: the types of which nothing is owed, each with what it was compared with.
            content: returns what the client should have of a type.
        """
        self._types = types
        self._machines = machines
        self._at_rest = at_rest
        self._content = content

    def in_order(self) -> list[TypeUrl]:
        """Return the types that the client asks for, in the order in which they are served."""
        known = [each.url for each in self._types.ordered if each.url in self._machines]
        return known + [url for url in self._machines if url not in self._types.by_url]

    def must_wait(self, url: TypeUrl, snapshot: Snapshot, now: float) -> bool:
        """Tell whether a type that comes first still has something to send or to hear."""
        return any(
            self._machines[before].is_due(
                content, now, withdraw=self.may_withdraw(before, snapshot)
            )
            for before in self._types.get(url).after
            if before in self._machines
            and self._at_rest.get(before) is not (content := self._content(before, snapshot))
        )

    def may_withdraw(self, url: TypeUrl, snapshot: Snapshot) -> bool:
        """Tell whether nobody refers any more to what should not be there.

        The first answer to a wildcard, or to a glob, withdraws nothing: a client that reconnects
        has too much, and asks for the types that refer to it only while that answer is under way.
        """
        followers = self._types.followers(url)
        machine = self._machines[url]
        if followers and WILDCARD in machine.exchange.owed:
            return False
        if followers and machine.subscription.globs & machine.exchange.owed:
            return False
        return all(
            self._at_rest.get(follower) is (content := self._content(follower, snapshot))
            or self._machines[follower].in_step(content)
            for follower in followers
            if follower in self._machines
        )
