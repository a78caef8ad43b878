"""Who is waited for when a CA is to leave: whoever may use what it signed, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest

from control_plane.api.v1 import certificate_authority_pb2
from control_plane.ca import (
    Authority,
    InstanceIdentity,
    create_authority,
    new_key_pair,
    rotation,
)
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.names import AppGuid, InstanceGuid
from control_plane.nodes import LiveStream, Nodes, Variant
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.reconciler.served.attestation import REPORT_SECONDS, Attestation
from control_plane.server.api.certificate_authorities import CertificateAuthorityService
from control_plane.server.authorities import Authorities
from control_plane.server.ca_rotation.progress import AT_ONCE, Leaving, RotationProgress
from control_plane.server.ca_rotation.steps import CaRotation, Sources
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.messages import DeltaRequest, Node
from control_plane.xds.resource_type import CLUSTER, SECRET, ResourceTypes
from control_plane.xds.stream import Stream
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET
from tests.unit.server.turns import counting

B0 = InstanceGuid("b0")
SLICES = 3
DAY = timedelta(days=1)
SIGNED = "still signed by the old CA"
GONE = "remove it if it will not be back"


def authority(name: str) -> Authority:
    """Return a CA."""
    return create_authority(name, now=NOON, lifetime=30 * DAY, key=new_key_pair(), serial=1)


OLD, NEW = authority("old"), authority("new")


def record(by: Authority, *, secret: str = C2C_SECRET, ends: timedelta = DAY) -> IssuedRecord:
    """Return the record of a certificate of b0."""
    return IssuedRecord(B0, secret, "v", 7, ("b0",), NOON, NOON + ends, by.fingerprint)


class World:
    """App b with two instances, b0 and b1; nobody is connected."""

    def __init__(self, *records: IssuedRecord) -> None:
        """Start as after a restart with these records."""
        state = register(world("b"), "b0", B, "10.0.1.1")
        self.state = register(state, "b1", B, "10.0.1.2")
        self.clock = ManualClock()
        self.nodes = Nodes()
        self.attestation = Attestation(self.clock)
        self.ledger = Ledger(self.clock, (each for each in records if each.secret != IDENTITY))
        self.holdings = Holdings(self.ledger, records)
        self.leaving = Leaving(OLD, "the old CA", NOON)
        self.progress = RotationProgress(
            lambda: self.state,
            self.nodes,
            self.attestation,
            self.ledger,
            self.holdings,
            self.clock,
        )

    def connect(self, *secrets: str) -> None:
        """Let the Envoy of b0 open a stream, and ask for secrets."""
        stream = Stream(ResourceTypes.of())
        stream.identify(DeltaRequest(CLUSTER, node=Node(B0)))
        if secrets:
            stream.receive(DeltaRequest(SECRET, secrets), 0.0)
        self.nodes.opened(LiveStream(1, stream, Variant.DELTA, "peer", (), NOON))

    def move(self, secret: str, state: CertificateState, reason: str = "") -> None:
        """Say how far the newest certificate of b0 is."""
        entry = self.ledger.get(B0, secret)
        assert entry is not None
        self.ledger.move(entry, state, reason)

    def reasons(self) -> list[str]:
        """Return why the old CA cannot leave."""
        return [each.reason for each in self.progress.leaving(self.leaving).at_once().waiting]

    def distrust(self) -> list[str]:
        """Return who keeps the new CA from signing, and why."""
        return [each.reason for each in self.progress.trusting(NEW).at_once().waiting]


def test_who_never_had_a_certificate_is_not_waited_for() -> None:
    """Instances that a platform registered and that never connected have nothing to lose."""
    here = World()
    readiness = here.progress.leaving(here.leaving).at_once()

    assert (readiness.ready, readiness.wanted, readiness.waiting) == (0, 0, ())


@pytest.mark.parametrize("secret", [C2C_SECRET, IDENTITY])
def test_who_is_away_is_waited_for_until_the_certificate_ends(secret: str) -> None:
    """An Envoy that is cut off from here serves on, and its sidecar has to come back."""
    what = "identity" if secret == IDENTITY else C2C_SECRET
    (reason,) = World(record(OLD, secret=secret)).reasons()
    ends = f"until 2026-01-02T12:00:00Z: {GONE}"
    assert reason == f"it is not connected, and its {what} is {SIGNED}, {ends}"
    assert World(record(OLD, secret=secret, ends=timedelta())).reasons() == []


@pytest.mark.parametrize("is_acked", [False, True], ids=["an identity", "a certificate"])
async def test_what_was_given_and_not_heard_of_is_waited_for(*, is_acked: bool) -> None:
    """Its instance may come back with the identity, or serve what it never ACKed.

    So it is where an activation is taken back, and then the preparation.
    """
    here = World()
    if is_acked:
        for serial, by in enumerate((NEW, OLD, NEW)):
            here.ledger.issued(replace(record(by), serial=serial))
            if serial == 0:
                here.move(C2C_SECRET, CertificateState.ACKED)
    else:
        seen = InstanceIdentity(AppGuid("b"), B0, NOON, NOON + DAY, 7, "CN=new")
        here.holdings.identity_issued(record(NEW, secret=IDENTITY))
        here.holdings.identity_seen(seen)
        here.holdings.identity_issued(replace(record(OLD, secret=IDENTITY), serial=8))

    what = C2C_SECRET if is_acked else "identity"
    (reason,) = here.reasons()
    ends = f"until 2026-01-02T12:00:00Z: {GONE}"
    assert reason == f"it is not connected, and its {what} is {SIGNED}, {ends}"
    assert await here.progress.live_certificates(OLD) == 1


def test_after_a_restart_the_newest_record_does_not_say_what_is_used() -> None:
    """It may never have arrived; whoever is seen again is waited for no more."""
    here = World(record(NEW, secret=IDENTITY))
    (reason,) = here.reasons()
    assert reason.startswith("it was not seen since the control plane started, and may have")

    here.holdings.identity_seen(InstanceIdentity(AppGuid("b"), B0, NOON, NOON + DAY, 7, "CN=new"))
    assert here.reasons() == []
    here.holdings.identity_seen(InstanceIdentity(AppGuid("b"), B0, NOON, NOON + DAY, 6, "CN=old"))
    (reason,) = here.reasons()
    assert reason == (
        f"its identity is {SIGNED}, until 2026-01-02T12:00:00Z: no sidecar reports that would "
        "renew it"
    )


@pytest.mark.parametrize("secret", [C2C_SECRET, ID_SECRET])
def test_after_a_restart_who_comes_back_is_waited_for_until_it_accepts(secret: str) -> None:
    """It may have missed or refused the new one before, and then serves the old one."""
    here = World(record(NEW, secret=secret))
    here.connect(C2C_SECRET, ID_SECRET)
    (reason,) = here.reasons()
    assert reason == (
        f"it has not accepted its new {secret} yet, and may serve one of the old CA until "
        "2026-01-02T12:00:00Z"
    )

    here.move(secret, CertificateState.ACKED)
    assert here.reasons() == []


def test_after_a_restart_nobody_is_waited_for_to_accept_what_it_never_asks_for() -> None:
    """An Envoy with a static listener takes the one secret that everybody has to have."""
    here = World(record(NEW), record(NEW, secret=ID_SECRET))
    here.connect()
    (reason,) = here.reasons()
    assert reason.startswith(f"it has not accepted its new {C2C_SECRET} yet")

    here.connect(C2C_SECRET)
    here.move(C2C_SECRET, CertificateState.SERVED)
    assert here.reasons() == []


def test_an_old_leaf_that_its_envoy_never_asks_for_keeps_nobody_waiting() -> None:
    """It was issued and never sent; but who has only just come may ask for it next."""
    here = World(record(NEW), record(OLD, secret=ID_SECRET))
    here.move(C2C_SECRET, CertificateState.SERVED)
    here.connect()
    assert here.reasons() == [f"its {ID_SECRET} is {SIGNED}; it is renewed within a minute"]

    here.connect(C2C_SECRET)
    assert here.reasons() == []


async def test_how_soon_an_identity_is_renewed_is_told() -> None:
    """With many instances each waits longer for its turn; once it is over that is told too."""
    here = World(record(NEW, secret=IDENTITY))
    here.holdings.identity_seen(InstanceIdentity(AppGuid("b"), B0, NOON, NOON + DAY, 6, "CN=old"))
    signed = f"its identity is {SIGNED}"
    here.attestation.report(B0, 7, ())
    assert here.reasons() == [f"{signed}; it is renewed within a minute"]
    for number in range(2, 2000):
        address = f"10.1.{number // 250}.{number % 250}"
        here.state = register(here.state, f"b{number}", B, address)
    assert here.reasons() == [f"{signed}; it is renewed within 3 minutes"]

    await here.clock.advance(200.0)
    here.attestation.report(B0, 7, ())
    assert here.reasons() == [
        f"{signed}, until 2026-01-02T12:00:00Z, and should have been renewed by now"
    ]


def test_who_is_connected_gets_another_certificate_by_itself() -> None:
    """It is told how soon, and not when the old one ends."""
    here = World(record(OLD))
    here.connect()

    assert here.reasons() == [f"its {C2C_SECRET} is {SIGNED}; it is renewed within a minute"]


def test_who_does_not_serve_what_it_accepted_is_waited_for() -> None:
    """What it serves instead may be of the old CA."""
    here = World()
    here.ledger.issued(record(NEW))
    for state in (CertificateState.ACKED, CertificateState.NOT_SERVED):
        here.move(C2C_SECRET, state, "another is shown")

    assert here.reasons() == ["it does not serve its new certificate: another is shown"]


async def test_a_certificate_counts_once() -> None:
    """However many know of it."""
    here = World(record(OLD), replace(record(OLD, secret=IDENTITY), serial=8))
    here.ledger.issued(replace(record(NEW), serial=9))

    assert await here.progress.live_certificates(OLD) == 2
    assert await here.progress.live_certificates(NEW) == 1


async def test_live_instances_have_to_say_whom_they_trust() -> None:
    """By a report that counts; those that are gone or never came are not asked."""
    here = World()
    assert here.progress.trusting(NEW).at_once().wanted == 0

    here.state = set_status(here.state, B0, InstanceStatus.READY).state
    assert here.distrust() == ["no sidecar reports for it"]
    here.attestation.report(B0, 7, ())
    assert here.distrust() == ["its sidecar does not tell whom it trusts: update it"]
    here.attestation.report(B0, 7, (), trusted=OLD.root_fingerprints)
    assert here.distrust() == ["its sidecar has not taken the new trust bundle yet"]
    here.attestation.report(B0, 7, (), trusted=OLD.root_fingerprints | NEW.root_fingerprints)
    assert here.distrust() == []

    await here.clock.advance(10 * max(REPORT_SECONDS))
    assert here.distrust() == ["no sidecar reports for it"]


async def test_what_is_shown_of_a_fleet_gives_way_to_others() -> None:
    """Between two slices of the instances everybody else has a turn, in each part of the answer."""
    here, records = World(), []
    for number in range(SLICES * AT_ONCE):
        guid = InstanceGuid(f"c{number}")
        here.state = register(here.state, guid, B, f"10.1.{number // 200}.{number % 200 + 1}")
        records.append(replace(record(OLD), instance_guid=guid))
    here.holdings = Holdings(here.ledger, records)
    progress = replace(here.progress, holdings=here.holdings)
    prepared = rotation.prepare(rotation.steady(OLD, NOON), NEW, NOON, uncrossed=True)
    activated = rotation.activate(prepared, NOON, 2)
    steps = CaRotation(
        Authorities(activated, lambda _before, _after: None),
        progress,
        cast("Sources", None),
        check_sizes=cast("Any", None),
        clock=here.clock,
    )
    service = CertificateAuthorityService(steps, here.clock)
    request = certificate_authority_pb2.ListCertificateAuthoritiesRequest()

    shown, turns = await counting(service.ListCertificateAuthorities(request, cast("Any", None)))
    summary, turns_of_summary = await counting(steps.summary())

    active, retiring = shown.authorities
    assert (active.live_certificates, retiring.live_certificates) == (0, len(records))
    assert [each.instance_guid for each in retiring.waiting][-1] == records[-1].instance_guid
    assert summary == f"a CA is retiring: {retiring.waits_for}"
    assert turns >= 4 * SLICES
    assert turns_of_summary >= SLICES
