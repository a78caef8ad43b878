"""Data as a command prints it: columns for people, JSON for programs.

The rule of this module: JSON is a list of flat objects with the API's field names, each field
always present, so that a program needs neither a default nor a second look. Columns are those of
``cf``: three spaces between them, no lines, the same text on a terminal and in a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len

from control_plane.cli.output import printable


def record(message: Message) -> dict[str, object]:
    """Return a message as a flat object with the API's field names."""
    made: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return made


def print_records(records: Sequence[Mapping[str, object]]) -> None:
    """Print the JSON list."""
    click.echo(json.dumps(records, indent=2))


def print_table(columns: Mapping[str, Sequence[object]], *, empty: str = "") -> None:
    """Print columns after an empty line.

    Args:
        columns: title and cells of each.
        empty: what to say instead if there are no rows; the titles alone if that is nothing.
    """
    click.echo()
    if empty and not any(columns.values()):
        click.echo(empty)
        return
    shown = {title: [cell(value) for value in cells] for title, cells in columns.items()}
    widths = [max(map(cell_len, (title, *cells))) for title, cells in shown.items()]
    titles = list(_padded(shown, widths))
    # Nothing has to line up with what stands after the last column.
    titles[-1] = titles[-1].rstrip()
    click.echo("   ".join(click.style(title, bold=True) for title in titles))
    for row in zip(*shown.values(), strict=True):
        click.echo("   ".join(_padded(row, widths)).rstrip())


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one each line, after an empty line."""
    width = max(len(title) for title in fields) + 1
    click.echo()
    for title, value in fields.items():
        click.echo(f"{title + ':':<{width}}   {cell(value)}".rstrip())


def cell(value: object) -> str:
    """Return a value as people read it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(cell(each) for each in value)
        case _:
            return printable(str(value))


def _padded(row: Iterable[str], widths: Sequence[int]) -> Iterator[str]:
    for text, width in zip(row, widths, strict=True):
        yield text + " " * (width - cell_len(text))
