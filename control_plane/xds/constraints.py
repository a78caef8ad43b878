"""Which clients a variant of a resource is for: constraints on dynamic parameters (xDS TP2).

The rules of this module (quotations are from "TP2: Dynamically Generated Cacheable xDS Resources"):

- A constraint refers to keys. "If a set of constraints does not specify any constraint for a given
  parameter sent by the client, that parameter does not prevent the constraints from matching."
- A value matches no client that does not send the key; "exists" is "any value except for the key
  being absent".
- "All variants of a given resource specify non-overlapping constraints for the same set of keys.
  Control planes must not accept a set of resources that violates this requirement." To find out
  whether two overlap, each key is tried with every value that they mention, with some other value,
  and absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from math import prod

from control_plane.names import shown

Parameters = tuple[tuple[str, str], ...]
"""The dynamic parameters with which a client asks for something: sorted pairs of key and value."""

MOST_COMPARISONS = 100_000
"""How many times constraints may be matched to find out whether those of one name overlap; this
many take some 0.1 s."""


@dataclass(frozen=True, slots=True)
class Single:
    """The client sends a key with this value, or with any value if this is None."""

    key: str
    value: str | None = None

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters matches."""
        found = parameters.get(self.key)
        return found is not None if self.value is None else found == self.value

    def singles(self) -> Iterator[Single]:
        """Yield the single rules that this rule consists of."""
        yield self

    def __str__(self) -> str:
        return f"{self.key} exists" if self.value is None else f"{self.key}={self.value}"


@dataclass(frozen=True, slots=True)
class Several:
    """All of these rules match; or at least one, if ``one_is_enough``."""

    parts: tuple[Rule, ...]
    one_is_enough: bool = False

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters matches."""
        enough = any if self.one_is_enough else all
        return enough(each.matches(parameters) for each in self.parts)

    def singles(self) -> Iterator[Single]:
        """Yield the single rules that this rule consists of."""
        for each in self.parts:
            yield from each.singles()

    def __str__(self) -> str:
        word = " or " if self.one_is_enough else " and "
        return f"({word.join(map(str, self.parts))})"


@dataclass(frozen=True, slots=True)
class Not:
    """The rule in it does not match."""

    part: Rule

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters matches."""
        return not self.part.matches(parameters)

    def singles(self) -> Iterator[Single]:
        """Yield the single rules that this rule consists of."""
        yield from self.part.singles()

    def __str__(self) -> str:
        return f"not {self.part}"


Rule = Single | Several | Not


@dataclass(frozen=True, slots=True)
class Constraints:
    """What a client's parameters must be like for it to get a variant.

    Attributes:
        encoded: the serialised ``DynamicParameterConstraints`` message, which is sent to clients.
            Constraints with equal messages are equal.
        rule: the meaning of the message.
    """

    encoded: bytes = field(repr=False)
    rule: Rule = field(compare=False)

    def matches(self, parameters: Mapping[str, str]) -> bool:
        """Tell whether a client that sends these parameters matches."""
        return self.rule.matches(parameters)


@lru_cache(maxsize=1024)
def ambiguity(variants: tuple[Constraints, ...]) -> str:
    """Return why it is ambiguous which of a resource's variants some client should have.

    Many resources have the same constraints and are set again and again, so the result for each
    combination is cached.

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
