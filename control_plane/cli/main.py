"""``c2c``: the overview, the options of every command, and how a run ends.

The rule of this module: a run ends with 0, or with 1 and one sentence on standard error that says
what to do; never with a traceback, unless ``--debug`` asks for it. Only if the reader of the output
has gone (``c2c ... | head``) is nothing said.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from control_plane.cli import catalog
from control_plane.cli.command import HELP_FLAGS, Context, HelpFormatter, rows_of
from control_plane.cli.completion import next_words
from control_plane.cli.errors import report
from control_plane.cli.family import family_of, incomplete
from control_plane.cli.globals import VARIABLES, debug, program_options
from control_plane.cli.output import may_color
from control_plane.cli.streams import drop_unwritten, open_streams
from control_plane.cli.suggestions import no_command
from control_plane.names import is_text, shown

INTERRUPTED = 130
"""What a shell reports for a program that SIGINT ended (128 + 2)."""

_FIRST_PROCESS = 1

GRPC_VARIABLES = {
    # gRPC's C core would print its own account of each failure beside our sentence.
    "GRPC_VERBOSITY": "NONE",
    # By itself it asks the name server for what /etc/hosts has too, and waits 10 s for an answer.
    "GRPC_DNS_RESOLVER": "native",
}
"""What gRPC reads when it is imported, if the user has not set it."""

_DASHED_OPTION = re.compile(r"^[\u2013\u2014]-?(?=[a-z])")

_ENVIRONMENT = (
    ", ".join(VARIABLES),
    "stand for the global options of the same name, NO_COLOR=1 or TERM=dumb for no colors.",
)


class Program(click.Group):
    """The group of all commands, each of which is imported only when it is used."""

    context_class = Context

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return every command in the order of the overview."""
        return [entry.name for group in catalog.GROUPS for entry in group.entries]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import a command."""
        entry = catalog.find(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"control_plane.cli.{entry.module}")
        found: click.Command = getattr(module, re.sub("[- ]", "_", entry.name))
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names."""
        if args[1:] and catalog.find(" ".join(args[:2])):
            args = [" ".join(args[:2]), *args[2:]]
        if args and catalog.find(args[0]) is None and not args[0].startswith("-"):
            if (family := family_of(args[0])) is not None:
                # While completing, a shell asks about the first word alone, to learn what may
                # follow.
                if args[1:2] in (["--help"], ["-h"]) or ctx.resilient_parsing:
                    return args[0], family, args[1:]
                raise click.UsageError(incomplete(family, args[1:]), ctx)
            if not ctx.resilient_parsing:
                raise click.UsageError(no_command(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Tell a shell the commands, or the options of the program."""
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*next_words((), incomplete), *options]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview."""
        if not isinstance(formatter, HelpFormatter):
            raise TypeError("the overview is written in a Context of ours")
        formatter.text(
            "NAME", ["c2c - HTTPS between app instances, by certificates that follow routes"]
        )
        formatter.usages(["c2c [global options] command [arguments...] [command options]"])
        width = max(len(name) for name in self.list_commands(ctx))
        for group in catalog.GROUPS:
            formatter.table(
                group.title, [(f"{entry.name:<{width}}", entry.summary) for entry in group.entries]
            )
        formatter.text("ENVIRONMENT VARIABLES", _ENVIRONMENT)
        formatter.table("GLOBAL OPTIONS", rows_of(self.get_params(ctx)))
        formatter.lines("COMPLETION", ['eval "$(_C2C_COMPLETE=bash_source c2c)"   # or zsh, fish'])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command; report a failure here, where it is known what was printed before."""
        try:
            return super().invoke(ctx)
        except (click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the user reads a sentence
            report(error, ctx, debug=debug(ctx))
            raise click.exceptions.Exit(1) from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002, FBT001, FBT002 - click's signature
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> NoReturn:
        """Run one command line, and exit with its code."""
        given = list(sys.argv[1:] if args is None else args)
        # The arguments after -- are for another program, and are passed on as they are.
        end = given.index("--") if "--" in given else len(given)
        given[:end] = map(_ascii_dashes, given[:end])
        try:
            _require_text(given[:end])
            code = super().main(given, prog_name, complete_var, standalone_mode=False, **extra)
            if not code:
                sys.stdout.flush()
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - likewise, if no command runs
            report(error, None, debug="--debug" in given[:end])
            code = 1
        drop_unwritten()
        # Otherwise Python collects garbage among everything that was imported, when it exits.
        gc.freeze()
        sys.exit(code)


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    """Do what the command ``version`` does."""
    if value and not ctx.resilient_parsing:  # not while a shell completes a word after it
        ctx.command.main(["version"], prog_name=ctx.info_name)


def _require_text(arguments: Sequence[str]) -> None:
    """Refuse what the locale cannot decode, as no name and no path of ours may contain it."""
    encoding = sys.getfilesystemencoding()
    for each in arguments:
        if not is_text(each):
            given = shown(os.fsencode(each)).removeprefix("b")
            hint = "" if encoding == "utf-8" else ", or run c2c with LC_ALL=C.UTF-8"
            raise click.UsageError(f"argument must be {encoding.upper()} text: {given}{hint}")


def _ascii_dashes(argument: str) -> str:
    """Return an option as it was typed before an editor turned its hyphens into one long dash."""
    return _DASHED_OPTION.sub("--", argument)


@click.command("c2c", cls=Program, invoke_without_command=True, context_settings=HELP_FLAGS)
@program_options
@click.option(
    "--version",
    "-v",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the version of this program",
)
@click.pass_context
def program(ctx: click.Context) -> None:
    """Show the overview if there is no command."""
    if not may_color():
        ctx.color = False
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    """End like any process that does not handle the signal."""
    os._exit(128 + number)


def main() -> None:
    """Run the command line: the entry point ``c2c``."""
    # pid_namespaces(7): the first process of a container gets no signal that it has no handler for.
    # A program that runs for long handles this signal itself later, after imports that take most of
    # its start.
    if os.getpid() == _FIRST_PROCESS:
        signal.signal(signal.SIGTERM, _end)
    open_streams()
    for name, value in GRPC_VARIABLES.items():
        if name not in os.environ:
            # Not in os.environ, which the app beside a sidecar inherits: there, gRPC is as usual.
            os.putenv(name, value)
    program.main(prog_name="c2c")
