"""What follows for names from what is on the disk after a restart."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from control_plane.ca import C2CRequest
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import set_status
from control_plane.model.routes import map_route
from control_plane.model.state import State
from control_plane.names import MAX_HOSTNAME_OCTETS, Domain, InstanceGuid
from control_plane.planner import c2c_request
from control_plane.reconciler.publication.recovery import uncertified, unmapped
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
    *routes: str,
    guid: str = B0,
    index: int = 0,
    secret: str = C2C_SECRET,
    unacked: Iterable[str] = (),
) -> IssuedRecord:
    """Return the record of a certificate with these routes."""
    request = C2CRequest(guid, B, "o", "s", routes, index, "10.0.1.1")
    names = (*request.san.dns, *request.san.ips)
    life = (NOON, NOON + timedelta(days=1))
    return IssuedRecord(InstanceGuid(guid), secret, "v", 1, names, *life, "ca", "", tuple(unacked))


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
    assert dict(uncertified(mapped("api"), records)[B]) == {B0: {API}}


@pytest.mark.parametrize("status", list(InstanceStatus), ids=str)
def test_who_was_there_may_have_an_old_certificate(status: InstanceStatus) -> None:
    """It may be ready by that later, if no other can be issued; who never was has none."""
    found = uncertified(mapped("api", status=status), [record(SHOP)])

    assert bool(found) is (status is not InstanceStatus.REGISTERED)


def test_an_app_without_routes_has_nothing_to_certify() -> None:
    """Whatever its instances have."""
    assert uncertified(mapped(), []) == {}
    assert A not in uncertified(mapping(mapped(), A, "api").state, [])


def test_what_certificates_have_besides_the_routes_was_unmapped() -> None:
    """Neither the instance itself, nor its address, nor a name per index is a route."""
    assert unmapped(mapped("api"), [record(API)]) == {}
    assert unmapped(mapped("api"), [record(API, SHOP)]) == {B0: {SHOP}}
    assert unmapped(mapped(), [record(API, SHOP)]) == {B0: {API, SHOP}}


def test_a_route_that_is_too_long_for_an_index_is_one_too() -> None:
    """It is in the certificate by itself."""
    long = ".".join(["a" * 63] * 3 + ["b" * 47, "apps.internal"])
    assert len(long) == MAX_HOSTNAME_OCTETS

    assert unmapped(mapped(), [record(long)]) == {B0: {long}}


def test_a_route_that_has_room_for_one_index_is_not_another_route_with_it() -> None:
    """Its name per index has no room for another one, as a route without a name per index."""
    domain = Domain(".".join(["a" * 63] * 3 + ["apps.internal"]))
    state = map_route(mapped(), B, "b" * 45, domain, (domain,)).state
    (route,) = state.hostnames_of(B)
    assert len(f"0.{route}") == MAX_HOSTNAME_OCTETS

    assert unmapped(state, [record(route)]) == {}


@pytest.mark.parametrize(
    ("state", "found"),
    [
        (mapped("api"), record(SHOP, secret=ID_SECRET)),
        (mapped("api", status=InstanceStatus.GONE), record(SHOP)),
        (mapped("api"), record(SHOP, guid="b9")),
    ],
    ids=["another secret", "gone", "removed"],
)
def test_where_nobody_is_led_nothing_is_kept(state: State, found: IssuedRecord) -> None:
    """Its certificate is made anew as soon as it comes back."""
    assert unmapped(state, [found]) == {}


def test_a_request_with_what_was_kept_is_the_certificate_of_before() -> None:
    """So nothing is issued anew while it is kept."""
    state, before = mapped("api"), record(API, SHOP)
    instance, kept = state.instances[B0], unmapped(state, [before])[B0]

    san = c2c_request(state, state.apps[B], instance, kept).san

    assert (*san.dns, *san.ips) == before.names
