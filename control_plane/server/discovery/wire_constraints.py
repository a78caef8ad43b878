"""Constraints on dynamic parameters: the message that clients are sent, and what it means.

The rule of this module: a message that leaves open which clients it is for is refused.
"""

from __future__ import annotations

from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import DynamicParameterConstraints

from control_plane.errors import InvalidArgument
from control_plane.xds.constraints import Constraints, Not, Rule, Several, Single

DEEPEST = 16
"""How many levels deep rules may nest: no client needs to read more than a few."""


def read_constraints(message: Any) -> Constraints:  # noqa: ANN401 - made at run time, without stubs
    """Return what a ``DynamicParameterConstraints`` message says.

    Raises:
        InvalidArgument: this is another message, or no message; or it, or a part of it, is empty;
            or it nests too deeply.
    """
    if not isinstance(message, DynamicParameterConstraints):
        kind = f"{type(message).__module__}.{type(message).__qualname__}"
        raise InvalidArgument(f"constraints are DynamicParameterConstraints, not a {kind}")
    rule = _rule(message, 1)
    return Constraints(message.SerializeToString(deterministic=True), rule)


def _rule(message: Any, depth: int) -> Rule:  # noqa: ANN401 - likewise
    if depth > DEEPEST:
        raise InvalidArgument(f"constraints nest deeper than {DEEPEST}")
    match message.WhichOneof("type"):
        case "constraint":
            return _single(message.constraint)
        case "not_constraints":
            return Not(_rule(message.not_constraints, depth + 1))
        case "and_constraints" | "or_constraints" as kind:
            parts = tuple(_rule(each, depth + 1) for each in getattr(message, kind).constraints)
            if not parts:
                raise InvalidArgument(f"{kind} without constraints")
            return Several(parts, one_is_enough=kind == "or_constraints")
        case _:
            raise InvalidArgument("constraints that say nothing")


def _single(constraint: Any) -> Single:  # noqa: ANN401 - likewise
    kind = constraint.WhichOneof("constraint_type")
    if not constraint.key or kind is None:
        raise InvalidArgument("a constraint has a key, and either a value or exists")
    return Single(constraint.key, constraint.value if kind == "value" else None)
