"""Commands of two words that share the first, and what the first word does alone.

The rule of this module: the first word alone is no command, and its help shows the commands that
begin with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from control_plane.cli import catalog
from control_plane.cli.command import HELP_FLAGS, Context, HelpFormatter
from control_plane.cli.completion import next_words
from control_plane.names import shown


class Family(click.Command):
    """The first word that several commands share."""

    context_class = Context

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Tell a shell which second words are possible."""
        return [
            *next_words([self.name or ""], incomplete),
            *super().shell_complete(ctx, incomplete),
        ]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the commands of the family."""
        if not isinstance(formatter, HelpFormatter):
            raise TypeError("the help of a command is written in a Context of ours")
        word, entries = self.name or "", catalog.family(self.name or "")
        second = " | ".join(entry.name.removeprefix(f"{word} ") for entry in entries)
        formatter.text("NAME", [f"{word} - {self.short_help}"])
        formatter.usages([f"c2c {word} ({second}) [command options]"])
        formatter.table("COMMANDS", [(entry.name, entry.summary) for entry in entries])
        formatter.text("SEE ALSO", [f"c2c help {entries[0].name}"])


def incomplete(family: Family, rest: Sequence[str]) -> str:
    """Return the sentence for a first word without a valid second word.

    Args:
        family: what the first word stands for.
        rest: the arguments after it.
    """
    word = family.name or ""
    known = ", ".join(entry.name for entry in catalog.family(word))
    if not rest or rest[0].startswith("-"):
        return f"'{word}' needs one more word: {known}"
    return f"{shown(f'{word} {rest[0]}')} is not a registered command, there are: {known}"


def family_of(word: str) -> Family | None:
    """Return the family of commands that begin with a word; None if none does."""
    if not catalog.family(word):
        return None
    return Family(word, short_help=catalog.FAMILIES[word], context_settings=HELP_FLAGS)
