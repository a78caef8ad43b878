"""Join tokens: good for one app, a number of times, for a while; wrong ones tell nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from control_plane.errors import AlreadyExists, InvalidArgument, NotFound, Unauthenticated
from control_plane.model.entities import JoinToken
from control_plane.model.instances import register_instance
from control_plane.model.state import State
from control_plane.model.tokens import (
    add_token,
    admits,
    drop_expired_tokens,
    good_tokens,
    revoke_tokens,
    spend_token,
    take_back_use,
)
from control_plane.names import Address, AppGuid
from tests.unit.model.world import NOW, A, B, C, register, world

DIGEST = "d" * 64
LATER = NOW + timedelta(minutes=10)


def token(
    digest: str = DIGEST,
    app: AppGuid = A,
    *,
    ends: datetime = LATER,
    uses: int = 1,
    address_range: str = "",
) -> JoinToken:
    """Return what is kept of a new token."""
    guid = f"of-{digest[:1]}"
    return JoinToken(digest, app, ends, uses, address_range, guid, created_at=NOW, uses=uses)


def with_tokens(state: State, *tokens: JoinToken) -> State:
    """Return a State that has these tokens too."""
    for each in tokens:
        state = add_token(state, each, NOW).state
    return state


@pytest.fixture
def state() -> State:
    """Return app a with a token for two enrolments."""
    return with_tokens(world("a"), token(uses=2))


def test_a_token_is_spent_use_by_use(state: State) -> None:
    """Each use says the app, and after the last one the token is told as used up."""
    first = spend_token(state, DIGEST, NOW)
    second = spend_token(first.state, DIGEST, LATER - timedelta(microseconds=1))

    assert (first.result.app_guid, first.result.uses_left) == (A, 1)
    assert second.result.uses_left == 0
    assert first.change.apps == frozenset()
    with pytest.raises(Unauthenticated) as refused:
        spend_token(second.state, DIGEST, NOW)
    assert refused.value.rule == "join token is used up: ask for a new one"
    assert refused.value.field == "token"


def test_an_expired_token_is_worth_nothing_from_that_moment(state: State) -> None:
    """The moment of expiry itself is too late."""
    with pytest.raises(Unauthenticated) as caught:
        spend_token(state, DIGEST, LATER)

    assert caught.value.rule == (
        "join token expired at 2026-01-01T12:10:00+00:00: ask for a new one"
    )
    assert caught.value.field == "token"


def test_an_unknown_token_tells_nothing(state: State) -> None:
    """The refusal names neither an app nor the token."""
    with pytest.raises(Unauthenticated) as caught:
        spend_token(state, "e" * 64, NOW)

    assert caught.value.rule == "join token is not known"
    assert caught.value.field == "token"


def test_a_refused_enrolment_spends_nothing(state: State) -> None:
    """Spending and registering are one change: if the address is refused, no use is lost."""
    taken = register(state, "a0", A, "10.0.0.1")

    with pytest.raises(AlreadyExists):
        spend_token(taken, DIGEST, NOW).then(
            lambda state, token: register_instance(state, "a0", token.app_guid, "10.0.0.2")
        )
    enrolled = spend_token(taken, DIGEST, NOW).then(
        lambda state, token: register_instance(state, "a1", token.app_guid, "10.0.0.2")
    )

    left = enrolled.state.token(DIGEST)
    assert left is not None
    assert left.uses_left == 1
    assert enrolled.change.puts == (left, enrolled.result)
    assert enrolled.change.apps == {A}


def test_a_use_that_enrolled_nobody_is_taken_back(state: State) -> None:
    """The token is as it was before, unless it was revoked meanwhile, which holds."""
    spent = spend_token(state, DIGEST, NOW).state
    revoked = revoke_tokens(spent, A, NOW).state

    assert take_back_use(spent, DIGEST).state == state
    assert take_back_use(spent, DIGEST).result == token(uses=2)
    assert take_back_use(revoked, DIGEST).state is revoked


def test_adding_a_token_twice_is_one_token(state: State) -> None:
    """The same token with other properties is refused."""
    again = add_token(state, token(uses=2), NOW)
    assert (again.state, again.result) == (state, token(uses=2))
    assert not again.change

    with pytest.raises(AlreadyExists, match="join token exists with other properties") as refused:
        add_token(state, token(uses=3), NOW)
    assert refused.value.field == "token"


def test_a_token_expires_in_the_future() -> None:
    """A token that could never be used is refused."""
    with pytest.raises(InvalidArgument) as caught:
        add_token(world("a"), token(ends=NOW), NOW)

    assert caught.value.rule == (
        "a join token has to expire in the future, not at 2026-01-01T12:00:00+00:00"
    )
    assert caught.value.field == "ttl"


def test_a_token_is_good_for_one_enrolment_at_least() -> None:
    """None is one less than one, and refused as fewer are."""
    with pytest.raises(InvalidArgument, match="a join token needs at least one use, not 0"):
        add_token(world("a"), token(uses=0), NOW)


def test_a_token_for_an_app_that_is_gone_is_refused() -> None:
    """An app may be deleted between being found and getting a token."""
    with pytest.raises(NotFound, match="app 'guid-a' not found"):
        add_token(State(), token(), NOW)


def test_expired_tokens_are_dropped_and_others_stay(state: State) -> None:
    """A token that is used up stays until it expires, so that its holder is told why."""
    spent = spend_token(state, DIGEST, NOW).state
    spent = spend_token(spent, DIGEST, NOW).state
    longer = with_tokens(spent, token("e" * 64, ends=LATER + timedelta(seconds=1)))

    assert drop_expired_tokens(longer, NOW).result == 0
    assert drop_expired_tokens(longer, NOW).state is longer
    dropped = drop_expired_tokens(longer, LATER)

    assert dropped.result == 1
    assert [each.digest for each in dropped.state.all_tokens()] == ["e" * 64]


def test_the_tokens_of_an_app_are_revoked_and_those_of_others_stay() -> None:
    """All of them go, and those are counted with which somebody could still have enrolled."""
    state = with_tokens(world("a", "b"), token(uses=2), token("e" * 64), token("f" * 64, B))
    state = spend_token(state, "e" * 64, NOW).state

    revoked = revoke_tokens(state, A, NOW)

    assert revoked.result == 1
    assert [each.digest for each in revoked.state.all_tokens()] == ["f" * 64]
    assert revoke_tokens(state, A, LATER).result == 0
    assert revoke_tokens(revoked.state, A, NOW).state is revoked.state


def test_one_token_is_revoked_by_its_guid_and_of_its_app_only() -> None:
    """Whoever knows which token got out need not take the others from those who have them."""
    state = with_tokens(world("a", "b"), token(), token("e" * 64), token("f" * 64, B))

    revoked = revoke_tokens(state, A, NOW, "of-e")

    assert revoked.result == 1
    assert [each.guid for each in revoked.state.all_tokens()] == ["of-d", "of-f"]
    assert revoke_tokens(state, A, NOW, "of-f").state is state


def test_tokens_are_good_until_they_end_or_are_used_up() -> None:
    """What is listed is what somebody could enrol with, app by app as they were named."""
    soon = LATER - timedelta(minutes=1)
    state = with_tokens(
        world("a", "b", "c"),
        token("1" * 64, uses=2),
        token("2" * 64, ends=soon),
        token("3" * 64, B, ends=soon),
        token("4" * 64),
        token("5" * 64, C),
    )
    for digest in ("1" * 64, "4" * 64):
        state = spend_token(state, digest, NOW).state

    def listed(now: datetime) -> list[tuple[str, int]]:
        apps = [state.apps[B], state.apps[A]]
        return [(each.guid, each.uses_left) for each in good_tokens(state, apps, now)]

    assert listed(NOW) == [("of-3", 1), ("of-2", 1), ("of-1", 1)]
    assert listed(soon) == [("of-1", 1)]
    assert listed(LATER) == []


@pytest.mark.parametrize(
    ("address", "source", "address_range", "admitted"),
    [
        ("10.255.0.4", "10.255.0.4", "", True),
        ("10.255.0.4", "10.255.0.5", "", False),
        ("10.255.0.4", "192.0.2.1", "10.255.0.0/16", True),
        ("10.254.0.4", "192.0.2.1", "10.255.0.0/16", False),
        ("192.0.2.1", "192.0.2.1", "10.255.0.0/16", True),
        ("10.255.0.4", "192.0.2.1", "10.255.0.4", True),
        ("2001:db8::4", "192.0.2.1", "2001:db8::/64", True),
        ("2001:db8::4", "192.0.2.1", "10.255.0.0/16", False),
        ("10.255.0.4", "192.0.2.1", "::ffff:10.255.0.0/112", True),
        ("10.254.0.4", "192.0.2.1", "::ffff:10.255.0.0/112", False),
        ("10.255.0.4", "192.0.2.1", "::ffff:0.0.0.0/96", True),
        ("2001:db8::4", "192.0.2.1", "2001:db8::/112", True),
        ("2001:db8::1:4", "192.0.2.1", "2001:db8::/112", False),
        ("::1", "192.0.2.1", "::/0", True),
    ],
)
def test_an_address_is_the_connections_or_in_the_tokens_range(
    address: str, source: str, address_range: str, *, admitted: bool
) -> None:
    """An instance claims only an address that somebody vouches for."""
    made = add_token(world("a"), token(address_range=address_range), NOW).result

    assert admits(made, Address(address), Address(source)) is admitted


def test_the_hash_of_a_token_is_in_no_repr() -> None:
    """Whoever logs a token logs nothing that helps to find it."""
    assert DIGEST not in repr(token())
