"""A data directory with a fleet in it: apps, instances, routes, policies, and who may connect.

The rule of this module: the control plane is measured as it runs. So this module only writes what
would be on its disk after the fleet had enrolled, and the identities that the fleet would have got.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_plane.app.authority import open_authorities
from control_plane.app.control_plane import DATABASE_FILE
from control_plane.app.core import new_serial
from control_plane.ca import (
    Authority,
    IdentityRequest,
    KeyFactory,
    Leaf,
    Profile,
    PublicKey,
    Request,
    ServerRequest,
    issue,
    new_key_pair,
)
from control_plane.ca.keys import KeyPair
from control_plane.ca.spiffe import DEFAULT_TRUST_DOMAIN
from control_plane.clock import SystemClock
from control_plane.envoy.rbac import sources_filter_name
from control_plane.envoy.secrets import C2C_SECRET, tls_secret
from control_plane.model.apps import create_app
from control_plane.model.entities import InstanceStatus
from control_plane.model.instances import register_instance, set_status
from control_plane.model.policies import PolicySpec, add_policies
from control_plane.model.routes import map_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import C2C_PORT, SERVER_NAME, AppGuid, InstanceGuid
from control_plane.planner import Planner, PlanOptions, SecretContent, c2c_request, ports_request
from control_plane.planner.ports import ID_SECRET
from control_plane.registry import Command, Registry
from control_plane.settings import Settings
from control_plane.store.sqlite import SqliteStore
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import SECRET

USUAL_SIZE = 10
"""Instances of an app, each of which has a filter chain in the listeners of the next app."""


@dataclass(frozen=True, slots=True)
class Member:
    """An instance, the filter for its callers, and the certificate that proves its identity."""

    guid: str
    app: str
    address: str
    filter: str
    certificate: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet on disk.

    Attributes:
        data_dir: the data directory of the control plane.
        authority: its CA.
        key: the private key of every member; sharing it makes no difference to the server.
        file: the fleet as a file for the processes that play sidecars.
        apps: the names of the apps, in a ring in which each may call the next.
    """

    data_dir: Path
    state: State
    authority: Authority
    key: KeyPair
    members: tuple[Member, ...]
    file: Path
    apps: tuple[str, ...]

    def of_app(self, name: str) -> Member:
        """Return the first instance of an app."""
        return next(each for each in self.members if each.app == name)


Place = Callable[[int], str]
"""Gives the address of the instance with a number."""


async def prepare(
    directory: Path,
    instances: int,
    *,
    place: Place | None = None,
    size: int = USUAL_SIZE,
    status: InstanceStatus = InstanceStatus.REGISTERED,
) -> Fleet:
    """Write a fleet of this many instances, in apps of this size, and with this status."""
    settings = Settings(data_dir=directory / "data")
    directory.mkdir(exist_ok=True)  # noqa: ASYNC240 - nobody else runs yet
    store = await SqliteStore.open(settings.data_dir / DATABASE_FILE)
    registry = Registry(State.of(()), store)
    running = asyncio.create_task(registry.run())
    try:
        apps = [f"app-{number}" for number in range(max(1, instances // size))]
        places = [(place or _address)(each) for each in range(instances)]
        await _fill(registry, apps, places, has_apps=place is not None)
        known = registry.state.all_instances()
        await asyncio.gather(*(registry.execute(_status(each.guid, status)) for each in known))
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await store.close()
    authority = open_authorities(settings, SystemClock(), new_serial).current()
    key = new_key_pair()
    members = tuple(_members(registry.state, authority, key))
    file = directory / "members.json"
    told = [(each.guid, each.certificate.decode(), each.filter) for each in members]
    ca = authority.trust_bundle_pem.decode()
    text = json.dumps({"ca": ca, "key": key.private_pem().decode(), "members": told})
    file.write_text(text)
    return Fleet(settings.data_dir, registry.state, authority, key, members, file, tuple(apps))


async def _fill(registry: Registry, apps: list[str], places: list[str], *, has_apps: bool) -> None:
    domains = Settings(data_dir=Path()).internal_domains
    guids = [AppGuid(f"guid-of-{name}") for name in apps]

    def policy(number: int) -> PolicySpec:
        return PolicySpec(guids[number], guids[(number + 1) % len(guids)], "tcp", 61443, 61443)

    def make(number: int) -> Command[Any]:
        return lambda state: create_app(state, guids[number], AppSpec(apps[number]))

    def route(number: int) -> Command[Any]:
        return lambda state: map_route(state, guids[number], apps[number], "apps.internal", domains)

    def allow(number: int) -> Command[Any]:
        return lambda state: add_policies(state, [policy(number)])

    def register(number: int) -> Command[Any]:
        guid, app, place = str(uuid.uuid4()), guids[number % len(guids)], places[number]
        # A real app listens where its instance is; usually that would be 127.0.0.1.
        behind = place if has_apps else ""
        return lambda state: register_instance(state, guid, app, place, behind)

    for command, times in (
        (make, len(apps)),
        (route, len(apps)),
        (allow, len(apps)),
        (register, len(places)),
    ):
        await asyncio.gather(*(registry.execute(command(number)) for number in range(times)))


def _status(guid: InstanceGuid, status: InstanceStatus) -> Command[Any]:
    return lambda state: set_status(state, guid, status)


def _address(number: int) -> str:
    """Give each instance a loopback address; the control plane may try to probe it there."""
    return f"127.{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def _members(state: State, authority: Authority, key: KeyPair) -> Iterator[Member]:
    for instance in state.all_instances():
        app = state.apps[instance.app_guid]
        request = IdentityRequest(
            trust_domain=DEFAULT_TRUST_DOMAIN,
            instance_guid=instance.guid,
            app_guid=app.guid,
            org=app.key.org,
            space=app.key.space,
            address=instance.address,
        )
        leaf = _issued(authority, request, key.public)
        (policy,) = state.policies_to(app.guid)
        name = sources_filter_name(C2C_PORT, policy.source)
        chain = leaf.certificate_chain_pem
        yield Member(instance.guid, app.key.name, instance.address, name, chain)


def write_floor(directory: Path, fleet: Fleet, member: Member, versions: int) -> None:
    """Write what ``floor.py`` serves: the plan of a member, and new certificates for later."""
    instance = fleet.state.instances[InstanceGuid(member.guid)]
    app = fleet.state.apps[instance.app_guid]
    requests: dict[str, Request] = {
        C2C_SECRET: c2c_request(fleet.state, app, instance),
        ID_SECRET: ports_request(app, instance),
    }
    secrets: dict[str, SecretContent] = {
        name: Resource.of(SECRET, name, _secret(fleet.authority, name, request))
        for name, request in requests.items()
    }
    plan = Planner(PlanOptions()).plan(fleet.state, instance, secrets, fleet.state.hostnames_of)
    for url, content in plan.types.items():
        (directory / url).mkdir(parents=True)
        for resource in content.resources.values():
            (directory / url / resource.name).write_bytes(resource.body)
    for number in range(1, versions + 1):
        body = _secret(fleet.authority, C2C_SECRET, requests[C2C_SECRET])
        (directory / SECRET / f"{C2C_SECRET},{number:04}").write_bytes(body)
    server = _issued(
        fleet.authority,
        ServerRequest(DEFAULT_TRUST_DOMAIN, (SERVER_NAME,), ("127.0.0.1",)),
        new_key_pair,
    )
    (directory / "ca.pem").write_bytes(fleet.authority.trust_bundle_pem)
    (directory / "server.pem").write_bytes(server.certificate_chain_pem)
    (directory / "server.key").write_bytes(server.private_key_pem or b"")


def _secret(authority: Authority, name: str, request: Request) -> bytes:
    leaf = _issued(authority, request, new_key_pair)
    return tls_secret(name, leaf.certificate_chain_pem, leaf.private_key_pem or b"")


def _issued(authority: Authority, request: Request, key: KeyFactory | PublicKey) -> Leaf:
    now = SystemClock().now()
    return issue(authority, Profile(), request, key=key, now=now, serial=new_serial())
