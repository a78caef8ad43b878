"""How the story is printed: a line for each thing that was done, and how long it took.

The rule of this module: it prints what it is given. The story decides whether a claim holds, and
the line of one that does not says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table


class Telling:
    """Prints the story to a console.

    Attributes:
        wrong: the claims that did not hold.
    """

    def __init__(self, console: Console) -> None:
        """Print to this console."""
        self._console = console
        self._step = 0
        self.wrong: list[str] = []

    def chapter(self, title: str) -> None:
        """Begin a new step."""
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {title}[/bold]")

    def fact(self, text: str) -> None:
        """Print something that happened."""
        self._console.print(f"   {text}", highlight=False, soft_wrap=True)

    def check(self, *, holds: bool, text: str) -> None:
        """Print something that has to be true."""
        mark = "[green]ok[/green]  " if holds else "[red]WRONG[/red]"
        self._console.print(f"   {mark} {text}", highlight=False, soft_wrap=True)
        if not holds:
            self.wrong.append(text)

    def table(self, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        """Print some rows."""
        table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
        for heading in headings:
            table.add_column(heading, overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show that something takes a moment, on a terminal only."""
        with self._console.status(text):
            yield


class Stopwatch:
    """Milliseconds since it was made."""

    def __init__(self) -> None:
        """Start the watch."""
        self._started = time.perf_counter()

    def __str__(self) -> str:
        """Return the time as people read it."""
        return f"{(time.perf_counter() - self._started) * 1000:.0f} ms"
