"""Sorted lists by key that are never changed, of which State has its indexes.

The rule of this module: lists are read far more often than they change, so a change sorts a member
in, and shares with the lists before it whatever is under another key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from rpds import HashTrieMap

K = TypeVar("K")
V = TypeVar("V")

SortedLists: TypeAlias = "HashTrieMap[K, tuple[V, ...]]"


def _itself(member: V) -> V:
    return member


def with_member(
    lists: SortedLists[K, V], key: K, member: V, order: Callable[[V], Any] = _itself
) -> SortedLists[K, V]:
    """Return the lists with a member in the one of a key, or as they are if it is there."""
    members = lists.get(key, ())
    at = _place(members, member, order)
    if members[at : at + 1] == (member,):
        return lists
    return lists.insert(key, (*members[:at], member, *members[at:]))


def without_member(
    lists: SortedLists[K, V], key: K, member: V, order: Callable[[V], Any] = _itself
) -> SortedLists[K, V]:
    """Return the lists without a member of the one of a key; an empty list is none."""
    members = lists.get(key, ())
    at = _place(members, member, order)
    if members[at : at + 1] != (member,):
        return lists
    rest = (*members[:at], *members[at + 1 :])
    return lists.insert(key, rest) if rest else lists.discard(key)


def _place(members: tuple[V, ...], member: V, order: Callable[[V], Any]) -> int:
    return bisect_left(members, order(member), key=order)
