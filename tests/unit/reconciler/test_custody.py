"""Custody: when a certificate is replaced, and what stays when it cannot be."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from control_plane.ca import C2CRequest, Profile, issue, load_key_pair, new_key_pair
from control_plane.ca.keys import KeyPair
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.custody import Custodian, Custody
from control_plane.reconciler.certificates.held import Held
from control_plane.reconciler.certificates.issuers import Issued
from control_plane.store.protocol import IssuedRecord
from tests.tls_pairs import key_in, leaf_in
from tests.unit.reconciler.clocks import NOON
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET, Serials, authority

GUID = InstanceGuid("b0")
REQUEST = C2CRequest("b0", "b", "default", "default", ("app-b.apps.internal",), 0, "10.0.1.1")
OTHER = replace(REQUEST, hostnames=("app-b.apps.internal", "second.apps.internal"))


@pytest.fixture
def serials() -> Serials:
    """Return serial numbers that a test may spoil."""
    return Serials()


@pytest.fixture
def custody(serials: Serials) -> Custody:
    """Return a custody with a CA of its own."""
    ca = authority()
    return Custody(Custodian(lambda: ca, Profile(), new_key_pair, serials))


def ensured(custody: Custody, request: C2CRequest = REQUEST, minutes: float = 0) -> Held:
    """Return what is held after asking, so many minutes after noon."""
    held = custody.ensure(GUID, C2C_SECRET, request, NOON + timedelta(minutes=minutes)).held
    assert isinstance(held, Held)
    return held


def _key_of(held: Held) -> KeyPair:
    return load_key_pair(key_in(held.resource))


def test_the_first_time_a_certificate_is_issued(custody: Custody) -> None:
    """It says what was asked for, and its resource has it with its own key."""
    first = custody.ensure(GUID, C2C_SECRET, REQUEST, NOON)

    assert first.is_fresh
    assert first.failure == ""
    held = first.held
    assert isinstance(held, Held)
    assert secret_pb2.Secret.FromString(held.resource.body).name == C2C_SECRET
    leaf = leaf_in(held.resource)
    assert (leaf.san, leaf.public_key) == (REQUEST.san, _key_of(held).public)
    assert held.record == IssuedRecord(
        GUID,
        C2C_SECRET,
        held.resource.version,
        leaf.serial,
        ("b0", "0.app-b.apps.internal", "app-b.apps.internal", "10.0.1.1"),
        leaf.not_before,
        leaf.not_after,
        custody._custodian.authority().fingerprint,
        custody._custodian.authority().sent_digest,
    )
    assert custody.get(GUID, C2C_SECRET) is held


def test_a_certificate_that_is_right_is_kept(custody: Custody) -> None:
    """Asking again is free and changes nothing, until its moment has come."""
    held = ensured(custody)
    last_moment = held.renew_at - timedelta(microseconds=1)

    again = custody.ensure(GUID, C2C_SECRET, replace(REQUEST), last_moment)

    assert again.held is held
    assert not again.is_fresh


def test_half_way_it_is_renewed_with_a_new_key(custody: Custody) -> None:
    """At half life, give or take a tenth, there is another certificate and another key."""
    held = ensured(custody)
    assert timedelta(hours=10) < held.renew_at - NOON < timedelta(hours=14)

    fresh = custody.ensure(GUID, C2C_SECRET, REQUEST, held.renew_at)

    assert fresh.is_fresh
    assert isinstance(fresh.held, Held)
    assert fresh.held.serial != held.serial
    assert _key_of(fresh.held).public != _key_of(held).public
    assert fresh.held.resource.version != held.resource.version


def test_other_names_are_another_certificate(custody: Custody) -> None:
    """A request that differs is issued at once."""
    held = ensured(custody)

    fresh = ensured(custody, OTHER, minutes=1)

    assert fresh.serial != held.serial
    assert "second.apps.internal" in leaf_in(fresh.resource).san.dns


def test_what_is_foreseen_is_used_once_it_is_wanted(custody: Custody) -> None:
    """Until then the old one is held, and nobody hears of the other."""
    notes: list[IssuedRecord] = []
    held = ensured(custody)
    object.__setattr__(custody._custodian, "note", notes.append)
    custody.foresee(GUID, C2C_SECRET, OTHER, NOON)
    assert custody.get(GUID, C2C_SECRET) is held
    assert not notes

    fresh = custody.ensure(GUID, C2C_SECRET, OTHER, NOON)

    assert fresh.is_fresh
    assert isinstance(fresh.held, Held)
    assert leaf_in(fresh.held.resource).san == OTHER.san
    assert [each.serial for each in notes] == [fresh.held.serial] == [held.serial + 1]
    assert ensured(custody, OTHER) is fresh.held


def test_nothing_is_foreseen_that_is_there(custody: Custody) -> None:
    """A certificate that says what it must is not issued again."""
    held = ensured(custody)
    custody.foresee(GUID, C2C_SECRET, REQUEST, NOON)

    assert ensured(custody, OTHER).serial == held.serial + 1


def test_what_is_foreseen_waits_for_what_comes_before(custody: Custody) -> None:
    """An earlier change may still be under way, which wants something else."""
    held = ensured(custody)
    custody.foresee(GUID, C2C_SECRET, OTHER, NOON)
    third = ensured(custody, replace(REQUEST, hostnames=("third.apps.internal",)))

    assert ensured(custody, OTHER).serial == held.serial + 1
    assert third.serial == held.serial + 2


@pytest.mark.parametrize("why", ["other names are wanted", "it is too late", "it was forgotten"])
def test_what_was_foreseen_in_vain_is_not_used(custody: Custody, why: str) -> None:
    """What is wanted counts at the moment at which it is wanted."""
    held = ensured(custody)
    custody.foresee(GUID, C2C_SECRET, OTHER, NOON)
    foreseen = held.serial + 1
    request, minutes = OTHER, 0.0
    if why == "other names are wanted":
        request = replace(REQUEST, hostnames=("third.apps.internal",))
    elif why == "it is too late":
        minutes = 24 * 60
    else:
        custody.forget_foreseen()

    fresh = ensured(custody, request, minutes)

    assert leaf_in(fresh.resource).san == request.san
    assert fresh.serial == foreseen + 1


def test_what_was_issued_elsewhere_is_used_for_this_plan_or_never(serials: Serials) -> None:
    """A key that nobody needed is not kept, nor is it used for a certificate of later."""
    ca = authority()
    custodian = Custodian(lambda: ca, Profile(), new_key_pair, serials)
    leaf = issue(ca, Profile(), REQUEST, key=new_key_pair, now=NOON, serial=serials())
    elsewhere = {C2C_SECRET: Issued(REQUEST, leaf, ca.sent_digest, 0.0)}
    early, late = Custody(custodian), Custody(custodian)

    with early.ready(GUID, elsewhere):
        assert ensured(early).serial == leaf.serial
    with late.ready(GUID, elsewhere):
        pass
    assert ensured(late).serial != leaf.serial


def test_what_cannot_be_issued_is_told_when_it_is_wanted(
    custody: Custody, serials: Serials
) -> None:
    """To foresee it fails in silence: it may never be wanted."""
    held = ensured(custody)
    serials.are_bad = True
    custody.foresee(GUID, C2C_SECRET, OTHER, NOON)
    assert custody.failure(GUID) == ""

    failed = custody.ensure(GUID, C2C_SECRET, OTHER, NOON)

    assert failed.held is held
    assert failed.failure


def test_secrets_and_instances_are_apart(custody: Custody) -> None:
    """Each has its own certificate and key, and instances renew at different moments."""
    ours = ensured(custody)
    identity = custody.ensure(GUID, ID_SECRET, REQUEST, NOON).held
    theirs = custody.ensure(InstanceGuid("b1"), C2C_SECRET, REQUEST, NOON).held
    assert isinstance(identity, Held)
    assert isinstance(theirs, Held)

    serials = {each.serial for each in (ours, identity, theirs)}
    assert len(serials) == 3
    assert custody.get(GUID, C2C_SECRET) is ours
    assert theirs.renew_at != ours.renew_at


def test_if_issuing_fails_the_old_certificate_stays(custody: Custody, serials: Serials) -> None:
    """It is kept, the reason is told, and the next attempt that succeeds replaces it."""
    held = ensured(custody)
    serials.are_bad = True

    failed = custody.ensure(GUID, C2C_SECRET, OTHER, NOON)

    assert failed.held is held
    assert not failed.is_fresh
    assert failed.failure == custody.failure(GUID)
    assert "serial must be positive" in failed.failure

    serials.are_bad = False
    fresh = custody.ensure(GUID, C2C_SECRET, OTHER, NOON)

    assert fresh.is_fresh
    assert fresh.failure == custody.failure(GUID) == ""


def test_if_the_first_attempt_fails_there_is_none(custody: Custody, serials: Serials) -> None:
    """Nothing is made up in its place."""
    serials.are_bad = True

    failed = custody.ensure(GUID, C2C_SECRET, REQUEST, NOON)

    assert failed.held is None
    assert failed.failure
    assert custody.get(GUID, C2C_SECRET) is None


def test_a_key_that_does_not_belong_is_never_held(serials: Serials) -> None:
    """A signer that mixes up keys is caught by the lint, before anybody could publish it."""

    class Fickle(KeyPair):
        """A pair whose private half is another each time it is asked for."""

        def private_pem(self) -> bytes:
            """Return somebody else's key."""
            return new_key_pair().private_pem()

    ca = authority()
    custody = Custody(
        Custodian(lambda: ca, Profile(), lambda: Fickle(new_key_pair().private), serials)
    )

    failed = custody.ensure(GUID, C2C_SECRET, REQUEST, NOON)

    assert failed.held is None
    assert "the key does not belong to the certificate" in failed.failure


def test_a_ca_that_has_ended_is_named(serials: Serials) -> None:
    """The reason says what the operator can do, and the old certificate stays."""
    short = authority(timedelta(hours=13))
    custody = Custody(Custodian(lambda: short, Profile(), new_key_pair, serials))
    held = ensured(custody)

    failed = custody.ensure(GUID, C2C_SECRET, REQUEST, NOON + timedelta(hours=14))

    assert failed.held is held
    assert failed.failure.endswith("rotate it")


def test_a_failure_is_over_when_the_old_certificate_is_right_again(
    custody: Custody, serials: Serials
) -> None:
    """As when the route that could not be put into a certificate was unmapped."""
    ensured(custody)
    serials.are_bad = True
    custody.ensure(GUID, C2C_SECRET, OTHER, NOON)
    assert custody.failure(GUID)

    ensured(custody)

    assert custody.failure(GUID) == ""


def test_the_failure_of_one_secret_is_not_hidden_by_another(
    custody: Custody, serials: Serials
) -> None:
    """An instance is told of as failing as long as any of its secrets does."""
    serials.are_bad = True
    custody.ensure(GUID, C2C_SECRET, REQUEST, NOON)
    serials.are_bad = False
    custody.ensure(GUID, ID_SECRET, REQUEST, NOON)

    assert custody.failure(GUID)
    assert custody.failure(InstanceGuid("b1")) == ""


def test_whoever_watches_hears_of_each_replacement(custody: Custody) -> None:
    """Of this instance's secrets and of nobody else's, for as long as it watches."""
    heard: list[str] = []
    ensured(custody)
    with custody.watched(GUID, lambda: heard.append("one")):
        with custody.watched(GUID, lambda: heard.append("another")):
            ensured(custody)
            custody.ensure(InstanceGuid("b1"), C2C_SECRET, REQUEST, NOON)
            assert heard == []
            ensured(custody, OTHER)
        ensured(custody)
    ensured(custody, OTHER)

    assert heard == ["one", "another", "one"]


def test_a_removed_instance_leaves_nothing(custody: Custody, serials: Serials) -> None:
    """Its keys are forgotten, its failures too, and whoever watches is told."""
    ensured(custody)
    serials.are_bad = True
    custody.ensure(GUID, C2C_SECRET, OTHER, NOON)
    heard: list[str] = []
    with custody.watched(GUID, lambda: heard.append("gone")):
        custody.drop(GUID)
        custody.drop(InstanceGuid("never seen"))

    assert heard == ["gone"]
    assert custody.get(GUID, C2C_SECRET) is None
    assert custody.failure(GUID) == ""


def test_no_key_shows_in_what_is_held(custody: Custody) -> None:
    """The repr of a held secret, which a log or a traceback may have, has no key in it."""
    held = ensured(custody)

    assert "PRIVATE" not in repr(held)
    assert "BEGIN" not in repr(held)


def test_another_ca_or_another_chain_replaces_it(serials: Serials) -> None:
    """It has to lead to the CA of the moment, by what is sent at that moment."""
    ca = [authority()]
    custody = Custody(Custodian(lambda: ca[0], Profile(), new_key_pair, serials))
    first = ensured(custody)
    ca[0] = replace(ca[0], other_roots=authority().roots)
    assert ensured(custody) is first, "whom others trust besides is not in it"

    ca[0] = replace(ca[0], detour=authority().chain)
    detoured = ensured(custody)
    assert ca[0].sent_pem in detoured.resource.body
    assert detoured is not first

    ca[0] = authority()
    assert ensured(custody).record.issuer == ca[0].fingerprint


@pytest.mark.parametrize(
    ("chain", "is_kept"), [("", True), ("same", True), ("other", False)], ids=str
)
def test_after_a_restart_the_record_says_what_was_sent(
    serials: Serials, chain: str, *, is_kept: bool
) -> None:
    """What an older release wrote does not say, and is left alone."""
    ca, records = authority(), list[IssuedRecord]()
    custodian = Custodian(lambda: ca, Profile(), new_key_pair, serials, records.append)
    ensured(Custody(custodian))
    record = records[0] if chain == "same" else replace(records[0], sent_digest=chain)

    again = Custody(custodian, [record]).ensure(GUID, C2C_SECRET, REQUEST, NOON)
    assert again.is_fresh is not is_kept


def test_after_a_restart_with_another_ca_the_record_is_worth_nothing(serials: Serials) -> None:
    """Also one of an older release, which does not say what was sent."""
    before, now, records = authority(), authority(), list[IssuedRecord]()
    ensured(Custody(Custodian(lambda: before, Profile(), new_key_pair, serials, records.append)))
    record = replace(records[0], sent_digest="")

    custody = Custody(Custodian(lambda: now, Profile(), new_key_pair, serials), [record])
    assert ensured(custody).record.issuer == now.fingerprint
