"""What a command is: a function, and a help text that teaches it, in the layout of ``cf``.

The rule of this module: each command shows its usage, gives examples that work when they are
pasted, and names the commands that users need next.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from click.formatting import wrap_text

from control_plane.cli import catalog
from control_plane.cli.output import terminal_width

_WIDEST, _NARROWEST = 110, 40
"""Columns between which a text can be read well."""

_VALUE = re.compile(r"(?<=[\w-]) (?=[A-Z(])")
_OPTIONAL = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")
_FIXED_SPACE, _FIXED_HYPHEN = "\xa0", "\u2011"
"""Stand for a space and a hyphen at which no line may be broken, until the text is written."""


class HelpFormatter(click.HelpFormatter):
    """Sections with titles in capitals and three spaces before each line, as in ``cf``."""

    def __init__(self, **_arguments: object) -> None:
        """Take as much room as there is; text that is meant to be pasted is never broken."""
        room = min(_WIDEST, terminal_width() or _WIDEST)
        # click makes lists one column wider than it is told to.
        super().__init__(indent_increment=3, width=max(_NARROWEST, room - 1))

    def text(self, title: str, lines: Sequence[str]) -> None:
        """Write a section of one paragraph, wrapped, if there is any text."""
        if lines:
            with self.section(title):
                self.write_text(_with_whole_words(" ".join(lines)))

    def usages(self, usages: Sequence[str]) -> None:
        """Write how a command is used, broken between options only."""
        with self.section("USAGE"):
            for usage in usages:
                whole = _OPTIONAL.sub(lambda part: part[0].replace(" ", _FIXED_SPACE), usage)
                line = _with_whole_words(_VALUE.sub(_FIXED_SPACE, whole))
                indent = " " * self.current_indent
                self.write(wrap_text(line, self.width, indent, 2 * indent) + "\n")

    def write(self, string: str) -> None:
        """Write text, once its lines are broken."""
        super().write(string.replace(_FIXED_SPACE, " ").replace(_FIXED_HYPHEN, "-"))

    def lines(self, title: str, lines: Sequence[str]) -> None:
        """Write a section of lines, unwrapped, if there are any."""
        if not lines:
            return
        with self.section(title):
            for line in lines:
                self.write(f"{'':>{self.current_indent}}{line}".rstrip() + "\n")

    def table(self, title: str, rows: Sequence[tuple[str, str]]) -> None:
        """Write a section of names and what they mean, if there are any."""
        if rows:
            with self.section(title):
                whole = [(name, _with_whole_words(meaning)) for name, meaning in rows]
                self.write_dl(whole, col_max=34, col_spacing=3)


def _with_whole_words(text: str) -> str:
    """Return text whose lines are not broken within a word, which may be an option to copy."""
    return text.replace("-", _FIXED_HYPHEN)


class Context(click.Context):
    """A context whose help has the layout of ``cf``."""

    formatter_class = HelpFormatter


class Command(click.Command):
    """One command of ``c2c``."""

    context_class = Context

    def __init__(
        self,
        name: str,
        *,
        usage: Sequence[str] = (),
        examples: Sequence[str] = (),
        tip: Sequence[str] = (),
        see_also: Sequence[str] = (),
        **attributes: Any,  # noqa: ANN401 - what click.Command takes
    ) -> None:
        """Keep the parts of the help besides the options."""
        super().__init__(name, **attributes)
        self.usage = usage
        self.examples = examples
        self.tip = tip
        self.see_also = see_also

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, but have each usage error name its command, as click does not."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help text."""
        if not isinstance(formatter, HelpFormatter):
            raise TypeError("the help of a command is written in a Context of ours")
        formatter.text("NAME", [f"{self.name} - {self.short_help}"])
        formatter.usages([f"c2c {self.name} {usage}".rstrip() for usage in self.usage])
        formatter.text("TIP", self.tip)
        formatter.lines("EXAMPLES", [f"c2c {self.name} {each}".rstrip() for each in self.examples])
        options = self.get_params(ctx)
        formatter.table("OPTIONS", rows_of(each for each in options if not _is_global(each)))
        formatter.table("GLOBAL OPTIONS", rows_of(each for each in options if _is_global(each)))
        formatter.text("SEE ALSO", [", ".join(self.see_also)] if self.see_also else [])


HELP_FLAGS = {"help_option_names": ["--help", "-h"]}

_GLOBAL = frozenset({"data_dir", "config", "server", "cert", "key", "ca", "debug"})


def rows_of(parameters: Iterable[click.Parameter]) -> list[tuple[str, str]]:
    """Return flag and meaning of each option; the usage shows what its value looks like."""
    return [
        (", ".join([*option.opts, *option.secondary_opts]), option.help or "")
        for option in parameters
        if isinstance(option, click.Option) and "--help" not in option.opts
    ]


def _is_global(parameter: click.Parameter) -> bool:
    """Tell whether ``c2c`` also takes this option before the command."""
    return parameter.name in _GLOBAL and not parameter.expose_value


def command(
    name: str,
    *,
    usage: Sequence[str] = ("",),
    examples: Sequence[str] = (),
    tip: Sequence[str] = (),
    see_also: Sequence[str] = (),
) -> Callable[[Callable[..., object]], Command]:
    """Return a decorator that makes a function this command; the catalog has its summary.

    Args:
        name: as in the catalog.
        usage: each form of the arguments, without the program and the command.
        examples: arguments that work when they are pasted.
        tip: what users should know before they use it.
        see_also: names of other commands.
    """
    entry = catalog.find(name)
    if entry is None:
        raise LookupError(f"the catalog has no command {name}")

    def decorate(function: Callable[..., object]) -> Command:
        made: Command = click.command(
            name,
            cls=Command,
            short_help=entry.summary,
            context_settings=HELP_FLAGS,
            usage=usage,
            examples=examples,
            tip=tip,
            see_also=see_also,
        )(function)
        return made

    return decorate


def later(module: str, function: str) -> Callable[..., int]:
    """Import a function with a whole program behind it, only when it is needed, and return it.

    The function runs until the program is done, and returns the exit code.
    """
    found: Callable[..., int] = getattr(importlib.import_module(module), function)
    return found
