"""Which variant of a resource is whose: constraints on what clients say of themselves (xDS TP2).

The rules of this module (quotations are from "TP2: Dynamically Generated Cacheable xDS Resources"):

- Constraints speak of keys. "If a set of constraints does not specify any constraint for a given
  parameter sent by the client, that parameter does not prevent the constraints from matching."
- A value matches no client that does not send the key; "exists" is "any value except for the key
  being absent".
- "All variants of a given resource specify non-overlapping constraints for the same set of keys.
  Control planes must not accept a set of resources that violates this requirement." Whether two
  overlap is tried out: with each value that they mention, another one, and without the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from math import prod

from control_plane.names import shown

Parameters = tuple[tuple[str, str], ...]
"""The dynamic parameters with which a client asks for something: pairs of key and value, sorted."""

MOST_COMPARISONS = 100_000
"""How often constraints are matched to find out whether those of one name overlap: some 0.1 s."""


@dataclass(frozen=True, slots=True)
class Single:
    """A client sends a key, with this value; with any if there is None."""

    key: str
    value: str | None = None

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters is meant."""
        found = parameters.get(self.key)
        return found is not None if self.value is None else found == self.value

    def singles(self) -> Iterator[Single]:
        """Yield what this is made of."""
        yield self

    def __str__(self) -> str:
        return f"{self.key} exists" if self.value is None else f"{self.key}={self.value}"


@dataclass(frozen=True, slots=True)
class Several:
    """All of these rules match; or any, if one is enough."""

    parts: tuple[Rule, ...]
    one_is_enough: bool = False

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters is meant."""
        enough = any if self.one_is_enough else all
        return enough(each.matches(parameters) for each in self.parts)

    def singles(self) -> Iterator[Single]:
        """Yield what this is made of."""
        for each in self.parts:
            yield from each.singles()

    def __str__(self) -> str:
        word = " or " if self.one_is_enough else " and "
        return f"({word.join(map(str, self.parts))})"


@dataclass(frozen=True, slots=True)
class Not:
    """A rule does not match."""

    part: Rule

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters is meant."""
        return not self.part.matches(parameters)

    def singles(self) -> Iterator[Single]:
        """Yield what this is made of."""
        yield from self.part.singles()

    def __str__(self) -> str:
        return f"not {self.part}"


Rule = Single | Several | Not


@dataclass(frozen=True, slots=True)
class Constraints:
    """What the parameters of a client have to be like for a variant to be its own.

    Attributes:
        encoded: the ``DynamicParameterConstraints`` message, which clients are sent, serialised.
            Constraints are the same if this is.
        rule: what it says.
    """

    encoded: bytes = field(repr=False)
    rule: Rule = field(compare=False)

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters is meant."""
        return self.rule.matches(parameters)


@lru_cache(maxsize=1024)
def ambiguity(variants: tuple[Constraints, ...]) -> str:
    """Return why nobody could tell which of a resource's variants some client should have.

    Many resources have the same constraints, and are set again and again: each combination is
    looked at once.

    Returns:
        A sentence without the name of the resource; "" if there is no such client.
    """
    values: dict[str, set[str]] = {}
    for each in variants:
        keys = {single.key for single in each.rule.singles()}
        if values and keys != values.keys():
            return f"{_quoted(variants[0])} and {_quoted(each)} are not of the same keys"
        for single in each.rule.singles():
            mentioned = values.setdefault(single.key, set())
            if single.value is not None:
                mentioned.add(single.value)
    return _overlap(variants, values) if len(variants) > 1 else ""


def _overlap(variants: tuple[Constraints, ...], values: Mapping[str, set[str]]) -> str:
    choices: list[list[str | None]] = [
        [*sorted(mentioned), max(mentioned, default="") + "x", None]
        for mentioned in values.values()
    ]
    comparisons = prod(map(len, choices)) * len(variants)
    if comparisons > MOST_COMPARISONS:
        return f"it would take {comparisons} comparisons to tell them apart"
    for combination in product(*choices):
        given = zip(values, combination, strict=True)
        parameters = {key: value for key, value in given if value is not None}
        matching = [each for each in variants if each.matches(parameters)]
        if len(matching) > 1:
            one, other = map(_quoted, matching[:2])
            said = ", ".join(map("=".join, parameters.items())) or "no parameters"
            return f"{one} and {other} both match {shown(said)}"
    return ""


def _quoted(constraints: Constraints) -> str:
    return shown(str(constraints.rule))
