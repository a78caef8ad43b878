"""Replicas come and go while requests run."""

from __future__ import annotations

import time

from tests.compose.stack import ROUTE, Stack, run
from tests.compose.traffic import requests_from

ENOUGH = 3.0
"""Seconds of requests that show that everything is as it should be."""


def test_new_replicas_are_used_and_old_ones_let_go(stack: Stack) -> None:
    """From two replicas to four and back to two: all four answer, and no request fails."""
    with requests_from(stack.container("app-a")) as traffic:
        stack.up("--scale", "app-b=4", "--no-recreate")
        stack.until_ready(4)
        four = {each.address for each in stack.containers("app-b")}
        time.sleep(ENOUGH)
        stack.up("--scale", "app-b=2", "--no-recreate")
        stack.until_ready(2)
        two = {each.address for each in stack.containers("app-b")}
        time.sleep(ENOUGH)

    assert not traffic.failures
    assert traffic.answered.keys() == four > two


def test_a_replica_that_stops_is_missed_by_nobody(stack: Stack) -> None:
    """A replica that stops leaves the name first, so no request fails; it returns as it was."""
    first, second = stack.containers("app-b")
    address, before = first.address, stack.instances()

    with requests_from(stack.container("app-a")) as traffic:
        run("docker", "stop", "--time", "30", first.id)
        assert stack.resolve(ROUTE) == {second.address}
        stopped = time.time()
        time.sleep(ENOUGH)
        run("docker", "start", first.id)
        stack.until_ready(2)
        time.sleep(ENOUGH)

    assert not [each for each in traffic.failures if each.at > stopped]
    assert not traffic.failures
    assert first.address == address
    assert stack.instances() == before
