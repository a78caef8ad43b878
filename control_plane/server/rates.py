"""How often something may happen: in the long run, and at once.

The rule of this module: who comes too often is told so at once, or waits for its turn; nobody else
is affected. However many clients there are, only so many rates are tracked.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Self

from control_plane.clock import Clock

MOST_BUCKETS = 10_000
"""How many clients' rates are tracked at a time; each takes 200 bytes."""

_SECONDS_PER_MINUTE = 60.0

_PAUSE_SECONDS = 0.1
"""How long a client waits whose bucket is empty, before it is looked at again."""


class TokenBucket:
    """A rate with a burst: the bucket is full at first, and is refilled at the rate."""

    __slots__ = ("_at", "_burst", "_clock", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, clock: Clock) -> None:
        """Start full.

        Args:
            rate: tokens added per second.
            burst: tokens that the bucket holds at most.
            clock: tells how long ago the last token was taken.
        """
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = self._burst
        self._at = clock.monotonic()

    @classmethod
    def per_minute(cls, tokens: int, clock: Clock) -> Self:
        """Return a bucket of this many tokens, which is refilled within a minute."""
        return cls(tokens / _SECONDS_PER_MINUTE, tokens, clock)

    def take(self, tokens: int = 1) -> bool:
        """Take this many tokens; tell whether the bucket had them."""
        now = self._clock.monotonic()
        self._tokens = self._filled(now)
        self._at = now
        if self._tokens < tokens:
            return False
        self._tokens -= tokens
        return True

    def is_empty(self) -> bool:
        """Tell whether there is no token to take."""
        return self._filled(self._clock.monotonic()) < 1.0

    def is_full(self) -> bool:
        """Tell whether the bucket is full again, as if nothing had ever been taken."""
        return self._filled(self._clock.monotonic()) >= self._burst

    def _filled(self, now: float) -> float:
        return min(self._burst, self._tokens + (now - self._at) * self._rate)


class TokenBuckets:
    """One bucket for each of many clients, who are known by a key."""

    def __init__(self, rate: float, burst: int, clock: Clock, *, most: int = MOST_BUCKETS) -> None:
        """Start with full buckets.

        Args:
            rate: tokens added per second to each bucket.
            burst: tokens that each bucket holds at most.
            clock: tells how long ago the last token was taken.
            most: how many buckets are kept; the one that was unused for longest is dropped first.
        """
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    @classmethod
    def per_minute(cls, tokens: int, clock: Clock) -> Self:
        """Return buckets of this many tokens each, which are refilled within a minute."""
        return cls(tokens / _SECONDS_PER_MINUTE, tokens, clock)

    def take(self, key: str, tokens: int = 1) -> bool:
        """Take this many tokens from the bucket of a key; tell whether the bucket had them."""
        bucket = self._buckets.pop(key, None) or TokenBucket(self._rate, self._burst, self._clock)
        self._make_room()
        self._buckets[key] = bucket
        return bucket.take(tokens)

    async def turn(self, key: str, tokens: int = 1) -> None:
        """Take this many tokens from the bucket of a key, once it has them.

        Args:
            tokens: no more than a bucket holds.
        """
        while not self.take(key, tokens):
            await self._clock.sleep(_PAUSE_SECONDS)

    def is_empty(self, key: str) -> bool:
        """Tell whether the bucket of a key has no token left."""
        bucket = self._buckets.get(key)
        return bucket is not None and bucket.is_empty()

    def _make_room(self) -> None:
        """Drop the oldest buckets, as long as they are full again or there are too many."""
        while self._buckets and (
            len(self._buckets) >= self._most or next(iter(self._buckets.values())).is_full()
        ):
            self._buckets.popitem(last=False)
