"""The watch over the end of certificates: who is told of, when, why, and for how long."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial

import pytest
from structlog.testing import capture_logs

from control_plane.ca import InstanceIdentity
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.certificates.expiry import Expiry, Kind, Own, ca_lead
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.resource_type import SECRET
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.clocks import NOON, settled
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET, Peer, World

B0 = InstanceGuid("b0")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Watch:
    """An instance whose certificates are watched; it takes what it is issued if it says so."""

    def __init__(self, state: State) -> None:
        """Watch from noon on."""
        self.world = World(state, lifetime=DAY)
        self.ledger = Ledger(self.world.clock)
        self.holdings = Holdings(self.ledger, ())
        self.expiry = Expiry(
            lambda: self.world.state,
            self.world.nodes,
            self.holdings,
            self.world.custody,
            DAY,
            self.world.clock,
        )

    def connect(self) -> Peer:
        """Connect the instance, and have it accept its certificates."""
        peer = self.world.connect("b0").as_envoy()
        self.accept()
        return peer

    def accept(self) -> None:
        """Have the instance accept all that was issued to it."""
        for record in self.world.records.values():
            self.ledger.issued(record)
            entry = self.ledger.get(record.instance_guid, record.secret)
            assert entry is not None
            self.ledger.move(entry, CertificateState.ACKED)

    def told(self) -> dict[Kind, str]:
        """Return what is told of the instance now."""
        instance = self.world.state.instance(B0)
        assert instance is not None
        return {each.kind: each.sentence for each in self.expiry.of(instance)}


@pytest.fixture
def watch() -> Watch:
    """Watch one instance."""
    return Watch(register(world(), "b0", B, "10.0.0.7"))


def test_nothing_is_told_before_three_quarters_of_a_life(watch: Watch) -> None:
    """A renewal that is late by hours is one that failed; one that is on time is none."""
    watch.connect()
    watch.world.clock.set(17.9 * HOUR)
    assert watch.told() == {}

    watch.world.clock.set(0.2 * HOUR)
    ends = "ends at 2026-01-02T12:00:00Z, not renewed: it has not accepted the new one"
    assert watch.told() == {Kind.C2C: f"{C2C_SECRET} {ends}", Kind.ID: f"{ID_SECRET} {ends}"}

    watch.world.clock.set(DAY)
    ended = ends.replace("ends", "ended", 1)
    assert watch.told() == {Kind.C2C: f"{C2C_SECRET} {ended}", Kind.ID: f"{ID_SECRET} {ended}"}


def test_it_says_why(watch: Watch) -> None:
    """The CA that cannot sign, or the instance that is not there, is the first thing to look at."""
    peer = watch.connect()
    watch.world.clock.set(19 * HOUR)
    watch.world.serials.are_bad = True
    watch.world.reconciler.opened(peer.live)
    assert "not renewed: serial must be positive" in watch.told()[Kind.C2C]

    peer.close()
    assert watch.told()[Kind.C2C].endswith("not renewed: it is not connected")


def test_what_is_in_use_counts_and_not_what_was_issued(watch: Watch) -> None:
    """A new certificate that its Envoy refuses helps nobody."""
    peer = watch.connect()
    watch.world.clock.set(19 * HOUR)
    watch.world.reconciler.opened(peer.live)
    for record in watch.world.records.values():
        watch.ledger.issued(record)
    assert set(watch.told()) == {Kind.C2C, Kind.ID}

    watch.accept()
    assert watch.told() == {}


def test_an_identity_counts_from_its_record_until_it_was_shown(watch: Watch) -> None:
    """After a restart there is the record; later there is what the instance connects with."""
    record = IssuedRecord(B0, IDENTITY, "", 7, (), NOON, NOON + DAY, "issuer")
    watch.holdings.identity_issued(record)
    watch.world.clock.set(19 * HOUR)
    why = "no sidecar reports that would renew it"
    sentence = f"identity ends at 2026-01-02T12:00:00Z, not renewed: {why}"
    assert watch.told() == {Kind.IDENTITY: sentence}

    watch.holdings.identity_seen(_identity(NOON + 2 * DAY))
    assert watch.told() == {}
    watch.holdings.identity_seen(_identity(NOON + DAY))
    assert watch.told() == {Kind.IDENTITY: sentence}


def test_an_identity_that_somebody_else_made_has_a_life_of_its_own(watch: Watch) -> None:
    """One of an hour is told of in its last quarter, also where the control plane's live a day."""
    watch.holdings.identity_seen(_identity(NOON + HOUR))
    watch.world.clock.set(0.74 * HOUR)
    assert watch.told() == {}

    watch.world.clock.set(0.02 * HOUR)
    assert watch.told().keys() == {Kind.IDENTITY}


def test_who_has_to_renew_an_identity_is_told(watch: Watch) -> None:
    """The sidecar, if one ever spoke for the instance; else whoever starts its Envoy."""
    watch.holdings.identity_seen(_identity(NOON + DAY))
    watch.world.clock.set(19 * HOUR)
    ends = "identity ends at 2026-01-02T12:00:00Z, not renewed"
    assert watch.told() == {Kind.IDENTITY: f"{ends}: no sidecar reports that would renew it"}

    watch.world.commit(set_status(watch.world.state, B0, InstanceStatus.READY, has_sidecar=True))
    assert watch.told() == {Kind.IDENTITY: f"{ends}: its sidecar has to renew it"}


def test_nobody_is_told_of_who_is_gone(watch: Watch) -> None:
    """Its certificates end, and nobody is waiting for them."""
    watch.connect()
    watch.world.commit(set_status(watch.world.state, B0, InstanceStatus.GONE))
    watch.world.clock.set(2 * DAY)

    assert watch.told() == {}


def test_nobody_is_told_of_a_certificate_that_its_envoy_never_asks_for(watch: Watch) -> None:
    """An Envoy with a static listener takes the certificate of its port only."""
    peer = watch.world.connect("b0")
    peer.ask(SECRET, C2C_SECRET)
    for record in watch.world.records.values():
        watch.ledger.issued(record)
    watch.world.clock.set(19 * HOUR)
    assert watch.told().keys() == {Kind.C2C}

    peer.ask(SECRET, ID_SECRET)
    assert watch.told().keys() == {Kind.C2C, Kind.ID}


def test_a_ca_is_told_of_in_time_for_a_rotation() -> None:
    """A quarter of its life, a month at the most, two lives of what it signs at the least."""
    assert ca_lead(DAY)(3650 * DAY) == 30 * DAY
    assert ca_lead(DAY)(40 * DAY) == 10 * DAY
    assert ca_lead(90 * DAY)(3650 * DAY) == 180 * DAY


async def test_each_alarm_is_logged_once_and_so_is_its_end(watch: Watch) -> None:
    """One line for each kind, with how many and the first of them."""
    end = [NOON + DAY]
    watch.expiry.watch(Own(Kind.SERVER, "the server", lambda: (NOON, end[0]), "not renewed"))
    watch.connect()
    with capture_logs() as logs:
        running = asyncio.create_task(watch.expiry.run())
        await settled()
        assert logs == []
        watch.world.clock.set(19 * HOUR)
        await watch.world.clock.advance(300)
        assert len(watch.expiry.alarms) == 3
        end[0] = NOON + 9 * DAY
        await watch.world.clock.advance(60)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    events = [(each["event"], each["log_level"], each["kind"], each["instances"]) for each in logs]
    assert events == [
        ("expiry.alarmed", "error", "server", []),
        ("expiry.alarmed", "error", "c2c", [B0]),
        ("expiry.alarmed", "error", "id", [B0]),
        ("expiry.cleared", "info", "server", []),
    ]
    assert logs[0]["reason"] == "the server ends at 2026-01-02T12:00:00Z: not renewed"
    assert (logs[1]["certificates"], logs[1]["not_after"]) == (1, NOON + DAY)
    assert {each.kind for each in watch.expiry.alarms} == {Kind.C2C, Kind.ID}


async def test_a_line_for_several_names_the_one_that_ends_first(watch: Watch) -> None:
    """Whoever reads it knows how much time there is."""
    ends = {"the next": NOON + 2.2 * HOUR, "the first": NOON + 2 * HOUR}
    for subject, end in ends.items():
        window = partial(_window, end)
        watch.expiry.watch(Own(Kind.SERVER, subject, window, "not renewed"))
    watch.world.clock.set(1.9 * HOUR)
    with capture_logs() as logs:
        await watch.expiry.look()

    (line,) = logs
    assert (line["certificates"], line["not_after"]) == (2, ends["the first"])
    assert line["reason"] == "the first ends at 2026-01-01T14:00:00Z: not renewed"


def _window(end: datetime) -> tuple[datetime, datetime]:
    return NOON, end


def _identity(end: datetime) -> InstanceIdentity:
    return InstanceIdentity(AppGuid("b"), B0, NOON, end, 7, "CN=ca")
