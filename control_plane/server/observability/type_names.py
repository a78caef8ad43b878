"""Short names of resource types, as people and dashboards know them.

The rule of this module: the names are few and fixed, so that they can be columns of a table and
labels of a metric; any other type is called ``other``.
"""

from __future__ import annotations

from control_plane.planner import NAME_TABLE_TYPE
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LB_ENDPOINT,
    LISTENER,
    ROUTE,
    RUNTIME,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
)

PLANNED_TYPES = {
    "CDS": CLUSTER,
    "LDS": LISTENER,
    "SDS": SECRET,
    "ECDS": EXTENSION_CONFIG,
    "NAMES": NAME_TABLE_TYPE,
}
"""The types of the resources that instances have, in the order in which they are shown."""

OTHER = "other"

_SHORT = {url: short for short, url in PLANNED_TYPES.items()} | {
    ENDPOINT: "EDS",
    LB_ENDPOINT: "LEDS",
    ROUTE: "RDS",
    SCOPED_ROUTE: "SRDS",
    RUNTIME: "RTDS",
    VIRTUAL_HOST: "VHDS",
}


def short_name(type_url: str) -> str:
    """Return the short name of a type."""
    return _SHORT.get(TypeUrl(type_url), OTHER)
