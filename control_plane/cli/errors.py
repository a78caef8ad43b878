"""How a failed run is reported: one sentence on standard error, with what to do next.

The rule of this module: whatever was raised becomes a sentence here and nowhere else. As in ``cf``,
a sentence begins with a capital letter, unless it begins with a name, and has no period, wherever
it comes from. Reporting never fails: nothing is written to a stream that is full or closed.
"""

from __future__ import annotations

import difflib
import re
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress

import click

from control_plane.cli import catalog
from control_plane.cli.output import is_speaking, printable
from control_plane.errors import ConfigurationError, ControlPlaneError
from control_plane.journal import journal_mark
from control_plane.names import abridged, shown

_PLAIN_WORD = re.compile(r"[a-z]+(-[a-z]+)*[,:]?(?!\S)")
"""A name at the beginning of a sentence has a slash, a dot or a digit, or stands after its noun."""


class Failed(Exception):
    """A command could not do what it was told to; the message is the whole sentence."""


def report(error: Exception, ctx: click.Context | None, *, debug: bool = False) -> None:
    """Print what went wrong, and FAILED in the place of OK.

    Args:
        error: the exception.
        ctx: the context of the run; None if it failed before a command ran.
        debug: whether to show where the exception was raised.
    """
    if isinstance(error, BrokenPipeError):
        return  # the reader of the output wants no more of it
    with suppress(OSError):
        if debug:
            traceback.print_exception(error)
        mark = journal_mark(sys.stderr, "error")
        for sentence in (*_sentences(error), *_help_for(error)):
            click.echo(mark + abridged(printable(sentence)), err=True)
    if ctx is not None and is_speaking(ctx):
        with suppress(OSError):
            click.secho("FAILED", bold=True, fg="red")


def _sentences(error: Exception) -> tuple[str, ...]:
    match error:
        case click.UsageError():
            return (f"Incorrect Usage: {_usage(error)}",)
        case ConfigurationError(problems=problems):
            return tuple(map(capitalised, problems))
        case ControlPlaneError() | Failed():
            return (capitalised(str(error)),)
        case UnicodeEncodeError():  # from a variable; arguments and paths were checked before
            return (f"Text must be UTF-8: {shown(error.object)}",)
        case OSError() if error.filename is not None:
            return (f"Cannot use {error.filename}: {error.strerror}",)
        case _:
            text = f"{type(error).__name__}: {error}".removesuffix(": ")
            return (f"Unexpected error: {text} ('c2c --debug' shows where it comes from)",)


def _help_for(error: Exception) -> tuple[str, ...]:
    """Return a pointer to the help of the command, if it was used wrongly."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return ()
    command = error.ctx.info_name or ""
    # A user who asked for help knows already how to do that.
    is_known = catalog.find(command) is not None and command != "help"
    return (f"See 'c2c help {command}'",) if is_known else ()


def capitalised(sentence: str) -> str:
    """Return a sentence with a capital letter first, unless it begins with a name or a path."""
    if not _PLAIN_WORD.match(sentence):
        return sentence
    return sentence[:1].upper() + sentence[1:]


def _usage(error: click.UsageError) -> str:
    """Return what is wrong with a command line, in the words of ``cf``."""
    match error:
        case click.NoSuchOption():
            near = " or ".join(_alike(error.option_name, error.possibilities or ()))
            hint = f", did you mean {near}?" if near else ""
            return f"unknown flag `{error.option_name.lstrip('-')}'{hint}"
        case click.MissingParameter(param=click.Argument() as argument):
            return f"the required argument `{argument.metavar}` was not provided"
        case click.MissingParameter(param=click.Option() as option):
            return f"the required flag `{option.opts[0]}' was not specified"
        case click.BadOptionUsage() if error.message.endswith("does not take a value."):
            return f"flag `{error.option_name}' takes no argument"
        case click.BadOptionUsage():
            return f"expected argument for flag `{error.option_name}'{_choices(error)}"
        case click.BadParameter(param=click.Option() as option):
            # click's sentences end with a period; ours may end with a value that was cut to end in
            # "...".
            message = error.message if error.message.endswith("...") else error.message.rstrip(".")
            return f"{option.opts[0]}: {message}"
        case _:
            return error.format_message()


def _choices(error: click.BadOptionUsage) -> str:
    """Return which arguments a flag takes, if it takes one of a few words."""
    for each in error.ctx.command.params if error.ctx is not None else ():
        if error.option_name in each.opts and isinstance(each.type, click.Choice):
            return ", one of " + ", ".join(f"'{choice}'" for choice in each.type.choices)
    return ""


def _alike(flag: str, known: Iterable[str]) -> list[str]:
    """Return the flags that may have been meant; their dashes do not count."""
    names = {each.lstrip("-"): each for each in sorted(known)}
    return [names[each] for each in difflib.get_close_matches(flag.lstrip("-"), names)]
