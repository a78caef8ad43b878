"""Types of options that are not just text: durations, paths, a policy's protocol and ports.

The rule of this module: a value that breaks a rule is refused before the server is asked, with the
option's name, the value and the rule; for a network policy in the very words of ``cf``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import click
from click.shell_completion import CompletionItem

from control_plane.errors import InvalidArgument
from control_plane.model.spec import MIN_APP_PORT
from control_plane.names import shown
from control_plane.settings.paths import read_directory
from control_plane.settings.values import (
    count_between,
    duration_between,
    list_of,
    read_server_address,
    read_text,
)

T = TypeVar("T")

PROTOCOLS = ("tcp", "udp")

_POSITIVE = re.compile(r"0*[1-9][0-9]{0,8}")


class Kind(click.ParamType[T], Generic[T]):
    """The type of an option whose text is parsed by a reader of settings."""

    def __init__(self, name: str, read: Callable[[object], T], words: Iterable[str] = ()) -> None:
        """Read with this reader.

        Args:
            name: the placeholder for the value in the help.
            read: the reader.
            words: the words to which a shell can complete a value.
        """
        self.name = name
        self._read = read
        self._words = tuple(words)

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """Read a text; defaults are texts, too, so that the help can show them."""
        try:
            return self._read(value)
        except InvalidArgument as error:
            self.fail(error.rule, param, ctx)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Tell a shell the words that begin like this."""
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]


class ExistingFile(click.Path):
    """The path of an existing file."""

    def __init__(self) -> None:
        """Accept no directory."""
        super().__init__(exists=True, dir_okay=False, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str | bytes | os.PathLike[str]:
        """Read a path; if this user may not see it, do not say that it does not exist."""
        try:
            Path(value).stat()
        except PermissionError as error:
            self.fail(f"file {shown(os.fspath(value))}: {error.strerror}", param, ctx)
        except OSError:
            pass  # click reports it
        return super().convert(value, param, ctx)


class PortRange(NamedTuple):
    """The ports of a network policy."""

    start: int
    end: int


def read_protocol(value: object) -> str:
    """Return ``tcp`` or ``udp``, in whatever letter case it was given."""
    text = str(value).lower()
    if text not in PROTOCOLS:
        raise click.UsageError(f'PROTOCOL must be "tcp" or "udp": {shown(str(value))}')
    return text


def read_port_range(value: object) -> PortRange:
    """Return one port or a range of ports; the server decides whether the numbers are valid."""
    parts = str(value).split("-")
    if len(parts) > 2:
        raise click.UsageError(f"PORT syntax must match integer[-integer]: {shown(str(value))}")
    if not all(_POSITIVE.fullmatch(part) for part in parts):
        raise click.UsageError(f"PORT must be a positive integer: {shown(str(value))}")
    return PortRange(int(parts[0]), int(parts[-1]))


WAIT_TIME = Kind("DURATION", duration_between(timedelta(milliseconds=1), timedelta(hours=24)))
CHANGE_TIME = Kind("DURATION", duration_between(timedelta(milliseconds=1), timedelta(hours=1)))
TOKEN_TIME = Kind("DURATION", duration_between(timedelta(seconds=1), timedelta(days=30)))
OPERATOR_TIME = Kind("DURATION", duration_between(timedelta(minutes=1), timedelta(days=90)))
APP_PORTS = Kind("PORT", list_of(count_between(MIN_APP_PORT, 65535)))
APP_PORT = Kind("PORT", count_between(MIN_APP_PORT, 65535))
NUMBER = Kind("NUMBER", count_between(1, 1_000_000))
SERVER = Kind("HOST:PORT", read_server_address)
SERVERS = Kind("HOST:PORT", list_of(read_server_address))
NAME = Kind("NAME", read_text)
"""The name of an app, a space or a domain. An empty one, as from an unset variable, would mean
something else."""

DIRECTORY = Kind("DIR", read_directory)
PROTOCOL = Kind("PROTOCOL", read_protocol, PROTOCOLS)
PORT_RANGE = Kind("RANGE", read_port_range)
