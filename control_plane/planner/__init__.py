"""Which resources one instance should have, given everything that was ever committed.

- ``plan`` puts a plan together: ``ports`` (clusters, listeners, filters, with the ``sources`` that
  may connect), ``names`` (the name table) and the secrets. ``requests`` says what the certificates
  must say. ``options`` holds what all plans have in common, ``shared`` what is built once for many
  plans.
- ``explain`` tells why an app reaches another or does not, as a ``chain`` of links, with
  ``destination`` (which app is meant), ``resolution`` and ``families`` (two of the links) and
  ``advice`` (what helps).
"""

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
