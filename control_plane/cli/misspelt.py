"""Environment variables that look like one of ours, but are not.

The rule of this module: only a variable that looks much like one that is read is reported. Other
variables begin with C2C_, too: Kubernetes names some after the services of a namespace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from control_plane.settings import Caution

_ALIKE = 0.85
"""How alike two names are that differ in one or two letters, as ``difflib`` measures it."""


def misspelt(known: Iterable[str], environ: Mapping[str, str]) -> Iterator[Caution]:
    """Yield the variables that are set and were probably meant to be one of those that are read.

    Args:
        known: the variables that are read.
        environ: the environment of this process.
    """
    read = set(known)
    others = sorted(each for each in environ if each.startswith("C2C_") and each not in read)
    if not others:
        return
    import difflib  # noqa: PLC0415 - 4 ms, and needed only when something may be wrong

    for name in others:
        for meant in difflib.get_close_matches(name, read, n=1, cutoff=_ALIKE):
            yield Caution(name, f"nothing reads this variable: did you mean {meant}?")
