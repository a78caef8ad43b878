"""Envoy's ``StringMatcher``, as a test of texts.

The rule of this module: a text is matched as Envoy would match it; a regular expression is matched
with RE2 and against the whole text. A matcher that cannot be applied is refused, and never taken to
match everything.

Python's own ``re`` backtracks, for hours if a pattern makes it; the time that RE2 takes is linear
in the length of the text. RE2 has no wheels for musl, where sidecars are installed too; therefore
it is an extra.
"""

from __future__ import annotations

from collections.abc import Callable

from envoy.type.matcher.v3 import string_pb2

from control_plane.errors import FailedPrecondition, InvalidArgument
from control_plane.names import shown

MAX_PATTERN_OCTETS = 1024

_MAX_MEMORY = 1 << 20
"""How many octets one pattern may take; ``re2`` keeps the last 128 patterns."""

TextTest = Callable[[str], bool]
"""Tells whether a text matches."""

_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "exact": str.__eq__,
    "prefix": str.startswith,
    "suffix": str.endswith,
    "contains": str.__contains__,
}


def string_matcher(matcher: string_pb2.StringMatcher, *, what: str, field: str) -> TextTest:
    """Return a function that tests texts as a matcher says.

    Args:
        matcher: the matcher.
        what: the name of what is matched, for error messages.
        field: the field of the request that has the matcher.

    Raises:
        InvalidArgument: the kind of the matcher is not known, or its regular expression is invalid.
        FailedPrecondition: the matcher needs RE2, which is not installed.
    """
    kind = matcher.WhichOneof("match_pattern")
    if kind == "safe_regex":
        # "This has no effect for the safe_regex match", says the API of ignore_case.
        return _regex(matcher.safe_regex.regex, field)
    if kind not in _COMPARISONS:
        raise InvalidArgument(
            f"{what} is matched by {', '.join(_COMPARISONS)} or safe_regex", field=field
        )
    fold = str.lower if matcher.ignore_case else str
    compare, wanted = _COMPARISONS[kind], fold(getattr(matcher, kind))
    return lambda text: compare(fold(text), wanted)


def _regex(pattern: str, field: str) -> TextTest:
    if not pattern or len(pattern.encode()) > MAX_PATTERN_OCTETS:
        raise InvalidArgument(
            f"a regular expression must have 1 to {MAX_PATTERN_OCTETS} octets: {shown(pattern)}",
            field=field,
        )
    try:
        import re2  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        raise FailedPrecondition(
            "safe_regex needs RE2, which is not installed beside the control plane"
            " (pip install google-re2): match in another way",
            field=field,
        ) from error
    options = re2.Options()
    options.log_errors = False  # they would go to standard error
    options.max_mem = _MAX_MEMORY
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace")
        raise InvalidArgument(
            f"{shown(pattern)} is no regular expression of RE2: {reason}", field=field
        ) from error
    return lambda text: compiled.fullmatch(text) is not None
