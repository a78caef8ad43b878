"""How many new streams are let in.

The rule of this module: whoever comes too often pays for it alone. A node has a bound of its own,
which it meets before the one that all nodes share, and only who proved to be that node is counted.
"""

from __future__ import annotations

from collections import OrderedDict

from control_plane.clock import Clock
from control_plane.errors import Unavailable
from control_plane.server.limits import ServerLimits, TokenBucket

_SECONDS_PER_MINUTE = 60.0


class Arrivals:
    """Counts new streams, in all and by node."""

    def __init__(self, limits: ServerLimits, clock: Clock) -> None:
        """Start with nobody having come."""
        self._most = limits.new_streams_per_node_and_minute
        self._clock = clock
        self._all = TokenBucket(limits.new_streams_per_second, limits.new_streams_burst, clock)
        self._by_node: OrderedDict[str, TokenBucket] = OrderedDict()

    def let_in(self, node_id: str) -> None:
        """Count a stream of a node.

        Raises:
            Unavailable: it, or all of them, came too often.
        """
        if not self._bucket(node_id).take():
            raise Unavailable(
                f"more than {self._most} new streams of one node in a minute; come again later"
            )
        if not self._all.take():
            raise Unavailable("too many new streams at once; come again in a moment")

    def _bucket(self, node_id: str) -> TokenBucket:
        """Return a node's own bucket; those of nodes that did not come for long are dropped."""
        while self._by_node and next(iter(self._by_node.values())).is_full():
            self._by_node.popitem(last=False)
        bucket = self._by_node.pop(node_id, None)
        if bucket is None:
            bucket = TokenBucket(self._most / _SECONDS_PER_MINUTE, self._most, self._clock)
        self._by_node[node_id] = bucket
        return bucket
