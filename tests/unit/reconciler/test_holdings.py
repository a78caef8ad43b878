"""Which certificates may be in use: what is in doubt is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.ca import InstanceIdentity
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.certificates.holdings import IDENTITY, MAX_UNSEEN, Holdings, is_unused
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.store.protocol import IssuedRecord
from tests.unit.model.world import B, register, world
from tests.unit.reconciler import worlds
from tests.unit.reconciler.clocks import NOON, ManualClock
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET

B0 = InstanceGuid("b0")
DAY = timedelta(days=1)
OLD = IssuedRecord(B0, C2C_SECRET, "v1", 1, ("b0",), NOON, NOON + DAY, "old")
NEW = replace(OLD, version="v2", serial=2, issuer="new")
OLD_IDENTITY = replace(OLD, secret=IDENTITY, serial=3)
NEW_IDENTITY = replace(OLD_IDENTITY, serial=4, issuer="new")


def shown(issuer: str, serial: int = 3, start: datetime = NOON) -> InstanceIdentity:
    """Return an identity as a handshake shows it."""
    return InstanceIdentity(AppGuid("b"), B0, start, NOON + DAY, serial, issuer)


class World:
    """Holdings that follow a ledger."""

    def __init__(self, *records: IssuedRecord) -> None:
        """Start with what is on record."""
        self.ledger = Ledger(ManualClock(), (each for each in records if each.secret != IDENTITY))
        self.holdings = Holdings(self.ledger, records)

    def move(self, state: CertificateState) -> None:
        """Say how far the newest certificate is."""
        entry = self.ledger.get(B0, C2C_SECRET)
        assert entry is not None
        self.ledger.move(entry, state)

    @property
    def used(self) -> list[IssuedRecord]:
        """What is in use, as far as is known, but for an identity that was shown."""
        return list(self.holdings.of(B0))

    @property
    def possible(self) -> list[IssuedRecord]:
        """Everything that may be in use, but for the identity that was shown last."""
        return list(self.holdings.possible(B0))


def test_a_certificate_is_in_use_until_the_next_is_accepted() -> None:
    """That the next was issued says nothing of what is served."""
    world = World()
    world.ledger.issued(OLD)
    world.move(CertificateState.ACKED)
    world.ledger.issued(NEW)
    assert world.used == [OLD]

    world.move(CertificateState.ACKED)
    assert world.used == [NEW]


def test_one_that_was_never_accepted_may_be_in_use() -> None:
    """Its ACK may be on the way."""
    world = World()
    world.ledger.issued(OLD)
    world.ledger.issued(NEW)

    assert world.used == [OLD]


def test_whatever_was_issued_since_the_last_that_was_accepted_may_be_in_use() -> None:
    """The ACK of one may be lost, and the next one be of another CA."""
    world = World(OLD)
    world.move(CertificateState.ACKED)
    world.ledger.issued(NEW)
    newest = replace(OLD, version="v3", serial=5)
    world.ledger.issued(newest)
    assert world.possible == [OLD, NEW, newest]
    assert world.used == [OLD]

    world.move(CertificateState.ACKED)
    world.move(CertificateState.NOT_SERVED)
    assert world.possible == [newest]


def test_of_many_that_nobody_accepts_one_of_each_ca_is_kept_at_the_least() -> None:
    """An Envoy that refuses all may yet serve the one whose ACK was lost; others take no room."""
    world = World()
    for serial in range(100):
        issuer = {0: "first", 3: "new", 4: "new"}.get(serial, "old")
        world.ledger.issued(replace(OLD, serial=serial, issuer=issuer))

    kept = [each.serial for each in world.possible]
    assert kept == [0, 4, *range(100 - MAX_UNSEEN, 100)]


def test_in_doubt_is_only_what_an_earlier_run_issued() -> None:
    """Of what is issued since, the record says all."""
    world = World(OLD)
    world.ledger.issued(NEW)

    assert [world.holdings.is_doubtful(each) for each in world.possible] == [True, False]


def test_an_identity_that_was_given_may_be_shown_until_a_later_one_is() -> None:
    """Its sidecar may have stopped before it did, and come back."""
    world = World()
    newest = replace(OLD_IDENTITY, serial=5)
    for each in (OLD_IDENTITY, NEW_IDENTITY, newest):
        world.holdings.identity_issued(each)
    world.holdings.identity_seen(shown("CN=old"))
    assert world.possible == [NEW_IDENTITY, newest]

    world.holdings.identity_seen(shown("CN=old", 5))
    assert world.possible == []


def test_after_a_restart_an_identity_on_record_may_be_shown_until_a_later_one_is() -> None:
    """What is shown is not on record if it is older, or the process was killed just then."""
    world = World(NEW_IDENTITY)
    world.holdings.identity_seen(shown("CN=old", start=NOON - DAY))
    assert world.possible == [NEW_IDENTITY]
    assert not world.holdings.is_doubtful(NEW_IDENTITY)

    world.holdings.identity_seen(shown("CN=old", 9, start=NOON + DAY / 2))
    assert world.possible == []


def test_after_a_restart_everything_is_in_doubt() -> None:
    """The record is of the newest, and the instance may have one before."""
    world = World(NEW, NEW_IDENTITY)
    assert all(world.holdings.is_doubtful(each) for each in world.used)
    assert len(world.used) == 2

    world.move(CertificateState.SERVED)
    world.holdings.identity_seen(shown("CN=new"))
    assert world.used == [NEW]
    assert not world.holdings.is_doubtful(NEW)
    assert not world.holdings.is_doubtful(NEW_IDENTITY)


def test_an_identity_is_in_use_until_another_is_shown() -> None:
    """That another was issued says nothing of what its holder uses."""
    world = World()
    world.holdings.identity_issued(OLD_IDENTITY)
    assert world.used == [OLD_IDENTITY]

    world.holdings.identity_seen(shown("CN=old"))
    world.holdings.identity_issued(NEW_IDENTITY)
    assert world.used == []
    assert world.holdings.identity(B0) == shown("CN=old")

    world.holdings.identity_seen(shown("CN=new"))
    assert world.holdings.identity(B0) == shown("CN=new")


def test_the_last_identity_that_is_known_of_ends_last() -> None:
    """Whether it is on record, was shown, or was issued only; of who has none nothing ends."""
    assert World().holdings.identity_ends(B0) is None

    world = World(replace(OLD_IDENTITY, not_after=NOON + 2 * DAY))
    assert world.holdings.identity_ends(B0) == NOON + 2 * DAY

    world.holdings.identity_seen(shown("CN=old"))
    assert world.holdings.identity_ends(B0) == NOON + 2 * DAY

    world = World(OLD)
    world.holdings.identity_seen(shown("CN=old"))
    assert world.holdings.identity_ends(B0) == NOON + DAY

    world.holdings.identity_issued(replace(NEW_IDENTITY, not_after=NOON + 3 * DAY))
    assert world.holdings.identity_ends(B0) == NOON + 3 * DAY
    world.holdings.forget(B0)
    assert world.holdings.identity_ends(B0) is None


def test_an_instance_that_was_removed_holds_nothing() -> None:
    """Nobody waits for it."""
    world = World(OLD, OLD_IDENTITY)
    world.holdings.identity_seen(shown("CN=old"))
    assert world.holdings.has_any(B0)
    world.holdings.forget(B0)

    assert not world.holdings.has_any(B0)
    assert world.used == []
    assert world.holdings.identity(B0) is None
    assert not world.holdings.is_doubtful(OLD)


def test_an_instance_has_something_by_a_record_or_by_what_it_showed() -> None:
    """One that came with an identity of which the record is lost has had one all the same."""
    recorded, seen, neither = World(OLD), World(), World()
    seen.holdings.identity_seen(shown("CN=old"))

    assert [each.holdings.has_any(B0) for each in (recorded, seen, neither)] == [True, True, False]


def test_a_secret_is_unused_if_an_envoy_asks_for_the_other_one_alone() -> None:
    """Of who is not connected nobody knows, and one Envoy of several that asks for it uses it."""
    around = worlds.World(register(world("b"), B0, B, "10.0.1.1"))
    ports, c2c = (replace(OLD, secret=each) for each in (ID_SECRET, C2C_SECRET))
    assert not is_unused(ports, around.nodes)

    around.connect(B0).as_static_envoy()
    around.connect(B0).as_resolver()
    assert is_unused(ports, around.nodes)
    assert not is_unused(c2c, around.nodes)

    around.connect(B0).as_envoy()
    assert not is_unused(ports, around.nodes)
