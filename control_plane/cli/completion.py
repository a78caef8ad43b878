"""What a shell is told about commands.

The rule of this module: it completes one word at a time, as users type, also in commands of two
words, and imports no command.
"""

from __future__ import annotations

from collections.abc import Sequence

from click.shell_completion import CompletionItem

from control_plane.cli import catalog


def next_words(before: Sequence[str], incomplete: str) -> list[CompletionItem]:
    """Return the words that can follow in a command.

    Args:
        before: the words of the command so far.
        incomplete: the beginning of the next word.
    """
    known = {
        tuple(entry.name.split()): entry.summary
        for group in catalog.GROUPS
        for entry in group.entries
    }
    known |= {(word,): summary for word, summary in catalog.FAMILIES.items()}
    place = len(before)
    return [
        CompletionItem(words[place], help=summary)
        for words, summary in known.items()
        if len(words) == place + 1
        and words[:place] == tuple(before)
        and words[place].startswith(incomplete)
    ]
