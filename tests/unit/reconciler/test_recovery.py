"""What follows for names from what is on the disk after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.recovery import uncertified
from control_plane.store.protocol import IssuedRecord
from tests.unit.model.world import A, B, mapping, register, world
from tests.unit.reconciler.clocks import NOON
from tests.unit.reconciler.worlds import C2C_SECRET, ID_SECRET

B0 = InstanceGuid("b0")
API, SHOP = "api.apps.internal", "shop.apps.internal"
READY = InstanceStatus.READY


def mapped(*hosts: str, status: InstanceStatus = READY) -> State:
    """Return app ``b`` with these routes and an instance, beside app ``a``."""
    state = set_status(register(world("a", "b"), B0, B, "10.0.1.1"), B0, status).state
    for host in hosts:
        state = mapping(state, B, host).state
    return state


def record(
    *names: str, secret: str = C2C_SECRET, unacked: Iterable[str] = (), index: int = 0
) -> IssuedRecord:
    """Return the record of a certificate with these routes."""
    dns = sorted({*names, *(f"{index}.{name}" for name in names)})
    life = (NOON, NOON + timedelta(days=1))
    every = (B0, *dns, "10.0.1.1")
    return IssuedRecord(B0, secret, "v", 1, every, *life, "ca", "", tuple(unacked))


def test_what_was_acked_is_certified() -> None:
    """With the certificate of the record, or any older one that it may have."""
    assert uncertified(mapped("api"), [record(API, SHOP)]) == {}
    assert uncertified(mapped("api"), [record(API, SHOP, unacked=[SHOP])]) == {}


@pytest.mark.parametrize(
    "records",
    [[], [record(SHOP)], [record(API, SHOP, unacked=[API])], [record(API, secret=ID_SECRET)]],
    ids=["no record", "without it", "not ACKed", "another secret"],
)
def test_what_may_not_be_certified_is_told(records: list[IssuedRecord]) -> None:
    """The name without which a certificate may be, and of no other app."""
    assert uncertified(mapped("api"), records) == {B: {(API, B0)}}


@pytest.mark.parametrize("status", [each for each in InstanceStatus if each is not READY], ids=str)
def test_who_is_not_ready_is_not_led_to(status: InstanceStatus) -> None:
    """It will have ACKed its certificate when it is."""
    assert uncertified(mapped("api", status=status), []) == {}


def test_an_app_without_routes_has_nothing_to_certify() -> None:
    """Whatever its instances have."""
    assert uncertified(mapped(), []) == {}
    assert A not in uncertified(mapping(mapped(), A, "api").state, [])
