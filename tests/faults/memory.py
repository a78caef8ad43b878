"""Who remembers a name: a walk through all that can be reached from an object.

The rule of this module: it follows what code of this project keeps, which is attributes, what is in
containers, and what functions have closed over; a task that runs is no memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType

_CONTAINERS = (list, tuple, set, frozenset, deque)
_FOLLOWED = ("control_plane", "asyncio.queues", "prometheus_client")


def remembering(root: object, name: str) -> list[str]:
    """Return by which ways a text leads to something that has this name in it."""
    found, seen, left = [], set(), [(root, "")]
    while left:
        each, way = left.pop()
        if isinstance(each, str):
            if name in each:
                found.append(way)
        elif id(each) not in seen:
            seen.add(id(each))
            left += [(member, f"{way}.{step}"[-200:]) for step, member in _members(each)]
    return found


def _members(each: object) -> Iterator[tuple[str, object]]:
    if isinstance(each, Mapping):
        yield from (("key", key) for key in tuple(each))
        yield from (("value", value) for value in tuple(each.values()))
    elif isinstance(each, _CONTAINERS):
        yield from (("member", member) for member in tuple(each))
    elif isinstance(each, MethodType):
        yield "self", each.__self__
    elif isinstance(each, FunctionType):
        for cell in each.__closure__ or ():
            yield "closure", cell.cell_contents
    elif type(each).__module__.startswith(_FOLLOWED) and not isinstance(each, type):
        slots = (name for kind in type(each).__mro__ for name in getattr(kind, "__slots__", ()))
        for name in {*slots, *getattr(each, "__dict__", ())}:
            yield name, getattr(each, name, None)
