"""Commands about all apps, or about one app: ``c2c status web``, or ``--app web``.

The rule of this module: all of these commands accept the app in the same two ways. An app is in one
space, so none of them accepts an app together with ``--all``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TypeVar

import click

from control_plane.cli import kinds
from control_plane.cli.globals import target
from control_plane.cli.name_completion import Complete, complete_app
from control_plane.cli.tables import InSpace

Found = TypeVar("Found", bound=InSpace)


def about_app(
    metavar: str = "APP", flag: str = "--app", *, complete: Complete = complete_app
) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Return a decorator that gives a command the argument ``app_name``: its app, or None.

    Args:
        metavar: the name of the argument in the usage.
        flag: the name of the flag.
        complete: returns the names to which a shell completes it.
    """

    def give(function: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(function)
        def asked(*, app_name: str | None, app_flag: str | None, **rest: object) -> object:
            if app_name and app_flag:
                raise click.UsageError(f"{metavar} and {flag} cannot be used together")
            if app_name or app_flag:
                refuse_all(metavar)
            return function(app_name=app_name or app_flag, **rest)

        option = click.option(
            flag,
            "app_flag",
            type=kinds.NAME,
            shell_complete=complete,
            help=f"{metavar}, as a flag",
        )
        argument = click.argument(
            "app_name",
            metavar=metavar,
            type=kinds.NAME,
            shell_complete=complete,
            required=False,
        )
        return argument(option(asked))

    return give


def asked_for(found: Iterable[Found], app_name: str | None) -> list[Found]:
    """Return what belongs to the target space, or everything that belongs to a named app.

    An older server answers for every space; an app that is named by its GUID may be in any space.
    """
    where = target()
    return [each for each in found if app_name or where.has(each.org, each.space)]


def refuse_all(metavar: str) -> None:
    """Refuse ``--all``, for a command about one app.

    Raises:
        click.UsageError: ``--all`` was given.
    """
    if target().is_all:
        raise click.UsageError(
            f"{metavar} and --all cannot be used together: an app is of one space, see -s and -o"
        )
