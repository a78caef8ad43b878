"""Options of every command: which server to talk to, and in which space to look for apps.

The rule of this module: such an option may stand before the command or after it; if it stands in
both places, the one after it counts. A variable counts only if there is no option: an option that
names a server in one way also overrides a variable that does so in another way. Nothing is kept
outside the click context of the run. A command that is printed repeats these options, so that it
works as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
from click.core import ParameterSource

from control_plane.cli.output import named, warn
from control_plane.model.spec import DEFAULT_ORG, DEFAULT_SPACE

Function = TypeVar("Function", bound=Callable[..., object])

DEFAULTS = (DEFAULT_ORG, DEFAULT_SPACE)
"""The org and the space of an app, if the user names none."""

DEFAULT_DATA_DIR = "c2c in $XDG_STATE_HOME or ~/.local/state"
"""Where the settings have it if nothing names another; to load them takes too long for a help."""

_FORMATS = ("json", "yaml", "wide", "table")
"""What users give to -o in other tools, where it is the short form of --output."""

_FILE = click.Path(dir_okay=False, path_type=Path)

_DATA_DIR = f"Data directory of the server, which has its socket (Default: {DEFAULT_DATA_DIR})"


class Target(NamedTuple):
    """The space in which a command looks for apps, or all of them."""

    org: str
    space: str
    is_all: bool = False

    @property
    def is_default(self) -> bool:
        """Whether it is the space in which commands look if the user names none."""
        return (self.org, self.space) == DEFAULTS

    def __str__(self) -> str:
        """Return its name in a sentence."""
        return f"org {named(self.org)} / space {named(self.space)}"

    def listing(
        self, verb: str, what: str, name: str | None = None, *, noun: str = "app", at: str = "in"
    ) -> str:
        """Return the phrase for listing something in this space, or of one app or instance."""
        whose = f" of {noun} {named(name)}" if name else ""
        every, where = ("all ", "") if self.is_all else ("", f" {at} {self}")
        return f"{verb} {every}{what}{whose}{where}"

    def command(self, *words: str) -> str:
        """Return a command line of ``c2c`` for this space, to be pasted."""
        there = [] if self.is_default else ["-s", self.space, "-o", self.org]
        return pasted(shlex.join(["c2c", *words, *there]))

    def has(self, org: str, space: str) -> bool:
        """Tell whether a command with this target looks in the given space."""
        return self.is_all or (org, space) == (self.org, self.space)


class Connection(NamedTuple):
    """Which server a command talks to, as the user gave it."""

    data_dir: str | None
    config: str | None
    server: str | None
    cert: Path | None
    key: Path | None
    ca: Path | None


def connection_options(function: Function) -> Function:
    """Give a command the options that say which server it talks to."""
    return _connection_options(function, variables=False)


def target_options(function: Function) -> Function:
    """Give a command ``-s`` and ``-o``: the space in which it looks for apps."""
    return _target_options(function, variables=False)


VARIABLES = tuple(
    f"C2C_{each}" for each in ("DATA_DIR", "CONFIG", "ORG", "SPACE", "SERVER", "CERT", "KEY", "CA")
)
"""The variables that stand for options of every command."""


def all_option(function: Function) -> Function:
    """Give a command that lists things the option ``--all``: every space of every org."""
    return _remembered(
        function, "--all", is_flag=True, default=None, help="List those of every org and space"
    )


def program_options(function: Function) -> Function:
    """Give the program itself all of these options, and their variables."""
    return _connection_options(_target_options(function, variables=True), variables=True)


def connection() -> Connection:
    """Return which server the running command talks to.

    Raises:
        click.UsageError: the user named the server in two ways, or gave options for one at an
            address and no address.
    """
    said = Connection(*(_said(name) for name in Connection._fields))
    typed = _typed()
    for flag in ("--data-dir", "--config"):
        if flag in typed and "--server" in typed:
            raise click.UsageError(f"{flag} and --server cannot be used together")
        if flag in typed:
            said = said._replace(server=None)
    for flag in ("--cert", "--key", "--ca"):
        # Otherwise a command for a far server would go to the one on this machine.
        if flag in typed and said.server is None:
            raise click.UsageError(f"{flag} needs --server (C2C_SERVER) as well")
    return said


def target() -> Target:
    """Return where the running command looks for apps.

    Raises:
        click.UsageError: the user gave, after the command, both one space and ``--all``.
    """
    org, space = DEFAULTS
    found = Target(_said("org") or org, _said("space") or space, bool(_said("all")))
    source_of = click.get_current_context().get_parameter_source
    for flag, name in (("-o", "org"), ("-s", "space")):
        if found.is_all and source_of(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{flag} and --all cannot be used together: --all is every space of every org"
            )
    return found


def pasted(command: str) -> str:
    """Return a command line that talks to the same server as the running command.

    A variable that names the server also works for that command line, so only options that were
    typed are repeated.
    """
    words = [word for flag, value in _typed().items() for word in (flag, str(value))]
    return f"{command} {shlex.join(words)}" if words else command


def debug(ctx: click.Context) -> bool:
    """Tell whether the user asked to see where an error comes from."""
    return bool(ctx.meta.get(_key("debug")))


def _connection_options(function: Function, *, variables: bool) -> Function:
    function = _remembered(
        function, "--debug", is_flag=True, default=None, help="Show where an error comes from"
    )
    for flag, text, kind in reversed(
        (
            ("--data-dir", _DATA_DIR, None),
            ("--config", "TOML file of the server; only its data_dir is used here", None),
            ("--server", "Operator's port of the server (HOST:PORT), instead of the socket", None),
            ("--cert", "With --server: the operator's certificate, PEM", _FILE),
            ("--key", "With --server: the operator's private key, PEM", _FILE),
            ("--ca", "With --server: the trust bundle, PEM", _FILE),
        )
    ):
        # The variables of the first two are those of settings, and are read with the settings.
        is_variable = variables and flag not in ("--data-dir", "--config")
        variable = _variable(flag) if is_variable else None
        function = _remembered(function, flag, type=kind, envvar=variable, help=text)
    return function


def _target_options(function: Function, *, variables: bool) -> Function:
    for flags, text in reversed(
        (
            (("--org", "-o"), "The org of the app (Default: default)"),
            (("--space", "-s"), "The space of the app (Default: default)"),
        )
    ):
        variable = _variable(flags[0]) if variables else None
        function = _remembered(function, *flags, envvar=variable, help=text)
    return function


def _remembered(function: Function, *flags: str, **attributes: Any) -> Function:  # noqa: ANN401 - what click.option takes
    """Give a command an option whose value goes into the context, not to the function."""

    def remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        is_typed = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if is_typed and value == "":  # what the shell makes of a variable that is not set
            raise click.BadParameter("must be a text that is not empty: ''", ctx, parameter)
        is_run = is_typed and not ctx.resilient_parsing  # not while a shell completes a word
        if is_run and value in _FORMATS and "-o" in parameter.opts:
            warn("-o is the org, as in cf, and not the output: '--output json' prints JSON")
        if value is not None:
            ctx.meta[_key(parameter.name or "")] = value
        if is_typed and parameter.name in Connection._fields:
            ctx.meta.setdefault(_key("typed"), {})[parameter.opts[0]] = value

    return click.option(*flags, expose_value=False, callback=remember, **attributes)(function)


def _said(name: str) -> Any:  # noqa: ANN401 - a text, a path or a switch
    return click.get_current_context().meta.get(_key(name))


def _typed() -> dict[str, object]:
    """Return the options about the server that are on the command line."""
    typed: dict[str, object] = click.get_current_context().meta.get(_key("typed"), {})
    return typed


def _key(name: str) -> str:
    return f"{__name__}.{name}"


def _variable(flag: str) -> str:
    return "C2C_" + flag.removeprefix("--").replace("-", "_").upper()
