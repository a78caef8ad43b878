"""New streams on a clock that the test moves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from control_plane.errors import Unavailable
from control_plane.server.access.arrivals import Arrivals
from control_plane.server.limits import ServerLimits
from tests.unit.server_security.still_clock import StillClock

LIMITS = ServerLimits(
    new_streams_per_second=10.0, new_streams_burst=100, new_streams_per_node_and_minute=6
)


def let_in(arrivals: Arrivals, node_id: str, times: int) -> int:
    """Return how many of so many streams were let in."""
    count = 0
    for _ in range(times):
        try:
            arrivals.let_in(node_id)
        except Unavailable:
            continue
        count += 1
    return count


def test_a_node_has_a_bound_of_its_own() -> None:
    """So many streams a minute, at once or one after the other, whatever others do."""
    clock = StillClock()
    arrivals = Arrivals(LIMITS, clock)

    assert let_in(arrivals, "one", 20) == 6
    assert let_in(arrivals, "two", 20) == 6

    clock.time += timedelta(seconds=10)

    assert let_in(arrivals, "one", 20) == 1
    with pytest.raises(Unavailable, match="more than 6 new streams of one node in a minute"):
        arrivals.let_in("one")


def test_what_a_node_was_refused_counts_for_nobody() -> None:
    """A node that hammers takes nothing from the bound that all share."""
    arrivals = Arrivals(LIMITS, StillClock())
    let_in(arrivals, "one", 1000)

    assert sum(let_in(arrivals, f"node-{number}", 1) for number in range(200)) == 94
    with pytest.raises(Unavailable, match="too many new streams at once"):
        arrivals.let_in("somebody else")


def test_nodes_that_came_long_ago_take_no_memory() -> None:
    """Who did not come for a minute is as one who never came, and is forgotten."""
    clock = StillClock()
    arrivals = Arrivals(LIMITS, clock)
    for number in range(50):
        let_in(arrivals, f"node-{number}", 1)
    clock.time += timedelta(seconds=9)
    let_in(arrivals, "node-0", 1)

    assert len(arrivals._by_node._buckets) == 50

    clock.time += timedelta(seconds=1)
    let_in(arrivals, "another", 1)

    assert list(arrivals._by_node._buckets) == ["node-0", "another"]
