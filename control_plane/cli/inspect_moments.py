"""Moments as people read them: how long ago, and how soon."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_UNITS = (
    ("d", timedelta(days=2), timedelta(days=1)),
    ("h", timedelta(hours=2), timedelta(hours=1)),
    ("m", timedelta(minutes=2), timedelta(minutes=1)),
)


def ago(moment: Timestamp, now: datetime) -> str:
    """Return how long ago a moment was, in the largest unit that fits twice: 90s, 5m, 3d."""
    return _shown(now - moment.ToDatetime(tzinfo=UTC))


def ahead(moment: Timestamp, now: datetime) -> str:
    """Return how soon a moment comes, or that it has passed."""
    left = moment.ToDatetime(tzinfo=UTC) - now
    return f"in {_shown(left)}" if left > timedelta() else "over"


def _shown(time: timedelta) -> str:
    for unit, least, one in _UNITS:
        if time >= least:
            return f"{time // one}{unit}"
    return f"{max(0, int(time.total_seconds()))}s"
