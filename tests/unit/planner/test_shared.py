"""What is built once, and for how long it is remembered."""

from __future__ import annotations

import gc

from control_plane.planner.shared import Shared
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import CLUSTER


class Builder:
    """Builds clusters, and counts them."""

    def __init__(self) -> None:
        """Start with none."""
        self.built = 0

    def __call__(self, name: str, port: int = 0) -> Resource:
        """Build a cluster."""
        self.built += 1
        return Resource.of(CLUSTER, name, f"{port}".encode())


def test_what_somebody_has_is_not_built_again() -> None:
    """The same facts give the very same message, and others another."""
    builder = Builder()
    shared = Shared(builder)

    first = shared("a", 1)

    assert shared("a", 1) is first
    assert shared("a", port=1) == first
    assert shared("a", 2) != first
    assert shared("a", 1) is first


def test_what_nobody_has_is_forgotten() -> None:
    """A fleet that changes all the time leaves nothing behind."""
    builder = Builder()
    shared = Shared(builder)
    kept = shared("kept", 1)
    for number in range(100):
        shared("dropped", number)
    gc.collect()

    assert len(shared) == 1
    assert shared("kept", 1) is kept
    assert builder.built == 101
