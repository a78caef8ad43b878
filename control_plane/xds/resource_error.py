"""The error that says why a client is not sent what it asked for, if it takes errors (xDS TP3).

The rules of this module (quotations are from "TP3: xds-error-propagation"):

- An error accompanies whatever tells the client that a resource does not exist. In delta it comes
  beside ``removed_resources``, so that "the client should handle this case exactly the same way".
  "The xDS Management server is only expected to return the error message once": when the client
  asks for the name, or when the resource that it had is gone, and not again.
- A name that stands for several, such as ``*``, gets no error.
- A client that does not declare that it takes errors gets none. TP3 proposes a client feature for
  this without the prefix that all others have, so the name counts with and without the prefix.
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
"""Also the error for the resources of other nodes, so that nobody can find out their names by
asking."""

_PERMISSION_DENIED = 7


def takes_errors(node: Node | None) -> bool:
    """Tell whether a client takes errors, by the features that it declares."""
    return node is not None and not _TAKES_ERRORS.isdisjoint(node.client_features)


def errors_of(names: Iterable[str], snapshot: TypeSnapshot) -> dict[str, ErrorDetail]:
    """Return the error for each of these names, of which the client is sent no resource."""
    return {
        name: ErrorDetail(_PERMISSION_DENIED, snapshot.denied[name])
        if name in snapshot.denied
        else NOT_FOUND
        for name in names
    }
