"""Messages that are built once, for as long as somebody should have them.

The rule of this module: it keeps nothing alive. What is in no snapshot any more is forgotten, and
what is in one is found again however big the fleet is, where a cache of a fixed size would be too
small for one fleet and too big for another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar
from weakref import WeakValueDictionary

P = ParamSpec("P")
Built = TypeVar("Built")


class Shared(Generic[P, Built]):
    """What a builder returned, by what it was built from."""

    def __init__(self, build: Callable[P, Built]) -> None:
        """Share what a pure function of hashable arguments builds."""
        self._build = build
        self._built: WeakValueDictionary[tuple[object, ...], Built] = WeakValueDictionary()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Built:
        """Return the message, as it was built before if anybody still has it."""
        facts = (*args, *kwargs.items())
        built = self._built.get(facts)
        if built is None:
            built = self._built[facts] = self._build(*args, **kwargs)
        return built

    def __len__(self) -> int:
        """Return how many messages somebody has."""
        return len(self._built)
