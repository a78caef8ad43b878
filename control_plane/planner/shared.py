"""Messages that are built once, for as long as something uses them.

The rule of this module: it keeps nothing alive. A message that is in no snapshot any more is
forgotten, and one that is in a snapshot is found again, however large the fleet is. A cache of a
fixed size would be too small for one fleet and too large for another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar
from weakref import WeakValueDictionary

P = ParamSpec("P")
Built = TypeVar("Built")


class Shared(Generic[P, Built]):
    """What a builder returned, by the arguments that it was built from."""

    def __init__(self, build: Callable[P, Built]) -> None:
        """Share the results of this pure function, whose arguments have to be hashable."""
        self._build = build
        self._built: WeakValueDictionary[tuple[object, ...], Built] = WeakValueDictionary()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Built:
        """Return the message, the one that was built before if something still holds it."""
        facts = (*args, *kwargs.items())
        built = self._built.get(facts)
        if built is None:
            built = self._built[facts] = self._build(*args, **kwargs)
        return built

    def __len__(self) -> int:
        """Return how many messages are still held by something."""
        return len(self._built)
