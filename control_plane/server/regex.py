"""Matching the regular expressions of callers, in a time that they cannot stretch.

The rule of this module: every way through a pattern is followed at once, one character after the
other (Thompson's construction), so matching takes as long as the text is long, whatever the
pattern. Python's own ``re`` goes back and tries again, for hours if it is asked to, the package
``regex`` makes gigabytes of a short pattern of repetitions, and RE2 itself has no wheels for musl.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from control_plane.errors import InvalidArgument
from control_plane.server.regex_syntax import (
    Chars,
    Edge,
    Either,
    Expression,
    Repeat,
    Sequence,
    parse_regex,
)

MAX_STEPS = 1000
"""How much a pattern may come to when its repetitions are written out."""

_REMEMBERED = 1000
"""How many steps from one character to the next are remembered."""

_Step = Chars | Edge | tuple[int, ...]
"""A character to read, an edge to be at, or the steps of which any may come next."""

_Places = frozenset[int]


class Regex:
    """A pattern that matches a text as a whole, or does not."""

    def __init__(self, pattern: str, *, field: str = "") -> None:
        """Compile a pattern.

        Raises:
            InvalidArgument: it is not understood, or too much.
        """
        self._program: list[_Step] = []
        self._left = MAX_STEPS
        self._too_much = InvalidArgument(
            "this regular expression repeats too much to be matched", field=field
        )
        self._emit(parse_regex(pattern, field=field))
        self._end = len(self._program)
        self._start = self._reached([0], at_start=True)
        self._next: dict[tuple[_Places, str], _Places] = {}

    def matches(self, text: str) -> bool:
        """Tell whether it matches all of a text."""
        places = self._start
        for char in text:
            places = self._after(places, char)
            if not places:
                return False
        return self._end in self._reached(places, at_start=not text, at_end=True)

    def _after(self, places: _Places, char: str) -> _Places:
        """Return where one is after a character."""
        known = self._next.get((places, char))
        if known is None:
            steps = (
                place + 1
                for place in places
                if place < self._end
                and isinstance(step := self._program[place], Chars)
                and step.has(char)
            )
            known = self._reached(steps)
            if len(self._next) >= _REMEMBERED:
                self._next.clear()
            self._next[places, char] = known
        return known

    def _reached(
        self, places: Iterable[int], *, at_start: bool = False, at_end: bool = False
    ) -> _Places:
        """Return where one can be without reading on."""
        found: set[int] = set()
        waiting = list(places)
        while waiting:
            place = waiting.pop()
            if place in found:
                continue
            found.add(place)
            step = self._program[place] if place < self._end else ()
            if isinstance(step, tuple):
                waiting += step
            elif isinstance(step, Edge) and (at_end if step.is_end else at_start):
                waiting.append(place + 1)
        return frozenset(found)

    def _emit(self, expression: Expression) -> None:
        """Write out what an expression does, to go on behind it."""
        self._left -= 1
        if self._left < 0:
            raise self._too_much
        match expression:
            case Chars() | Edge():
                self._program.append(expression)
            case Sequence(parts):
                for part in parts:
                    self._emit(part)
            case Either(ways):
                self._emit_either(ways)
            case Repeat(what, least, most):
                for _ in range(least):
                    self._emit(what)
                if most is None:
                    self._emit_again(what)
                for _ in range((most or least) - least):
                    self._emit_either((what, Sequence(())))
            case _:
                assert_never(expression)

    def _emit_either(self, ways: tuple[Expression, ...]) -> None:
        fork = len(self._program)
        self._program.append(())
        begins, ends = [], []
        for way in ways:
            begins.append(len(self._program))
            self._emit(way)
            ends.append(len(self._program))
            self._program.append(())
        self._program[fork] = tuple(begins)
        for end in ends:
            self._program[end] = (len(self._program),)

    def _emit_again(self, what: Expression) -> None:
        fork = len(self._program)
        self._program.append(())
        self._emit(what)
        self._program.append((fork,))
        self._program[fork] = (fork + 1, len(self._program))
