"""The names in a request: those that the client asks for, gives up, or states to have.

The rule of this module: names are counted before any of them is looked at. A message of four
megabytes has room for two million names, and each name that becomes a Python object takes time from
all other clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import Locator

DEFAULT_LIMITS = StreamLimits()


def names(said: Sequence[str], limits: StreamLimits) -> tuple[str, ...]:
    """Return the names in a list.

    Raises:
        PeerLimitExceeded: there are too many.
    """
    limits.check_number(len(said))
    return tuple(said)


def versions(said: Any, limits: StreamLimits) -> dict[str, str]:  # noqa: ANN401 - made at run time
    """Return the versions in a map, by resource name.

    Raises:
        PeerLimitExceeded: there are too many.
    """
    limits.check_number(len(said))
    return dict(said)


def locators(said: Sequence[Any], limits: StreamLimits) -> tuple[Locator, ...]:
    """Return the locators in a list.

    Raises:
        PeerLimitExceeded: there are too many, or one of them has too many parameters.
    """
    limits.check_number(len(said))
    return tuple(_locator(each, limits) for each in said)


def _locator(said: Any, limits: StreamLimits) -> Locator:  # noqa: ANN401 - made at run time
    limits.check_number_of_parameters(len(said.dynamic_parameters))
    return Locator(said.name, tuple(sorted(said.dynamic_parameters.items())))
