"""What somebody may have meant by a name that nothing has.

The rule of this module: an answer costs little however much there is, since who asks holds up
everything else meanwhile. Where there is more than can be looked at, nothing is near.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

MOST_NAMES = 500
"""Names that are looked at; these take some milliseconds."""

_LONGEST = 253
"""Octets of the longest name that anything can have, which is a hostname."""

_SUGGESTIONS = 3


def nearest(name: str, known: Collection[str]) -> list[str]:
    """Return up to three of the names that are known which look like a name, the nearest first.

    Names are compared in lower case: who shouts one means it.
    """
    if len(known) > MOST_NAMES or len(name) > _LONGEST:
        return []
    spelled: dict[str, list[str]] = {}
    for each in sorted(known):
        spelled.setdefault(each.lower(), []).append(each)
    near = difflib.get_close_matches(name.lower(), spelled)
    return [each for lower in near for each in spelled[lower]][:_SUGGESTIONS]
