"""What a client wants, by the examples of the protocol."""

from __future__ import annotations

from control_plane.xds.resource import WILDCARD
from control_plane.xds.subscription import Subscription, SubscriptionChange


def change(added: str = "", dropped: str = "") -> SubscriptionChange:
    """Return a change by the letters of its names."""
    return SubscriptionChange(frozenset(added), frozenset(dropped))


def test_nothing_is_wanted_before_the_first_request() -> None:
    """W1: a subscription starts with nothing."""
    assert not Subscription().wants("a")


def test_each_sotw_request_has_all_names() -> None:
    """W14: names that are not repeated are given up; what is new is asked for."""
    subscription = Subscription()
    assert subscription.replace(["a", "b"]) == {"a", "b"}
    assert subscription.replace(["b", "c"]) == {"c"}
    assert subscription.names == {"b", "c"}
    assert not subscription.wants("a")


def test_four_sotw_steps() -> None:
    """W5: ``[]``, ``[*, A]``, ``[A]``, ``[]`` mean all, all and A, A, nothing."""
    subscription = Subscription()
    assert subscription.replace([]) == {WILDCARD}
    assert (subscription.wildcard, subscription.names) == (True, set())
    assert subscription.replace(["*", "A"]) == {"A"}
    assert (subscription.wildcard, subscription.names) == (True, {"A"})
    assert subscription.replace(["A"]) == set()
    assert (subscription.wildcard, subscription.names) == (False, {"A"})
    assert subscription.replace([]) == set()
    assert (subscription.wildcard, subscription.names) == (False, set())


def test_four_delta_steps() -> None:
    """W6: ``[]``, ``+A``, ``-*``, ``-A`` mean all, all and A, A, nothing."""
    subscription = Subscription()
    assert subscription.change([], [], first=True) == change("*")
    assert (subscription.wildcard, subscription.names) == (True, set())
    assert subscription.change(["A"], [], first=False) == change("A")
    assert (subscription.wildcard, subscription.names) == (True, {"A"})
    assert subscription.change([], ["*"], first=False) == change("", "*")
    assert (subscription.wildcard, subscription.names) == (False, {"A"})
    assert subscription.change([], ["A"], first=False) == change("", "A")
    assert (subscription.wildcard, subscription.names) == (False, set())


def test_empty_delta_request_means_everything_only_if_it_is_the_first() -> None:
    """W4: a later one is an ACK, or nothing."""
    subscription = Subscription()
    subscription.change(["A"], [], first=True)
    assert subscription.change([], [], first=False) == change()
    assert not subscription.wildcard


def test_name_that_is_known_is_asked_for_all_the_same() -> None:
    """W9: the client may have forgotten it."""
    subscription = Subscription()
    subscription.change(["A"], [], first=True)
    assert subscription.change(["A"], [], first=False) == change("A")


def test_name_that_is_unknown_is_not_given_up() -> None:
    """W10: phantom unsubscriptions leave no trace."""
    assert Subscription().change([], ["A"], first=True) == change()


def test_wildcard_wants_every_name() -> None:
    """W3: ``*`` is everything, in both variants."""
    sotw, delta = Subscription(), Subscription()
    sotw.replace(["*"])
    delta.change(["*"], [], first=True)
    assert sotw.wants("anything")
    assert delta.wants("anything")
