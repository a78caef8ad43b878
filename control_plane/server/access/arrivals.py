"""How many new streams are let in, and how much is read on them.

The rule of this module: a client that comes too often pays for it alone. Each node has a bound of
its own, which it reaches before the bound that all nodes share, and only a client that proved to be
that node counts against it.
"""

from __future__ import annotations

from control_plane.clock import Clock
from control_plane.errors import Unavailable
from control_plane.server.limits import ServerLimits
from control_plane.server.rates import TokenBucket, TokenBuckets


class Arrivals:
    """Counts new streams, in all and by node."""

    def __init__(self, limits: ServerLimits, clock: Clock) -> None:
        """Start with no stream counted."""
        self._most = most = limits.new_streams_per_node_and_minute
        self._all = TokenBucket(limits.new_streams_per_second, limits.new_streams_burst, clock)
        self._by_node = TokenBuckets.per_minute(most, clock)
        rate = limits.request_octets_per_second
        self._octets = None if rate is None else TokenBuckets(rate, limits.request_octets, clock)

    def let_in(self, node_id: str) -> None:
        """Count a new stream of a node.

        Raises:
            Unavailable: streams of this node, or of all nodes, came too often.
        """
        if not self._by_node.take(node_id):
            raise Unavailable(
                f"more than {self._most} new streams of one node in a minute; come again later"
            )
        if not self._all.take():
            raise Unavailable("too many new streams at once; come again in a moment")

    async def turn_to_read(self, who: str, octets: int) -> None:
        """Count a request, and return once it may be parsed.

        A client that sends too much is read more slowly: an Envoy before 1.38 says everything about
        itself with each ACK, and may have to ACK a lot.

        Args:
            who: the client that sent it, identified by the certificate that it showed.
            octets: how long the request is.
        """
        if self._octets is not None:
            await self._octets.turn(who, octets)
