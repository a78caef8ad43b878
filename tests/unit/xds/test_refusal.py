"""What a node refused, and when it may be sent that again."""

from __future__ import annotations

from control_plane.xds.messages import ErrorDetail
from control_plane.xds.refusal import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PROGRAMS,
    NodeRefusals,
    ProgramRefusals,
    Refusals,
)
from control_plane.xds.resource import Version
from control_plane.xds.resource_type import LISTENER, SECRET, ResourceTypes
from tests.unit.xds.notation import url_of

NO = ErrorDetail(13, "no")
V1, V2 = Version("1"), Version("2")
TYPES = ResourceTypes.of()


def test_secret_is_quarantined_until_it_changes() -> None:
    """A7: content that was refused is held back for ever, other content is not."""
    refusals = Refusals(TYPES.get(SECRET))
    refusals.note("s", V1, NO, 10.0)
    assert refusals.holds_back("s", V1, 1e9)
    assert not refusals.holds_back("s", V2, 10.0)
    assert not refusals.holds_back("t", V1, 10.0)
    assert refusals.next_retry(10.0) is None


def test_pauses_double_up_to_a_minute() -> None:
    """A7: a listener that is refused over and over costs one response a minute."""
    refusals = Refusals(TYPES.get(LISTENER))
    now, pauses = 0.0, []
    for _ in range(12):
        refusals.note("l", V1, NO, now)
        retry_at = refusals.next_retry(now)
        assert retry_at is not None
        assert refusals.holds_back("l", V1, retry_at - 0.01)
        assert not refusals.holds_back("l", V1, retry_at)
        pauses.append(retry_at - now)
        now = retry_at
    assert pauses[:7] == [FIRST_PAUSE, 2, 4, 8, 16, 32, LONGEST_PAUSE]
    assert set(pauses[6:]) == {LONGEST_PAUSE}


def test_pauses_start_anew_with_other_content() -> None:
    """A7: what was learnt about one content says nothing about the next."""
    refusals = Refusals(TYPES.get(LISTENER))
    refusals.note("l", V1, NO, 0.0)
    refusals.note("l", V1, NO, 1.0)
    refusals.note("l", V2, NO, 3.0)
    refusal = refusals.get("l")
    assert refusal is not None
    assert (refusal.version, refusal.attempts, refusal.retry_at) == (V2, 1, 4.0)


def test_what_may_have_been_applied_may_have_been_whatever_is_refused_next() -> None:
    """A14: that the node refused more recent content takes from it nothing that it had before."""
    refusals = Refusals(TYPES.get(LISTENER))
    refusals.note("l", V1, NO, 0.0, together=True, applied=True)
    refusals.note("m", V1, NO, 0.0)
    for name in "lm":
        refusals.note(name, V2, NO, 1.0)
    assert [each is not None and each.applied for each in map(refusals.get, "lm")] == [True, False]


def test_secret_that_was_refused_among_others_is_tried_once_more() -> None:
    """A7: it may be innocent; refused alone it is quarantined."""
    refusals = Refusals(TYPES.get(SECRET))
    refusals.note("s", V1, NO, 0.0, together=True)
    assert refusals.holds_back("s", V1, 0.5)
    assert not refusals.holds_back("s", V1, 1.0)
    refusals.note("s", V1, NO, 1.0)
    assert refusals.holds_back("s", V1, 1e9)


def test_acceptance_clears_a_refusal() -> None:
    """A7: what the node accepts is held against it no longer."""
    refusals = Refusals(TYPES.get(SECRET))
    refusals.note("s", V1, NO, 0.0)
    assert refusals.has_content()
    refusals.clear("s")
    assert not refusals.has_content()
    assert not refusals.concerns("s", V1)
    refusals.clear("s")


def test_retry_is_due_once() -> None:
    """A7: moments that have passed are none to wait for."""
    refusals = Refusals(TYPES.get(LISTENER))
    refusals.note("l", V1, NO, 0.0)
    refusals.note("m", V1, NO, 0.5)
    assert refusals.next_retry(0.9) == 1.0
    assert refusals.next_retry(1.0) == 1.5
    assert refusals.next_retry(1.5) is None


def test_refusals_of_types_are_apart() -> None:
    """V3: a secret and a listener of one name have nothing to do with each other."""
    node = NodeRefusals()
    node.of_type(TYPES.get(SECRET)).note("x", V1, NO, 0.0)
    assert node.of_type(TYPES.get(SECRET)).concerns("x", V1)
    assert not node.of_type(TYPES.get(LISTENER)).concerns("x", V1)


def test_nothing_is_kept_of_types_of_which_nothing_is_refused() -> None:
    """A7: clients make up types, and a node may last long; its streams share what they refuse."""
    node, made_up = NodeRefusals(), [ResourceTypes.of().get(url_of(f"x{i}")) for i in range(9)]
    streams = [node.of_type(kind) for kind in made_up for _ in range(2)]
    assert node._by_type == {}
    one, other, *_ = streams
    one.note("x", V1, NO, 0.0)
    assert other.concerns("x", V1)
    other.clear("y")
    assert one.concerns("x", V1)
    other.clear("x")
    assert not one.concerns("x", V1)
    one.note("x", V1, NO, 0.0)
    other.retain_content(lambda _: False)
    assert node._by_type == {}


def test_a_removal_is_refused_on_one_stream() -> None:
    """A7: clients make up the names of what does not exist, so that no other stream hears of it."""
    node = NodeRefusals()
    one, other = (node.of_type(TYPES.get(LISTENER)) for _ in range(2))
    one.note("x", None, NO, 0.0)
    one.note("x", V1, NO, 0.0)
    assert one.holds_back("x", None, 0.5)
    assert not other.holds_back("x", None, 0.5)
    one.retain_content(lambda _: False)
    assert one.next_retry(0.0) == FIRST_PAUSE
    one.lift(["x"])
    assert one.next_retry(0.0) is None


def test_what_one_program_refused_another_may_take() -> None:
    """A7: the next release of Envoy, or what else connects as that node, is asked by itself."""
    node = ProgramRefusals()
    old = node.remembered("envoy/1.36.0", {"envoy/1.36.0"})
    old.of_type(TYPES.get(SECRET)).note("x", V1, NO, 0.0)
    new = node.remembered("envoy/1.40.0", {"envoy/1.40.0"})
    assert not new.of_type(TYPES.get(SECRET)).concerns("x", V1)
    assert node.remembered("envoy/1.36.0", {"envoy/1.36.0"}) is old


def test_programs_that_were_made_up_are_forgotten() -> None:
    """A7: clients name themselves, so only the latest are remembered, and who has a stream."""
    node, envoy = ProgramRefusals(), "envoy/1.40.0"
    first, kept = node.remembered("0", {"0", envoy}), node.remembered(envoy, {"0", envoy})
    for number in range(1, 100):
        node.remembered(str(number), {str(number), envoy})
    assert len(node._by_program) == PROGRAMS + 2
    assert node.remembered(envoy, {envoy}) is kept
    assert node.remembered("0", {envoy}) is not first
