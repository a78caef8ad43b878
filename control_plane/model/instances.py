"""Commands on instances: register, move, return, set the status, remove.

The rule of this module: an address belongs to one instance at a time, because policies and names
are enforced by address; and an index belongs to one instance of its app.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import replace

from control_plane.errors import AlreadyExists, NotFound
from control_plane.model.change import Decision, decide
from control_plane.model.entities import Instance, InstanceStatus, Tombstone
from control_plane.model.reach import neighbours, require_networking
from control_plane.model.state import State
from control_plane.model.tombstones import for_good
from control_plane.names import (
    DEFAULT_APP_ADDRESS,
    Address,
    AppGuid,
    InstanceGuid,
    parse_address,
    parse_guid,
    shown,
)

ABSENT = frozenset({InstanceStatus.REGISTERED, InstanceStatus.GONE})
"""The statuses of an instance that has not connected yet, or has left."""


def register_instance(
    state: State,
    guid: str,
    app: AppGuid,
    address: str,
    app_address: str = DEFAULT_APP_ADDRESS,
) -> Decision[Instance]:
    """Register an instance of an app, with the lowest free index.

    If this app already has an instance at this very address, that instance is the result.

    Args:
        guid: the GUID of the instance if it is new.
        app_address: where its Envoy reaches the app; "" for the default.

    Raises:
        InvalidArgument: the GUID or an address breaks a rule.
        NotFound: there is no such app.
        FailedPrecondition: the app runs on Windows.
        AlreadyExists: the GUID is taken by an instance with another app or address, or the address
            by another instance.
    """
    name = InstanceGuid(parse_guid(guid, field="guid"))
    place = parse_address(address)
    app_place = parse_address(app_address or DEFAULT_APP_ADDRESS, field="app_address")
    require_networking(state, app)
    same = state.instance(name) or state.instance_at(place)
    if same and (same.app_guid, same.address, same.app_address) == (app, place, app_place):
        return Decision(state, same)
    if state.instance(name) is not None:
        raise AlreadyExists(
            f"instance {shown(name)} exists with another app or address: remove that one first, "
            "and take another GUID",
            field="guid",
        )
    if state.instance_at(place) is not None:
        raise _held(place)
    instance = Instance(name, app, _lowest_free_index(state, app), place, app_place)
    return decide(state, instance, puts=[instance], apps=_concerned(state, instance))


def move_instance(
    state: State,
    guid: InstanceGuid,
    address: str,
    app_address: str = "",
    *,
    holder_gone: bool = False,
) -> Decision[Instance]:
    """Give an instance another address; it keeps its identity and its index.

    If the address is held by another instance that is known to be gone, that instance keeps its
    identity and index too, and gets the address that becomes free: containers that restart together
    may well find that they exchanged addresses. It counts as gone until it is heard of, so that no
    policy admits whatever is at its new address.

    An instance that was ready is not ready at its new address, because its Envoy has to listen
    there first.

    Args:
        app_address: where its Envoy reaches the app; "" keeps the address that it has.
        holder_gone: whether another instance that holds the address is known to be gone.

    Raises:
        InvalidArgument: an address breaks a rule.
        NotFound: there is no such instance.
        AlreadyExists: the address is held by an instance that is not gone.
    """
    place = parse_address(address)
    old = state.instance(guid)
    if old is None:
        raise NotFound(f"instance {shown(guid)} not found", field="guid")
    app_place = parse_address(app_address or old.app_address, field="app_address")
    was_ready = old.status is InstanceStatus.READY and place != old.address
    status = InstanceStatus.NOT_READY if was_ready else old.status
    new = replace(old, address=place, app_address=app_place, status=status)
    if new == old:
        return Decision(state, old)
    left: list[Instance] = []
    holder = state.instance_at(place)
    if holder is not None and holder.guid != guid:
        if not holder_gone:
            raise _held(place)
        left = [replace(holder, address=old.address, status=InstanceStatus.GONE)]
    return decide(state, new, puts=[*left, new], apps=_concerned(state, new, *left))


def return_instance(
    state: State,
    left: Tombstone,
    address: Address,
    app_address: str = "",
    *,
    holder_gone: bool = False,
) -> Decision[Instance]:
    """Register an instance again that was only removed because another one got its address.

    It is who it was, but another instance may have its index by now.

    Args:
        left: its tombstone.
        address: where other instances reach it now.
        app_address: where its Envoy reaches the app; "" for where it did.
        holder_gone: whether another instance that holds the address is known to be gone.

    Raises:
        InvalidArgument: an address breaks a rule.
        NotFound: its app is gone.
        FailedPrecondition: its app runs on Windows now.
        AlreadyExists: the address is held by an instance that is not gone.
    """
    holder = state.instance_at(address)
    if holder is not None and not holder_gone:
        raise _held(address)
    vacated = Decision(state, None) if holder is None else remove_instance(state, holder.guid)
    app_place = app_address or left.app_address or ""
    return vacated.then(
        lambda rest, _: register_instance(
            rest, left.instance_guid, left.app_guid, address, app_place
        )
    )


def set_status(
    state: State,
    guid: InstanceGuid,
    status: InstanceStatus,
    *,
    has_sidecar: bool = False,
    has_resolver: bool = False,
) -> Decision[Instance | None]:
    """Set an instance's status; if there is no such instance, the result is None.

    Args:
        has_sidecar: whether a sidecar reported for it; once one did, this stays true.
        has_resolver: whether it has a resolver; once it had one, this stays true too.
    """
    old = state.instance(guid)
    if old is None:
        return Decision(state, None)
    new = replace(
        old,
        status=status,
        has_sidecar=old.has_sidecar or has_sidecar,
        has_resolver=old.has_resolver or has_resolver,
    )
    if new == old:
        return Decision(state, old)
    apps = _concerned(state, new) if new.status is not old.status else ()
    return decide(state, new, puts=[new], apps=apps)


def remove_instance(state: State, guid: InstanceGuid) -> Decision[Instance | None]:
    """Remove an instance, which is the result; if there is none, the result is None.

    From then on its identity is worth nothing, even if another instance had taken its address.
    """
    instance = state.instance(guid)
    if instance is None:
        left = state.tombstone(guid)
        if left is None or left.address is None:
            return Decision(state, None)
        return decide(state, None, puts=[for_good(left)])
    return decide(state, instance, drops=[instance], apps=_concerned(state, instance))


def remove_absent(state: State, guids: Iterable[InstanceGuid]) -> Decision[tuple[Instance, ...]]:
    """Remove those of some instances that are still absent; these are the result."""
    instances = map(state.instance, guids)
    absent = tuple(each for each in instances if each and each.status in ABSENT)
    return decide(state, absent, drops=absent, apps=_concerned(state, *absent))


def _held(address: Address) -> AlreadyExists:
    """Return the error for a taken address, which does not tell which instance has it.

    Anybody with a token may ask.
    """
    return AlreadyExists(
        f"address {shown(address)} is held by another instance, which 'c2c instances --all' shows: "
        "remove that one first",
        field="address",
    )


def _lowest_free_index(state: State, app: AppGuid) -> int:
    """Return the lowest number that is missing from an app's indexes, which are sorted."""
    instances = state.instances_of(app)
    return bisect_left(range(len(instances)), 1, key=lambda place: instances[place].index > place)


def _concerned(state: State, *instances: Instance) -> frozenset[AppGuid]:
    return frozenset().union(*(neighbours(state, instance.app_guid) for instance in instances))
