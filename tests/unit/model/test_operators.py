"""Operators' certificates: on record until they end, and revoked with all that came of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from control_plane.errors import Unauthenticated
from control_plane.model.change import Decision
from control_plane.model.entities import OperatorCertificate
from control_plane.model.operators import (
    drop_ended_certificates,
    is_revoked,
    known_certificates,
    note_issued,
    revoke_of,
    revoke_serial,
)
from control_plane.model.state import State
from tests.unit.model.world import NOW

SOON, LATER = NOW + timedelta(hours=1), NOW + timedelta(days=30)

ALICE = OperatorCertificate(1, "alice", SOON, NOW)
ALICE_AGAIN = OperatorCertificate(2, "alice", LATER, NOW, issued_by=1)
BOB = OperatorCertificate(3, "bob", LATER, NOW, issued_by=2)
CAROL = OperatorCertificate(4, "carol", LATER, NOW, issued_by=3)
DAVE = OperatorCertificate(5, "dave", LATER, NOW)

Revoke = Callable[[State], Decision[tuple[OperatorCertificate, ...]]]


def noted(*certificates: OperatorCertificate) -> State:
    """Return a State with these certificates, issued in this order."""
    state = State()
    for each in certificates:
        state = note_issued(state, each).state
    return state


def revoked(state: State) -> Sequence[int]:
    """Return the serials that are refused."""
    return [serial for serial in range(1, 7) if is_revoked(state, serial)]


def test_a_certificate_is_listed_until_it_ends() -> None:
    """By holder; each holder's first to end comes first."""
    state = noted(DAVE, ALICE_AGAIN, ALICE)

    assert known_certificates(state, NOW) == (ALICE, ALICE_AGAIN, DAVE)
    assert known_certificates(state, SOON) == (ALICE_AGAIN, DAVE)


@pytest.mark.parametrize(
    "revoke",
    [
        lambda state: revoke_of(state, "alice", NOW),
        lambda state: revoke_serial(state, 1, NOW, LATER),
    ],
    ids=["by name", "by serial"],
)
def test_what_a_certificate_was_used_to_ask_for_goes_with_it(revoke: Revoke) -> None:
    """Also in other names, and also what these asked for; everybody else's stays."""
    decision = revoke(noted(ALICE, ALICE_AGAIN, BOB, CAROL, DAVE))

    assert [each.serial for each in decision.result] == [1, 2, 3, 4]
    assert {each.revoked_at for each in decision.result} == {NOW}
    assert decision.change.puts == decision.result
    assert revoked(decision.state) == [1, 2, 3, 4]


def test_what_a_certificate_was_asked_for_with_stays() -> None:
    """An operator who takes back what he asked for is no less an operator."""
    decision = revoke_serial(noted(ALICE, ALICE_AGAIN, BOB, CAROL, DAVE), 3, NOW, LATER)

    assert revoked(decision.state) == [3, 4]


def test_who_has_ended_still_takes_others_along() -> None:
    """A certificate that outlives the one with which it was asked for is its holder's doing too."""
    state = noted(ALICE, ALICE_AGAIN, BOB)

    assert [each.serial for each in revoke_serial(state, 1, SOON, LATER).result] == [2, 3]
    assert [each.serial for each in revoke_of(state, "alice", SOON).result] == [2, 3]


def test_revoking_twice_is_revoking_once() -> None:
    """The second time nothing changes, and the moment of the first stays."""
    state = revoke_of(noted(ALICE, DAVE), "alice", NOW).state

    for again in (revoke_of(state, "alice", SOON), revoke_serial(state, 1, SOON, LATER)):
        assert again.state is state
        assert again.result == ()
    assert revoke_of(state, "nobody", NOW).result == ()


def test_a_certificate_that_is_not_on_record_is_revoked_all_the_same() -> None:
    """It is listed for as long as one may live that was issued now."""
    decision = revoke_serial(noted(DAVE), 6, NOW, LATER)

    assert decision.result == (OperatorCertificate(6, "", LATER, revoked_at=NOW),)
    assert revoked(decision.state) == [6]
    assert known_certificates(decision.state, LATER) == ()


def test_a_revocation_is_never_forgotten() -> None:
    """A clock that is far ahead for a moment makes nothing good again."""
    state = revoke_serial(noted(ALICE, DAVE), 1, NOW, LATER).state
    decision = drop_ended_certificates(state, LATER)

    assert decision.result == 1
    assert (sorted(decision.state.operator_certificates), revoked(decision.state)) == ([1], [1])


def test_who_is_revoked_meanwhile_gets_no_other_certificate() -> None:
    """A request that was let in before is refused, and nothing is noted."""
    state = revoke_of(noted(ALICE), "alice", NOW).state

    with pytest.raises(Unauthenticated) as refused:
        note_issued(state, OperatorCertificate(7, "eve", LATER, NOW, issued_by=1))

    assert refused.value.rule == "client certificate was revoked: connect with another one"


@pytest.mark.parametrize(
    ("certificates", "now", "left"),
    [
        ((ALICE, DAVE), SOON - timedelta(microseconds=1), [1, 5]),
        ((ALICE, DAVE), SOON, [5]),
        ((ALICE, ALICE_AGAIN, BOB), SOON, [1, 2, 3]),
        ((ALICE, ALICE_AGAIN, BOB), LATER, []),
        ((BOB,), SOON, [3]),
    ],
    ids=["before its end", "at its end", "asked for others", "with the last", "of an unknown one"],
)
def test_a_certificate_is_forgotten_once_nobody_can_come_with_what_came_of_it(
    certificates: Sequence[OperatorCertificate], now: datetime, left: Sequence[int]
) -> None:
    """Until then it tells by whom the others were asked for."""
    decision = drop_ended_certificates(noted(*certificates), now)

    assert sorted(decision.state.operator_certificates) == left
    assert decision.result == len(certificates) - len(left)
