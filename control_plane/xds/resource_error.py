"""Why a client is not sent what it asked for, where it wants to be told (xDS TP3).

The rules of this module (quotations are from "TP3: xds-error-propagation"):

- An error goes with whatever tells that there is nothing: in delta beside ``removed_resources``, so
  that "the client should handle this case exactly the same way". "The xDS Management server is only
  expected to return the error message once": it is told when the name is asked for, or when what
  the client had is gone, and then no more.
- A name that stands for several, as ``*`` does, is no reason for one.
- A client that does not say that it takes errors is told none. TP3 proposes a feature for that and
  gives it no prefix, which all others have, so both count.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.xds.messages import ErrorDetail, Node
from control_plane.xds.snapshot import TypeSnapshot

_TAKES_ERRORS = frozenset(
    {
        "supports-resource-error-unwrapping",
        "xds.config.supports-resource-error-unwrapping",
    }
)

NOT_FOUND = ErrorDetail(5, "there is no resource of this name and type")
"""Also what belongs to somebody else, whose names nobody can find out by asking."""

_PERMISSION_DENIED = 7


def takes_errors(node: Node | None) -> bool:
    """Tell whether a client is to be told errors, by the features that it says it has."""
    return node is not None and not _TAKES_ERRORS.isdisjoint(node.client_features)


def errors_of(names: Iterable[str], snapshot: TypeSnapshot) -> dict[str, ErrorDetail]:
    """Return what is to be told of names of which a client is sent nothing."""
    return {
        name: ErrorDetail(_PERMISSION_DENIED, snapshot.denied[name])
        if name in snapshot.denied
        else NOT_FOUND
        for name in names
    }
