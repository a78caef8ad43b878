"""What a command says: what it does, how that ended, and what people should know of it.

The rule of this module: standard output is what was asked for and nothing else, so with ``--output
json`` nothing is said there. The sentences are those of ``cf``. Text that came from elsewhere
cannot steer the terminal.
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
"""What prints above the line by which a person sees that the command waits."""

_SHOWN = 5
"""How many of those whom a sentence is about it names."""

_LONGEST_NAME = 300
"""Characters of a name in a sentence; a route has 253 at the most."""


class Output(StrEnum):
    """What a command prints."""

    TABLE = "table"
    JSON = "json"


def output_option(function: Function) -> Function:
    """Give a command that prints data the option ``--output``."""

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
    """Tell whether the command that runs is to print JSON."""
    return click.get_current_context().meta.get(_OUTPUT) is Output.JSON


def is_speaking(ctx: click.Context) -> bool:
    """Tell whether a command began to tell what it does, so that it has to say how that ended."""
    return bool(ctx.meta.get(_SPEAKING))


def begin(sentence: str) -> None:
    """Say what the command is about to do."""
    if not wants_json():
        click.get_current_context().meta[_SPEAKING] = True
        click.echo(f"{sentence}...")


def tell(sentence: str) -> None:
    """Say what people should know of the outcome."""
    if not wants_json():
        click.echo(printable(sentence))


def warn(sentence: str) -> None:
    """Say on standard error what people should know although nothing failed."""
    say = click.get_current_context().meta.get(_SAY_ABOVE, _say_on_standard_error)
    say(printable(sentence))


def _say_on_standard_error(text: str) -> None:
    click.echo(text, err=True)


def ok() -> None:
    """Say that what the command began is done."""
    if not wants_json():
        click.secho("OK", bold=True, fg="green")


def terminal_width() -> int | None:
    """Return how many columns a reader sees; None if nobody knows, as in a file or a pipe."""
    if (given := os.environ.get("COLUMNS", "")).isdecimal() and int(given):
        return int(given)
    if not sys.stdout.isatty():
        return None
    # A terminal that nobody gave a size says that it has no columns.
    return os.get_terminal_size(sys.stdout.fileno()).columns or None


def named(text: str) -> str:
    """Return the name of something, as it stands out in a sentence on a terminal."""
    return click.style(abridged(printable(text), _LONGEST_NAME), bold=True, fg="cyan")


def some_of(parts: Sequence[str]) -> str:
    """Return the first parts of a sentence, and how many more there are."""
    more = len(parts) - _SHOWN
    return "; ".join([*parts[:_SHOWN], *([f"{more} more"] if more > 0 else [])])


def printable(text: str) -> str:
    """Return text in which nothing steers a terminal (a refusal may quote what a client sent)."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def is_plain() -> bool:
    """Tell whether a terminal is to be written to line by line: no colors, and nothing in place."""
    # A terminal called dumb, as in an editor, or unknown prints what is meant to steer it.
    return os.environ.get("TERM") in ("dumb", "unknown")


def may_color() -> bool:
    """Tell whether what is shown on a terminal may have colors (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and not is_plain()


@contextmanager
def waiting(sentence: str) -> Iterator[Callable[[str], None]]:
    """Show that the command waits, and until when, if a person sits at a terminal.

    Yields:
        a function that shows another sentence instead.
    """
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms, for terminals only
    from rich.text import Text  # noqa: PLC0415 - likewise

    def shown(what: str) -> Text:
        return Text(printable(f"Waiting {what}"))  # not markup, which a name may look like

    meta = click.get_current_context().meta
    console = Console(stderr=True)
    with console.status(shown(sentence)) as status:
        meta[_SAY_ABOVE] = lambda text: console.print(Text(text), soft_wrap=True)
        try:
            yield lambda other: status.update(shown(other))
        finally:
            del meta[_SAY_ABOVE]
