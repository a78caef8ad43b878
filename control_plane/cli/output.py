"""What a command prints: what it does, how that ended, and what the user should know about it.

The rule of this module: standard output has what was asked for and nothing else, so ``--output
json`` silences all sentences there. The sentences are those of ``cf``. Text that came from
elsewhere cannot control the terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeVar

import click

from control_plane.names import abridged

Function = TypeVar("Function", bound=Callable[..., object])

_SPEAKING = "control_plane.cli.speaking"
_OUTPUT = "control_plane.cli.output"
_SAY_ABOVE = "control_plane.cli.say_above"
"""The function that prints above the line which shows that the command waits."""

_SHOWN = 5
"""How many instances, or the like, a sentence lists."""

_LONGEST_NAME = 300
"""The most characters of a name in a sentence; a route has at most 253."""


class Output(StrEnum):
    """The format in which a command prints."""

    TABLE = "table"
    JSON = "json"


def output_option(function: Function) -> Function:
    """Give the option ``--output`` to a command that prints data."""

    def remember(ctx: click.Context, _parameter: click.Parameter, value: str) -> None:
        ctx.meta[_OUTPUT] = Output(value)

    return click.option(
        "--output",
        type=click.Choice([each.value for each in Output]),
        default=Output.TABLE.value,
        expose_value=False,
        callback=remember,
        help="table for people, or json for programs (Default: table)",
    )(function)


def wants_json() -> bool:
    """Tell whether the running command is to print JSON."""
    return click.get_current_context().meta.get(_OUTPUT) is Output.JSON


def is_speaking(ctx: click.Context) -> bool:
    """Tell whether the command said what it is about to do, so that it must say how that ended."""
    return bool(ctx.meta.get(_SPEAKING))


def begin(sentence: str) -> None:
    """Say what the command is about to do."""
    if not wants_json():
        click.get_current_context().meta[_SPEAKING] = True
        click.echo(f"{sentence}...")


def tell(sentence: str) -> None:
    """Say what the user should know about the outcome."""
    if not wants_json():
        click.echo(printable(sentence))


def warn(sentence: str) -> None:
    """Say on standard error what the user should know although nothing failed."""
    say = click.get_current_context().meta.get(_SAY_ABOVE, _say_on_standard_error)
    say(printable(sentence))


def _say_on_standard_error(text: str) -> None:
    click.echo(text, err=True)


def ok() -> None:
    """Say that what the command began is done."""
    if not wants_json():
        click.secho("OK", bold=True, fg="green")


def terminal_width() -> int | None:
    """Return how many columns the reader sees; None if that is unknown, as for a file or a pipe."""
    if (given := os.environ.get("COLUMNS", "")).isdecimal() and int(given):
        return int(given)
    if not sys.stdout.isatty():
        return None
    # A terminal whose size was never set reports zero columns.
    return os.get_terminal_size(sys.stdout.fileno()).columns or None


def named(text: str) -> str:
    """Return a name, highlighted as in a sentence on a terminal."""
    return click.style(abridged(printable(text), _LONGEST_NAME), bold=True, fg="cyan")


def some_of(parts: Sequence[str]) -> str:
    """Return the first parts of a list as text, and how many more there are."""
    more = len(parts) - _SHOWN
    return "; ".join([*parts[:_SHOWN], *([f"{more} more"] if more > 0 else [])])


def printable(text: str) -> str:
    """Return text in which unprintable characters are escaped (it may quote what a client sent)."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def is_plain() -> bool:
    """Tell whether a terminal gets plain lines only: no colors, and nothing redrawn in place."""
    # A terminal of type dumb, as in an editor, or unknown prints escape sequences as text.
    return os.environ.get("TERM") in ("dumb", "unknown")


def may_color() -> bool:
    """Tell whether terminal output may have colors (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and not is_plain()


@contextmanager
def waiting(sentence: str) -> Iterator[Callable[[str], None]]:
    """Show that the command waits, and for what, if standard error is a terminal.

    Yields:
        a function that shows another sentence instead.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms, for terminals only
    from rich.text import Text  # noqa: PLC0415 - likewise

    def shown(what: str) -> Text:
        return Text(printable(f"Waiting {what}"))  # not as markup, which a name may resemble

    meta = click.get_current_context().meta
    console = Console(stderr=True)
    with console.status(shown(sentence)) as status:
        meta[_SAY_ABOVE] = lambda text: console.print(Text(text), soft_wrap=True)
        try:
            yield lambda other: status.update(shown(other))
        finally:
            del meta[_SAY_ABOVE]
