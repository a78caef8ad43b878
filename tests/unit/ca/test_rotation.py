"""A rotation's steps: what signs and what is trusted after each, and what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509

from control_plane.ca import Authority, create_authority, load_authority, new_key_pair
from control_plane.ca.rotation import (
    Rotation,
    Stage,
    activate,
    crossing_problem,
    pinning_problem,
    prepare,
    retire,
    steady,
    undo_activate,
    undo_prepare,
)
from control_plane.ca.rotation_file import (
    authority_pem,
    read_authority,
    read_rotation,
    write_rotation,
)
from control_plane.errors import ConfigurationError, ControlPlaneError, FailedPrecondition
from tests.unit.ca.forge import NOW, Maker, made

LATER = NOW + timedelta(minutes=1)
YEAR = timedelta(days=365)


def embedded(name: str, lifetime: timedelta = YEAR) -> Authority:
    """Return a CA as the control plane makes it."""
    return create_authority(name, now=NOW, lifetime=lifetime, key=new_key_pair(), serial=1)


def below(root: Maker, name: str) -> Authority:
    """Return an intermediate below a root."""
    ca = made(name, by=root)
    return load_authority(ca.pem + root.pem, ca.key.private_pem(), now=NOW)


def rooted(name: str, path_length: int) -> Authority:
    """Return a root that allows so many CAs below it."""
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    ca = made(name, extensions=[(constraints, True)])
    return load_authority(ca.pem, ca.key.private_pem(), now=NOW)


def prepared(old: Authority | None = None, new: Authority | None = None) -> Rotation:
    """Return a rotation in which another CA is trusted."""
    return prepare(steady(old or embedded("old"), NOW), new or embedded("new"), LATER)


def trusted(rotation: Rotation) -> list[str]:
    """Return the names of the roots that clients are to trust."""
    signing = rotation.signing
    return [each.subject.rfc4514_string() for each in (*signing.roots, *signing.other_roots)]


def sent(rotation: Rotation) -> list[str]:
    """Return who issued each certificate that is sent after a leaf."""
    return [each.issuer.rfc4514_string() for each in rotation.signing.sent]


def facts(rotation: Rotation) -> tuple[str, str, list[str], list[str]]:
    """Return stage, signer, what is trusted and what is sent."""
    return rotation.stage.value, rotation.signing.subject, trusted(rotation), sent(rotation)


def test_the_active_ca_has_signed_since_it_took_over() -> None:
    """Another that is prepared changes nothing about that; an undo is a take-over too."""
    alone = steady(embedded("old"), NOW)
    one = prepare(alone, embedded("new"), LATER)
    two = activate(one, LATER + YEAR / 9, 5)
    back = undo_activate(two, LATER + YEAR / 8, 6)

    assert [each.active_since for each in (alone, one, two, back)] == [
        None,
        None,
        LATER + YEAR / 9,
        LATER + YEAR / 8,
    ]


def test_from_one_ca_to_the_next() -> None:
    """Both are trusted from the first step to the last, and only the active one signs."""
    alone = steady(embedded("old"), NOW)
    one = prepare(alone, embedded("new"), LATER)
    two = activate(one, LATER, 5)
    three = retire(two, LATER)

    assert facts(alone) == ("steady", "CN=old", ["CN=old"], ["CN=old"])
    assert facts(one) == ("prepared", "CN=old", ["CN=old", "CN=new"], ["CN=old"])
    assert facts(two) == ("activated", "CN=new", ["CN=new", "CN=old"], ["CN=old"])
    assert facts(three) == ("steady", "CN=new", ["CN=new"], ["CN=new"])
    assert (alone.since, one.since) == (NOW, LATER)


def test_leaves_count_of_each_ca_that_is_there() -> None:
    """Certificates of both may be in use from the first step to the last, and then of one."""
    one = prepared()
    two = activate(one, LATER, 5)
    old, new = one.active.certificate, two.active.certificate

    assert steady(one.active, NOW).issuers == (old,)
    assert one.issuers == (old, new)
    assert two.issuers == (new, old)
    assert retire(two, LATER).issuers == (new,)


def test_each_step_can_be_taken_back() -> None:
    """After an activation is undone the old CA sends its root as the new one signed it."""
    one = prepared()
    back = undo_activate(activate(one, LATER, 5), LATER, 6)
    again = activate(back, LATER, 7)

    assert facts(undo_prepare(one, LATER)) == ("steady", "CN=old", ["CN=old"], ["CN=old"])
    assert facts(back) == ("prepared", "CN=old", ["CN=old", "CN=new"], ["CN=new"])
    assert facts(again) == ("activated", "CN=new", ["CN=new", "CN=old"], ["CN=old"])
    assert facts(undo_prepare(back, LATER))[3] == ["CN=old"]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            lambda: activate(steady(embedded("old"), NOW), NOW, 5),
            "'CN=old' is the only CA .'c2c ca prepare'",
        ),
        (lambda: undo_prepare(steady(embedded("old"), NOW), NOW), "no CA is prepared"),
        (lambda: retire(prepared(), NOW), "and another prepared .'c2c ca activate'"),
        (lambda: undo_activate(prepared(), NOW, 5), "no CA is retiring"),
        (lambda: undo_prepare(activate(prepared(), NOW, 5), NOW), "and another retiring"),
        (
            lambda: prepare(prepared(), embedded("third"), NOW),
            "'CN=new' is prepared: one rotation at a time .'c2c ca activate'",
        ),
        (
            lambda: prepare(activate(prepared(), NOW, 5), embedded("third"), NOW),
            "'CN=old' is retiring: one rotation at a time .'c2c ca retire'",
        ),
    ],
    ids=["activate", "undo-prepare", "retire", "undo-activate", "undo-late", "twice", "too-soon"],
)
def test_steps_out_of_order(step: object, message: str) -> None:
    """A step that does not follow from the stage is refused, with the stage and the next step."""
    assert callable(step)
    with pytest.raises(ControlPlaneError, match=message):
        step()


def test_a_ca_of_the_same_name_or_key_is_refused() -> None:
    """Clients find an issuer by name and key, so both have to tell the two apart."""
    old = embedded("old")
    same_key = create_authority("new", now=NOW, lifetime=YEAR, key=old.key, serial=2)

    for successor in (embedded("old"), same_key):
        with pytest.raises(ControlPlaneError, match="has the name or the key of the active CA"):
            prepare(steady(old, NOW), successor, NOW)


@pytest.mark.parametrize("is_root", [True, False], ids=["root", "intermediate"])
def test_a_name_in_its_path_that_has_another_key_is_refused(*, is_root: bool) -> None:
    """A root that was made anew with its old name cannot be told from the old one."""
    active = below(made("root"), "old")
    successor = below(made("root"), "new") if is_root else below(made("other"), "root")

    with pytest.raises(ControlPlaneError, match="has 'CN=root' in its path, the active CA has"):
        prepare(steady(active, NOW), successor, NOW)


def test_a_root_that_was_renewed_with_its_key_is_the_same() -> None:
    """Whichever of the two certificates a client has, both paths lead to it."""
    root = made("root")
    renewed = made("root", key=root.key)

    assert prepared(below(root, "old"), below(renewed, "new")).stage is Stage.PREPARED


def test_a_ca_that_cannot_be_cross_signed_is_for_the_operator_to_decide() -> None:
    """It is refused with the reason; allowed all the same, it sends its own root."""
    old = rooted("old", 0)
    with pytest.raises(ControlPlaneError, match=r"cannot cross-sign.*allows 0 CAs below it"):
        prepared(old)

    one = prepare(steady(old, NOW), embedded("new"), NOW, uncrossed=True)
    problem = crossing_problem(active=embedded("new"), other=old, now=NOW)
    assert problem == pinning_problem(active=embedded("new"), other=old, now=NOW) != ""
    assert pinning_problem(active=old, other=embedded("new"), now=NOW) == ""
    two = activate(one, LATER, 5)
    assert facts(two) == ("activated", "CN=new", ["CN=new", "CN=old"], ["CN=new"])
    assert two.active_since == LATER


def test_a_way_back_that_cannot_be_cross_signed_is_for_the_operator_to_decide() -> None:
    """Who trusts the new CA only could not verify what the old one signs then."""
    two = activate(prepared(new=rooted("new", 0)), NOW, 5)
    with pytest.raises(
        FailedPrecondition,
        match=r"cannot cross-sign the one before.*allows 0 CAs below it.*--force",
    ) as refused:
        undo_activate(two, NOW, 6)
    assert refused.value.field == "force"

    assert facts(undo_activate(two, NOW, 6, force=True)) == (
        "prepared",
        "CN=old",
        ["CN=old", "CN=new"],
        ["CN=old"],
    )


@pytest.mark.parametrize("path_length", [None, 1], ids=["any", "no more than these"])
def test_under_a_common_root_nothing_has_to_be_cross_signed(path_length: int | None) -> None:
    """Who trusts the root trusts both; it is in the bundle once, and need not allow any more."""
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    root = made("root", extensions=[(constraints, True)])
    old, new = below(root, "old"), below(root, "new")
    assert crossing_problem(active=new, other=old, now=NOW) == ""
    assert "lead to one root" in pinning_problem(active=new, other=old, now=NOW)
    two = activate(prepared(old, new), NOW, 5)

    assert (two.cross, trusted(two), sent(two)) == (None, ["CN=root"], ["CN=root"])


def test_a_leaf_may_outlive_the_ca_that_leaves() -> None:
    """Otherwise a CA that is about to end could not be replaced."""
    two = activate(prepared(embedded("old", timedelta(hours=1))), NOW, 5)

    assert two.signing.not_after == NOW + YEAR


@pytest.mark.parametrize("number", range(4))
def test_what_is_written_is_read(number: int) -> None:
    """Every stage survives a restart as it is, keys included."""
    one = prepared()
    two = activate(one, LATER, 5)
    rotation = (steady(embedded("old"), NOW), one, two, undo_activate(two, LATER, 6))[number]
    again = read_rotation(write_rotation(rotation), NOW)

    assert facts(again) == facts(rotation)
    assert again.since == rotation.since
    assert again.signing.sent_pem == rotation.signing.sent_pem
    assert again.signing.trust_bundle_pem == rotation.signing.trust_bundle_pem
    assert again.active.key.public == rotation.active.key.public
    assert write_rotation(again) == write_rotation(rotation)


def test_an_intermediate_is_written_with_its_path() -> None:
    """What is above it is needed to issue."""
    ca = below(made("root"), "ca")
    again = read_authority(authority_pem(ca), NOW)

    assert (again.path, again.sent) == (ca.path, ca.sent)


def test_a_ca_that_ended_stops_nothing_while_it_leaves() -> None:
    """The active one must be valid, the other may have ended."""
    two = activate(prepared(embedded("old", timedelta(hours=1))), NOW, 5)
    written = write_rotation(two)

    assert read_rotation(written, NOW + timedelta(hours=2)).stage is Stage.ACTIVATED
    with pytest.raises(ConfigurationError, match="expired"):
        read_rotation(written, NOW + 2 * YEAR)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"stage": "odd"}',
        b'{"stage": "steady", "since": 1}',
        b'{"stage": "steady", "since": "2026-03-01T12:00:00Z", "active": 1}',
        b"\xff",
    ],
    ids=["nothing", "list", "stage", "moment", "CA", "octets"],
)
def test_what_cannot_be_read_is_refused(data: bytes) -> None:
    """Damage is told, and nothing of it is taken."""
    with pytest.raises(ConfigurationError, match="not the state of a CA rotation"):
        read_rotation(data, NOW)


def test_no_key_is_shown() -> None:
    """The keys of neither CA are in the repr."""
    assert "key" not in repr(activate(prepared(), NOW, 5)).lower()
