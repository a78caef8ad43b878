"""Immutable sorted lists by key, of which the indexes of State consist.

The rule of this module: lists are read far more often than they change. So a change inserts a
member at its place, and the result shares the lists of all other keys with the lists before.
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
    """Return the lists with a member added to a key's list; unchanged if it is there already."""
    members = lists.get(key, ())
    at = _place(members, member, order)
    if members[at : at + 1] == (member,):
        return lists
    return lists.insert(key, (*members[:at], member, *members[at:]))


def without_member(
    lists: SortedLists[K, V], key: K, member: V, order: Callable[[V], Any] = _itself
) -> SortedLists[K, V]:
    """Return the lists with a member removed from a key's list; an empty list is not kept."""
    members = lists.get(key, ())
    at = _place(members, member, order)
    if members[at : at + 1] != (member,):
        return lists
    rest = (*members[:at], *members[at + 1 :])
    return lists.insert(key, rest) if rest else lists.discard(key)


def _place(members: tuple[V, ...], member: V, order: Callable[[V], Any]) -> int:
    return bisect_left(members, order(member), key=order)
