"""The names in a request: what it asks for, gives up, and states to have.

The rule of this module: they are counted before any of them is looked at. Four megabytes have two
million names, and each that becomes an object of ours costs all other clients their turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import Locator

DEFAULT_LIMITS = StreamLimits()


def names(said: Sequence[str], limits: StreamLimits) -> tuple[str, ...]:
    """Return the names of a list.

    Raises:
        PeerLimitExceeded: they are too many.
    """
    limits.check_number(len(said))
    return tuple(said)


def versions(said: Any, limits: StreamLimits) -> dict[str, str]:  # noqa: ANN401 - made at run time
    """Return the versions of a map, by the names.

    Raises:
        PeerLimitExceeded: they are too many.
    """
    limits.check_number(len(said))
    return dict(said)


def locators(said: Sequence[Any], limits: StreamLimits) -> tuple[Locator, ...]:
    """Return the locators of a list.

    Raises:
        PeerLimitExceeded: they are too many, or one has too many parameters.
    """
    limits.check_number(len(said))
    return tuple(_locator(each, limits) for each in said)


def _locator(said: Any, limits: StreamLimits) -> Locator:  # noqa: ANN401 - made at run time
    limits.check_number_of_parameters(len(said.dynamic_parameters))
    return Locator(said.name, tuple(sorted(said.dynamic_parameters.items())))
