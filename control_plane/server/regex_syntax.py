"""The regular expressions of callers, parsed or refused.

The rule of this module: what is accepted means what it means in RE2, which Envoy matches with
(https://github.com/google/re2/wiki/Syntax). That is the part of it that is about plain text:
characters, ``.``, classes, groups, ``|``, repetitions, ``^`` and ``$``. All else is refused, and so
is a pattern that is too long to be meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from control_plane.errors import InvalidArgument
from control_plane.names import shown

MAX_PATTERN_OCTETS = 1024

MAX_REPEAT = 1000
"""RE2's own bound."""

MAX_DEPTH = 50
"""Groups in each other."""

_COUNT = re.compile(r"\{(\d{1,6})(?:(,)(\d{0,6}))?\}", re.ASCII)
_SPECIAL = frozenset("\\.[](){}*+?|^$")
_CLASSES = {
    "d": (("0", "9"),),
    "w": (("0", "9"), ("A", "Z"), ("_", "_"), ("a", "z")),
    "s": (("\t", "\n"), ("\f", "\r"), (" ", " ")),
}
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}


Class = tuple[tuple[tuple[str, str], ...], bool]
"""Ranges of characters, both ends included, and whether all others are meant instead."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of one of these classes, or of none of them."""

    classes: tuple[Class, ...]
    is_negated: bool = False

    def has(self, char: str) -> bool:
        """Tell whether a character is one of them."""
        return self.is_negated is not any(
            is_negated is not any(first <= char <= last for first, last in ranges)
            for ranges, is_negated in self.classes
        )


@dataclass(frozen=True, slots=True)
class Edge:
    """The beginning of the text, or its end."""

    is_end: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """One of several."""

    ways: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same again and again; ``most`` is None where there is no bound."""

    what: Expression
    least: int
    most: int | None


Expression = Chars | Edge | Sequence | Either | Repeat

_ANY = Chars(((((("\n", "\n")),), False),), is_negated=True)


def parse_regex(pattern: str, *, field: str = "") -> Expression:
    """Return what a pattern means.

    Raises:
        InvalidArgument: it is empty, too long, or no regular expression that is understood here.
    """
    if not pattern or len(pattern.encode()) > MAX_PATTERN_OCTETS:
        raise InvalidArgument(
            f"a regular expression must have 1 to {MAX_PATTERN_OCTETS} octets: {shown(pattern)}",
            field=field,
        )
    return _Parser(pattern, field).parse()


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str, field: str) -> None:
        self._pattern = pattern
        self._field = field
        self._at = 0
        self._depth = 0

    def parse(self) -> Expression:
        found = self._either()
        if self._at < len(self._pattern):
            self._refuse("a ) without its (")
        return found

    def _either(self) -> Expression:
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else Either(tuple(ways))

    def _sequence(self) -> Expression:
        parts: list[Expression] = []
        while self._rest and self._rest[0] not in "|)":
            parts.append(self._repeated(self._one()))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _repeated(self, what: Expression) -> Expression:
        bounds = self._bounds()
        if bounds is None:
            return what
        self._take("?")  # as few as possible is the same where the whole text is matched
        if self._bounds() is not None:
            self._refuse("a repetition of a repetition")
        least, most = bounds
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            self._refuse(f"a repetition that is not from m to n times, up to {MAX_REPEAT}")
        return Repeat(what, least, most)

    def _bounds(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        count = _COUNT.match(self._pattern, self._at)
        if count is None:
            return None
        self._at = count.end()
        least = int(count[1])
        if count[2] is None:
            return least, least
        return least, int(count[3]) if count[3] else None

    def _one(self) -> Expression:
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._class()
        if self._take("."):
            return _ANY
        if self._take("^"):
            return Edge(is_end=False)
        if self._take("$"):
            return Edge(is_end=True)
        if self._take("\\"):
            return Chars((self._escape(),))
        if self._rest[0] in "*+?":
            self._refuse(f"{self._rest[0]} with nothing to repeat")
        return Chars((_only(self._next()),))

    def _group(self) -> Expression:
        if self._take("?") and not self._take(":"):
            self._refuse("a group with a flag or a name")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"more than {MAX_DEPTH} groups in each other")
        found = self._either()
        self._depth -= 1
        if not self._take(")"):
            self._refuse("a ( without its )")
        return found

    def _class(self) -> Expression:
        is_negated = self._take("^")
        classes = [self._member()]
        while not self._take("]"):
            classes.append(self._member())
        return Chars(tuple(classes), is_negated)

    def _member(self) -> Class:
        """Return a character, a range or a class within brackets."""
        if self._rest.startswith("[:"):
            self._refuse("a named class")
        first = self._char()
        if not self._rest.startswith("-") or self._rest.startswith("-]"):
            return first
        self._at += 1
        begin, end = _single(first), _single(self._char())
        if begin is None or end is None or begin > end:
            self._refuse("a range that does not go from one character to a later one")
        return ((begin, end),), False

    def _char(self) -> Class:
        return self._escape() if self._take("\\") else _only(self._next())

    def _escape(self) -> Class:
        char = self._next()
        if char.lower() in _CLASSES:
            return _CLASSES[char.lower()], char.isupper()
        if char in _CONTROLS:
            return _only(_CONTROLS[char])
        if char in _SPECIAL or (char.isascii() and not char.isalnum()):
            return _only(char)
        return self._refuse(f"\\{char}")

    @property
    def _rest(self) -> str:
        return self._pattern[self._at : self._at + 2]

    def _next(self) -> str:
        if self._at == len(self._pattern):
            self._refuse("an end where more has to come")
        self._at += 1
        return self._pattern[self._at - 1]

    def _take(self, sign: str) -> bool:
        """Go on if this comes next, and tell whether it does."""
        if not self._pattern.startswith(sign, self._at):
            return False
        self._at += len(sign)
        return True

    def _refuse(self, what: str) -> NoReturn:
        raise InvalidArgument(
            f"this regular expression cannot be matched, for {what}: {shown(self._pattern)}",
            field=self._field,
        )


def _single(found: Class) -> str | None:
    """Return the one character of a class; None if it has more."""
    ranges, is_negated = found
    is_single = len(ranges) == 1 and ranges[0][0] == ranges[0][1] and not is_negated
    return ranges[0][0] if is_single else None


def _only(char: str) -> Class:
    return ((char, char),), False
