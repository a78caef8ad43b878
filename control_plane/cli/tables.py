"""Data as a command prints it: columns for people, JSON for programs.

The rule of this module: JSON is a list of flat objects with the API's field names. Each field is
always present and whole, so that a program needs neither a default nor a second call. Columns are
those of ``cf``: three spaces between them and no lines. In a file nothing is left out. On a
terminal that is too narrow, ids and lists are cut, or stand below their row, so that rows stay
rows. If even that does not fit, each row becomes a block of names and values, as ``cf app`` prints
them, all of them whole.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import click
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len, set_cell_size

from control_plane.cli.output import printable, terminal_width

_GAP, _NARROW_GAP = "   ", "  "
_CUT = "..."

_LEAST = 11
"""Columns that are left of a cell that is cut: eight characters almost always tell two ids
apart."""


def record(message: Message) -> dict[str, object]:
    """Return a message as a flat object with the API's fields in their order; null if not set."""
    made: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return _whole(message, made)


def _whole(message: Message, made: Mapping[str, object]) -> dict[str, object]:
    """Return every field, also those that MessageToDict leaves out or puts last.

    It leaves out an unset ``connected_since``, for example, and puts an ``index`` last that is 0.
    """
    whole: dict[str, object] = {}
    for field in message.DESCRIPTOR.fields:
        shown = made.get(field.name)
        # A timestamp is a message, too, but is shown as a text.
        if isinstance(shown, dict):
            shown = _whole(getattr(message, field.name), shown)
        elif isinstance(shown, list) and field.message_type is not None:
            parts = zip(getattr(message, field.name), shown, strict=True)
            shown = [_whole(each, part) for each, part in parts]
        whole[field.name] = shown
    return whole


def print_records(records: Sequence[Mapping[str, object]]) -> None:
    """Print the JSON list."""
    click.echo(json.dumps(records, indent=2))


def print_table(
    columns: Mapping[str, Sequence[object]],
    *,
    empty: str,
    cut: Collection[str] = (),
    below: str = "",
) -> None:
    """Print columns after an empty line, or a block for each row where they do not fit at all.

    Args:
        columns: the title and the cells of each column.
        empty: what to print instead if there are no rows.
        cut: titles of columns whose cells may lose their end where the table does not fit.
        below: title of a column whose cells stand below their rows where the table does not fit.
    """
    click.echo()
    if not any(columns.values()):
        click.echo(empty)
        return
    shown = {title: [cell(value) for value in cells] for title, cells in columns.items()}
    if fits(columns):
        _print(shown, _widths(shown), _GAP)
        return
    room = terminal_width() or 0
    rows = {title: cells for title, cells in shown.items() if title != below}
    excess = _total(_widths(rows), _NARROW_GAP) - room
    widths = _narrowed(_widths(rows), cut, excess)
    if _total(widths, _NARROW_GAP) > room:
        _print_blocks(shown, room)
        return
    lines = [wrapped(each, room, _GAP) for each in shown.get(below, ())]
    _print(rows, widths, _NARROW_GAP, lines)


def fits(columns: Mapping[str, Sequence[object]]) -> bool:
    """Tell whether whole columns fit where they are read."""
    room = terminal_width()
    shown = {title: [cell(value) for value in cells] for title, cells in columns.items()}
    return room is None or _total(_widths(shown), _GAP) <= room


def with_room(
    columns: Mapping[str, Sequence[object]],
    more: Mapping[str, Sequence[object]],
    instead: Mapping[str, Sequence[object]],
    *,
    cut: Collection[str] = (),
) -> Mapping[str, Sequence[object]]:
    """Return the columns and more of them, or others instead where these do not fit.

    Args:
        columns: the columns that are there in any case.
        more: further columns, where there is room.
        instead: columns that say the same in less room, or below the rows.
        cut: titles of columns whose cells may lose their end.
    """
    wide = {**columns, **more}
    widths = _widths({title: [cell(value) for value in cells] for title, cells in wide.items()})
    room = terminal_width()
    if room is None or _total(widths, _GAP) <= room:
        return wide
    least = _narrowed(widths, cut, _total(widths, _NARROW_GAP))
    return wide if _total(least, _NARROW_GAP) <= room else {**columns, **instead}


class InSpace(Protocol):
    """A message about something that belongs to an app; it names the space of the app."""

    @property
    def space(self) -> str:
        """The space of the app."""

    @property
    def org(self) -> str:
        """The org of the app."""


def spaces_of(found: Sequence[InSpace]) -> dict[str, list[object]]:
    """Return columns that name the org and the space of each row."""
    return {"space": [each.space for each in found], "org": [each.org for each in found]}


def place_of(each: InSpace) -> str:
    """Return the org and the space of something, for the end of a sentence."""
    return f"in org {each.org} / space {each.space}"


def with_spaces(
    columns: Mapping[str, Sequence[object]], found: Sequence[InSpace], *, cut: Collection[str] = ()
) -> Mapping[str, Sequence[object]]:
    """Return columns and the space of each row, in a column ``where`` if there is little room."""
    places = list(map(place_of, found))
    return with_room(columns, spaces_of(found), {"where": places}, cut=cut)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one each line, after an empty line."""
    click.echo()
    _print_fields({title: cell(value) for title, value in fields.items()}, terminal_width())


def cell(value: object) -> str:
    """Return a value as text for people."""
    match value:
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(cell(each) for each in value)
        case _:
            return printable(str(value))


def _widths(shown: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {title: max(map(cell_len, (title, *cells))) for title, cells in shown.items()}


def _total(widths: Mapping[str, int], gap: str) -> int:
    return sum(widths.values()) + len(gap) * (len(widths) - 1)


def _narrowed(widths: Mapping[str, int], cut: Collection[str], excess: int) -> dict[str, int]:
    """Return narrower widths: the widest of the columns that may be cut lose this much in all."""
    made = dict(widths)
    for _ in range(excess):
        wide = [each for each in made if each in cut and made[each] > max(_LEAST, cell_len(each))]
        if not wide:
            break
        made[max(wide, key=made.__getitem__)] -= 1
    return made


def _print(
    shown: Mapping[str, Sequence[str]],
    widths: Mapping[str, int],
    gap: str,
    lines: Sequence[str] = (),
) -> None:
    """Print the titles and each row, and below each row its extra line, if there is one."""
    titles = list(_padded(shown, widths.values()))
    # Nothing has to line up after the last column.
    titles[-1] = titles[-1].rstrip()
    click.echo(gap.join(click.style(title, bold=True) for title in titles))
    for number, row in enumerate(zip(*shown.values(), strict=True)):
        click.echo(gap.join(_padded(row, widths.values())).rstrip())
        if lines:
            click.echo(lines[number])


def _padded(row: Iterable[str], widths: Iterable[int]) -> Iterator[str]:
    for text, width in zip(row, widths, strict=True):
        if cell_len(text) > width:
            yield set_cell_size(text, width - len(_CUT)).rstrip() + _CUT
        else:
            yield text + " " * (width - cell_len(text))


def _print_blocks(shown: Mapping[str, Sequence[str]], room: int) -> None:
    """Print each row as names and values, with an empty line between two rows."""
    for number, row in enumerate(zip(*shown.values(), strict=True)):
        if number:
            click.echo()
        _print_fields(dict(zip(shown, row, strict=True)), room)


def _print_fields(fields: Mapping[str, str], room: int | None) -> None:
    """Print names and values, one per line; a long value is wrapped, but only between words."""
    width = max(map(len, fields)) + 1
    indent = " " * (width + len(_GAP))
    for title, value in fields.items():
        whole = value if room is None else wrapped(value, room, indent).lstrip()
        click.echo(f"{title + ':':<{width}}{_GAP}{whole}".rstrip())


def wrapped(text: str, room: int, indent: str) -> str:
    """Return indented lines that fit, broken only between words."""
    return textwrap.fill(
        text,
        room,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
