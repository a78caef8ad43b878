"""Which resources one instance should have, given all that was ever committed."""

from control_plane.planner.names import (
    NAME_TABLE,
    NAME_TABLE_TYPE,
    PublishedNames,
    UncertifiedNames,
    none_uncertified,
)
from control_plane.planner.options import PlanOptions
from control_plane.planner.plan import Planner, SecretContent
from control_plane.planner.ports import NOTHING_GONE, Gone
from control_plane.planner.requests import c2c_request, ports_request

__all__ = [
    "NAME_TABLE",
    "NAME_TABLE_TYPE",
    "NOTHING_GONE",
    "Gone",
    "PlanOptions",
    "Planner",
    "PublishedNames",
    "SecretContent",
    "UncertifiedNames",
    "c2c_request",
    "none_uncertified",
    "ports_request",
]
