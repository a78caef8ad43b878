"""What a user may have meant by a name that does not exist.

The rule of this module: an answer costs little however many names there are, because everything
else waits meanwhile. If there are more names than can be compared, none is suggested.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

MOST_NAMES = 500
"""How many names are compared at most; this many take some milliseconds."""

_LONGEST = 253
"""Octets of the longest possible name, which is a hostname."""

_SUGGESTIONS = 3


def nearest(name: str, known: Collection[str]) -> list[str]:
    """Return up to three of the known names that resemble a name, the most similar first.

    Names are compared in lower case, so that a name in capitals finds its match too.
    """
    if len(known) > MOST_NAMES or len(name) > _LONGEST:
        return []
    spelled: dict[str, list[str]] = {}
    for each in sorted(known):
        spelled.setdefault(each.lower(), []).append(each)
    near = difflib.get_close_matches(name.lower(), spelled)
    return [each for lower in near for each in spelled[lower]][:_SUGGESTIONS]
