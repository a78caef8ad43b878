"""One response at a time, and the answer to it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from control_plane.xds.events import Acked, Nacked
from control_plane.xds.exchange import Exchange
from control_plane.xds.messages import ErrorDetail
from control_plane.xds.refusal import FIRST_PAUSE, Refusals
from control_plane.xds.resource import Nonce, Version
from control_plane.xds.resource_type import ROUTE, ResourceTypes
from control_plane.xds.unsettled import round_from, turn_of

NO = ErrorDetail(13, "no")
V1, V2 = Version("1"), Version("2")


def exchange() -> Exchange:
    """Return one that nothing was sent on yet."""
    kind = ResourceTypes.of().get(ROUTE)
    return Exchange(kind, Refusals(kind))


def turn(it: Exchange, due: Mapping[str, Version | None], limit: int) -> list[str]:
    """Return the names of the next response."""
    in_order = ((name, due[name]) for name in round_from(sorted(due), it.last_name))
    return list(turn_of(in_order, limit, it.was_refused_so))


def test_only_the_last_nonce_answers_and_only_once() -> None:
    """A1: an answer belongs to the response whose nonce it carries."""
    it = exchange()
    assert not it.answered("")
    it.send(Nonce("1"), {"a": V1}, 5.0)
    assert not it.answered("0")
    assert not it.answered("")
    assert it.answered("1")
    assert it.sent_at == 5.0
    it.settle(None, 6.0)
    assert not it.answered("1")


def test_ack_is_taken_by_name() -> None:
    """A14: what an ACK accepts is what its response said, removals included."""
    it = exchange()
    it.send(Nonce("1"), {"a": V1, "b": V1}, 0.0)
    assert it.settle(None, 1.0) == Acked(ROUTE, "1", {"a": V1, "b": V1})
    it.send(Nonce("2"), {"a": V2, "b": None}, 2.0)
    it.settle(None, 3.0)
    assert (it.has("a"), it.has("b")) == (V2, None)
    assert it.accepted["a"].at == 3.0


def test_nack_leaves_the_client_with_what_it_had() -> None:
    """A4: error_detail makes a NACK, and the old content stays in use."""
    it = exchange()
    it.send(Nonce("1"), {"a": V1}, 0.0)
    it.settle(None, 1.0)
    it.send(Nonce("2"), {"a": V2}, 2.0)
    assert it.settle(NO, 3.0) == Nacked(ROUTE, "2", {"a": V2}, NO)
    assert it.has("a") == V1
    assert not it.may_send("a", V2, 3.9)
    assert it.may_send("a", V2, 4.0)
    assert it.owed == set()


def test_nack_owes_again_what_its_response_was_owed_and_nothing_else() -> None:
    """A6: what did not leave with it is owed by itself, and makes nothing else owed."""
    it = exchange()
    it.owe({"b"})
    it.send(Nonce("1"), {"a": V1}, 0.0)
    it.settle(NO, 1.0)
    assert it.owed == {"b"}
    it.send(Nonce("2"), {"b": V1}, 2.0)
    it.settle(NO, 3.0)
    assert it.owed == {"b"}


def test_client_that_refuses_to_hear_that_a_name_is_not_there_has_nothing_of_it() -> None:
    """A14: so what it has need not be taken from it."""
    it = exchange()
    it.send(Nonce("1"), {"a": None}, 0.0)
    it.settle(NO, 1.0)
    assert not it.may_have("a")


def test_the_cost_of_a_refusal_follows_what_was_refused() -> None:
    """Eight times as many names take eight times as long; allowed is three times that."""

    def seconds(names: int) -> float:
        versions = {f"r{number}": V1 for number in range(names)}
        it = exchange()
        it.send(Nonce("1"), versions, 0.0)
        it.settle(None, 1.0)
        it.send(Nonce("2"), versions, 2.0)
        start = time.thread_time()
        it.settle(NO, 3.0)
        return time.thread_time() - start

    assert min(seconds(16_000) for _ in range(3)) < 24 * min(seconds(2_000) for _ in range(10))


def test_answer_to_an_empty_response_concerns_nothing() -> None:
    """W15: an empty response may be refused too, and nothing follows from that."""
    it = exchange()
    it.send(Nonce("1"), {}, 0.0)
    assert it.settle(NO, 1.0) == Nacked(ROUTE, "1", {}, NO)
    assert it.next_retry(1.0) is None
    assert not it.was_refused("a")


def test_names_take_turns() -> None:
    """A10: a response of limited size goes on where the last one ended."""
    it = exchange()
    due: dict[str, Version | None] = dict.fromkeys(["a", "b", "c"], V1)
    turns = []
    for number in range(4):
        turns.append(turn(it, due, 2))
        it.send(Nonce(str(number)), dict.fromkeys(turns[-1], V1), 0.0, turn=turns[-1])
    assert turns == [["a", "b"], ["c", "a"], ["b", "c"], ["a", "b"]]


def test_what_was_refused_has_a_response_of_its_own() -> None:
    """A7: another NACK must not hit what is sent along."""
    it = exchange()
    it.send(Nonce("1"), {"b": V1, "c": V1}, 0.0, turn=["b", "c"])
    it.settle(NO, 0.0)
    due: dict[str, Version | None] = dict.fromkeys("abcd", V1)
    assert turn(it, due, 9) == ["d", "a"]
    it.send(Nonce("2"), {"d": V1, "a": V1}, 0.0, turn=["d", "a"])
    assert turn(it, {"b": V1, "c": V1}, 9) == ["b"]


def test_earliest_retry_counts() -> None:
    """A7: refused content and refused removals are both tried again."""
    it = exchange()
    it.send(Nonce("1"), {"a": V1, "b": None}, 0.0)
    it.settle(NO, 10.0)
    assert it.next_retry(10.0) == 11.0
    assert it.owed == {"a", "b"}
    it.send(Nonce("2"), {"a": V1}, 11.0)
    it.settle(None, 11.5)
    assert it.may_send("b", None, 11.0)
    assert it.next_retry(11.5) is None


def test_earliest_retry_may_be_of_content_or_of_a_removal() -> None:
    """A7: whichever is due first is what to wake up for."""
    it = exchange()
    it.send(Nonce("1"), {"a": V1}, 0.0)
    it.settle(NO, 10.0)
    it.send(Nonce("2"), {"b": None}, 10.0)
    it.settle(NO, 10.5)
    assert it.next_retry(10.5) == 11.0
    assert it.next_retry(11.0) == 11.5


def test_nobody_wakes_up_for_a_refused_removal_of_what_is_not_wanted_any_more() -> None:
    """A7, W10: it is forgotten with the wildcard or glob that wanted it."""
    it = exchange()
    it.send(Nonce("1"), {"a": None}, 0.0)
    it.settle(NO, 10.0)
    it.retain(lambda _: False)
    assert it.next_retry(10.0) is None


def test_what_was_refused_without_a_name_is_forgotten_with_the_next_ack() -> None:
    """A refusal of a response that told nothing grows no pause of one that comes much later."""
    it = exchange()
    for began in (0.0, 1.0):
        it.ask_for_all_later(NO, began)
    assert it.next_retry(1.0) == 1.0 + 2 * FIRST_PAUSE
    it.send(Nonce("1"), {}, 10.0)
    it.settle(None, 11.0)

    it.ask_for_all_later(NO, 20.0)

    assert it.next_retry(20.0) == 20.0 + FIRST_PAUSE


def test_what_may_have_been_applied_is_known_once_it_is_answered_for() -> None:
    """A client that refused several resources may have applied some, until it accepts or drops."""
    it = exchange()
    it.send(Nonce("1"), {"a": V1, "b": V1, "c": V1}, 0.0)
    it.settle(NO, 1.0)
    assert [it.may_have(name) for name in "abc"] == [True, True, True]

    it.send(Nonce("2"), {"a": None}, 2.0)
    it.settle(None, 3.0)
    it.retain(lambda name: name != "b")

    assert [it.may_have(name) for name in "abc"] == [False, False, True]


def test_the_cost_of_a_refresh_follows_what_is_refreshed() -> None:
    """An update of one cluster does not look at the endpoints of all; allowed is four times."""

    def seconds(names: int) -> float:
        it = exchange()
        it.send(Nonce("1"), {f"r{number}": V1 for number in range(names)}, 0.0)
        it.settle(None, 1.0)
        taken = []
        for _ in range(50):
            start = time.thread_time()
            it.refresh({"r0"}, ())
            taken.append(time.thread_time() - start)
        assert it.owed == {"r0"}
        return min(taken)

    assert seconds(64_000) < 4 * seconds(500)
