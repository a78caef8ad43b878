"""Durations as callers send them: parsed, or refused.

The rule of this module: every duration that is returned is one that a timer can be set to, unlike
the 10,000 years that a message can hold.
"""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from control_plane.errors import InvalidArgument


def parse_duration(value: Duration, *, field: str, least: timedelta, most: timedelta) -> timedelta:
    """Return a duration, which must be within bounds.

    Raises:
        InvalidArgument: it is shorter or longer, or no duration at all.
    """
    try:
        length = value.ToTimedelta()
    except (OverflowError, ValueError):  # nanos may contradict seconds, or be too many
        length = None
    if length is None or not least <= length <= most:
        raise InvalidArgument(
            f"{field} must be {least.total_seconds():g} to {most.total_seconds():.0f} seconds, "
            f"not {value.seconds + value.nanos / 1e9:.12g}",
            field=field,
        )
    return length
