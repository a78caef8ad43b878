"""Where in memory something is still kept, found by looking into all that is reachable."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType

from control_plane.model.state import State


def kept(root: object, text: str) -> set[str]:
    """Return the shortest paths from an object to each place that has a text, but for States."""
    found: set[str] = set()
    seen: dict[int, object] = {}  # keeps them alive, so that no other one gets the same id
    waiting = deque([("", root)])
    while waiting:
        path, each = waiting.popleft()
        if each == text and isinstance(each, str):
            found.add(path.removeprefix("."))
        if id(each) not in seen and not isinstance(each, State | str | bytes | type):
            seen[id(each)] = each
            waiting.extend((path + step, part) for step, part in _parts(each))
    return found


def _parts(whole: object) -> Iterator[tuple[str, object]]:
    """Yield what something has, and how to get there; of other libraries, containers only."""
    if isinstance(whole, dict):
        yield from (("{}", key) for key in list(whole))
        yield from (("{}.", value) for value in list(whole.values()))
    elif isinstance(whole, list | tuple | set | frozenset | deque):
        yield from (("[]", each) for each in list(whole))
    elif isinstance(whole, MethodType):
        yield "", whole.__self__
    elif isinstance(whole, partial):
        yield "()", (whole.func, whole.args, whole.keywords)
    elif isinstance(whole, FunctionType):
        yield from (("()", cell.cell_contents) for cell in whole.__closure__ or ())
    elif type(whole).__module__.startswith("control_plane."):
        yield from ((f".{name}", getattr(whole, name, None)) for name in _attributes(whole))


def _attributes(whole: object) -> Iterator[str]:
    yield from getattr(whole, "__dict__", ())
    for kind in type(whole).__mro__:
        # Python before 3.11.3 cannot get this one from a dataclass.
        yield from (name for name in getattr(kind, "__slots__", ()) if name != "__weakref__")
