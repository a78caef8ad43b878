"""Which identity certificates of an instance count, without sockets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container
from datetime import timedelta

import pytest

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Profile,
    create_authority,
    new_key_pair,
    read_certificate,
)
from control_plane.errors import IssuanceError
from control_plane.model.entities import App, AppKey, Instance
from control_plane.names import Address, AppGuid, AppName, InstanceGuid, Port
from control_plane.reconciler.certificates.holdings import IDENTITY, MAX_UNSEEN
from control_plane.server.access.identities import STARTING_SECONDS, Identities
from control_plane.store.protocol import IssuedRecord
from tests.unit.server_security.still_clock import NOON, StillClock

GUID = InstanceGuid("instance-1")
KEY = AppKey("default", "default", AppName("app"))
APP = App(AppGuid("app-1"), KEY, ports=(Port(8080),), c2c_port=Port(8080))
INSTANCE = Instance(GUID, APP.guid, 0, Address("10.0.0.1"), Address("127.0.0.1"))


class World:
    """An issuer of identities whose serial numbers count from 1."""

    def __init__(
        self,
        note: Callable[[IssuedRecord], None] = lambda _: None,
        of_ports: Container[int] = frozenset(),
        note_first: Callable[[IssuedRecord], None] = lambda _: None,
    ) -> None:
        """Start with nothing issued."""
        self.clock = StillClock()
        self.authority = create_authority(
            "test CA", now=NOON, lifetime=timedelta(days=1), key=new_key_pair(), serial=1
        )
        self.identities = Identities(
            lambda: self.authority,
            DEFAULT_TRUST_DOMAIN,
            profile=Profile(lifetime=timedelta(hours=1)),
            new_serial=itertools.count(1).__next__,
            clock=self.clock,
            note=note,
            of_ports=of_ports,
            note_first=note_first,
        )

    def issue(self) -> int:
        """Issue a certificate, give it to the instance, and return its serial."""
        leaf = self.identities.issue(APP, INSTANCE, new_key_pair().public)
        self.identities.given(GUID, leaf)
        return leaf.serial

    def counting(self, *serials: int) -> list[int]:
        """Return those of these certificates that count."""
        return [each for each in serials if self.identities.counts(GUID, each)]


def test_an_identity_says_which_instance_of_which_app_it_is() -> None:
    """The certificate has the SPIFFE id of the instance, its name and its address."""
    leaf = World().identities.issue(APP, INSTANCE, new_key_pair().public)
    san = read_certificate(leaf.certificate_chain_pem).san

    assert san.uris == ("spiffe://c2c.internal/app/app-1/instance/instance-1",)
    assert (san.dns, san.ips) == (("instance-1",), ("10.0.0.1",))
    assert leaf.private_key_pem is None


def test_what_is_recorded_of_an_identity_is_what_it_says() -> None:
    """Who issued it, for whom and until when outlives the process; a key is not in it."""
    records: list[IssuedRecord] = []
    world = World(records.append)
    leaf = world.identities.issue(APP, INSTANCE, new_key_pair().public)

    assert records == []

    world.identities.given(GUID, leaf)

    uri = "spiffe://c2c.internal/app/app-1/instance/instance-1"
    assert records == [
        IssuedRecord(
            GUID,
            IDENTITY,
            "",
            leaf.serial,
            ("instance-1", "10.0.0.1", uri),
            leaf.not_before,
            leaf.not_after,
            world.authority.fingerprint,
        )
    ]
    assert leaf.not_after == NOON + timedelta(hours=1)


def test_what_was_issued_for_ports_is_no_identity() -> None:
    """It never counts, also where nothing is known yet of the identities of the run before."""
    world = World(of_ports={70, 71})

    assert world.counting(70, 71, 72) == [72]


def test_the_record_of_a_first_identity_does_not_wait_until_it_was_given() -> None:
    """It is there for the transaction that registers the instance; a later one is not asked for."""
    firsts: list[IssuedRecord] = []
    given: list[IssuedRecord] = []
    world = World(given.append, note_first=firsts.append)
    leaf = world.identities.issue(APP, INSTANCE, new_key_pair().public)

    world.identities.enrols(GUID, leaf)
    assert [each.serial for each in firsts] == [leaf.serial]
    assert given == []
    assert world.identities.is_starting(GUID)

    world.identities.given(GUID, leaf)
    assert given == firsts


def test_an_older_identity_counts_until_the_newer_one_was_shown() -> None:
    """A renewal whose answer was lost locks nobody out; once it was used, the old one is dead."""
    world = World()
    old, new = world.issue(), world.issue()

    assert world.counting(old, new) == [old, new]

    world.identities.shown(GUID, old)

    assert world.counting(old, new) == [old, new]

    world.identities.shown(GUID, new)

    assert world.counting(old, new) == [new]


def test_a_dead_identity_does_not_come_back_with_the_next_renewal() -> None:
    """Issuing another certificate makes none count that did not count before."""
    world = World()
    first, second = world.issue(), world.issue()
    world.identities.shown(GUID, second)
    third = world.issue()

    assert world.counting(first, second, third) == [second, third]


def test_identities_of_before_a_restart_count_until_a_newer_one_was_shown() -> None:
    """What an earlier process issued is not known, so it cannot be called old at once."""
    world = World()

    assert world.counting(7, 8) == [7, 8]

    new = world.issue()

    assert world.counting(7, 8, new) == [7, 8, new]

    world.identities.shown(GUID, 8)

    assert world.counting(7, 8, new) == [7, 8, new]

    world.identities.shown(GUID, new)

    assert world.counting(7, 8, new) == [new]


def test_a_certificate_that_is_not_given_changes_nothing() -> None:
    """What should lead to it may not get onto the disk; then its instance goes on as before."""
    world = World()
    told: list[InstanceGuid] = []
    world.identities.on_renewal(told.append)
    old = world.issue()
    world.identities.shown(GUID, old)
    world.identities.connected(GUID)
    lost = world.identities.issue(APP, INSTANCE, new_key_pair().public).serial

    assert world.counting(old, lost) == [old]
    assert not world.identities.is_superseded(GUID, old)
    assert not world.identities.is_starting(GUID)
    assert told == [GUID]


def test_renewals_that_never_arrive_take_no_memory() -> None:
    """However often somebody renews without using it, a bounded number of serials is kept."""
    world = World()
    used = world.issue()
    world.identities.shown(GUID, used)
    unseen = [world.issue() for _ in range(100)]

    assert world.counting(used, *unseen) == [used, *unseen[-MAX_UNSEEN:]]


def test_a_stream_is_old_as_soon_as_a_newer_certificate_was_issued() -> None:
    """Streams of any certificate but the newest are to be ended, those of unknown ones are not."""
    world = World()

    assert not world.identities.is_superseded(GUID, 7)

    old, new = world.issue(), world.issue()

    assert world.identities.is_superseded(GUID, 7)
    assert world.identities.is_superseded(GUID, old)
    assert not world.identities.is_superseded(GUID, new)


def test_an_instance_is_starting_until_it_connects_or_time_is_up() -> None:
    """From its first stream on, that stream alone tells whether an instance is there."""
    world = World()

    assert not world.identities.is_starting(GUID)

    world.issue()
    world.clock.time += timedelta(seconds=STARTING_SECONDS - 1)

    assert world.identities.is_starting(GUID)

    world.clock.time += timedelta(seconds=1)

    assert not world.identities.is_starting(GUID)

    world.issue()
    world.identities.connected(GUID)

    assert not world.identities.is_starting(GUID)


def test_a_clock_that_is_set_back_makes_no_start_longer() -> None:
    """Nobody waits an hour for the address of an instance that enrolled and was not seen since."""
    world = World()
    world.issue()
    world.clock.set(timedelta(hours=-1))

    assert world.identities.is_starting(GUID)

    world.clock.time += timedelta(seconds=STARTING_SECONDS)

    assert not world.identities.is_starting(GUID)


def test_an_instance_that_was_removed_leaves_nothing() -> None:
    """Whatever was known of it is forgotten."""
    world = World()
    old = world.issue()
    world.identities.shown(GUID, world.issue())
    world.identities.forget(GUID)

    assert not world.identities.is_starting(GUID)
    assert not world.identities.is_superseded(GUID, old)
    assert world.identities._counting == {}
    assert world.identities._issued_at == {}


def test_whoever_watches_is_told_of_each_certificate_that_was_given() -> None:
    """A certificate that could not be issued is told to nobody, and changes nothing."""
    world = World()
    told: list[InstanceGuid] = []
    world.identities.on_renewal(told.append)
    issued = world.issue()
    world.clock.time += timedelta(days=2)

    with pytest.raises(IssuanceError, match="the CA is not valid after"):
        world.issue()

    assert told == [GUID]
    assert not world.identities.is_superseded(GUID, issued)
