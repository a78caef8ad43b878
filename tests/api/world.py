"""The operator's API over a real registry and a real store, on a Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict, ParseDict

from control_plane.api.v1 import (
    app_pb2_grpc,
    instance_pb2_grpc,
    join_token_pb2_grpc,
    network_policy_pb2_grpc,
    route_pb2_grpc,
    trust_pb2_grpc,
)
from control_plane.ca import DEFAULT_TRUST_DOMAIN, Profile, create_authority, new_key_pair
from control_plane.model.state import State
from control_plane.names import AppGuid, Domain, InstanceGuid
from control_plane.reconciler.progress import Behind, Stage
from control_plane.registry import Registry
from control_plane.server.api.apps import AppService
from control_plane.server.api.instances import InstanceService
from control_plane.server.api.join_tokens import EnrollmentServer, JoinTokenService
from control_plane.server.api.network_policies import NetworkPolicyService
from control_plane.server.api.policy_notes import Opening
from control_plane.server.api.routes import RouteService
from control_plane.server.api.trust import TrustService
from control_plane.server.budget import CertificateBudget
from control_plane.server.reflection import add_reflection
from control_plane.store.sqlite import SqliteStore
from tests.api.serving import channel_to, serving
from tests.unit.server_security.still_clock import NOON, StillClock

DOMAINS = (Domain("apps.internal"),)
ENROLL = "203.0.113.7:18001"
CHAIN_BYTES = 8_000

Fields = Mapping[str, Any]

SERVICES = tuple(
    f"c2c.v1.{name}Service"
    for name in ("App", "Route", "Instance", "NetworkPolicy", "JoinToken", "Trust")
)

METHODS = {
    method.name: method
    for service in SERVICES
    for method in descriptor_pool.Default().FindServiceByName(service).methods
}


@dataclass(slots=True)
class FakeProgress:
    """Answers every wait with what the test put here, at once, and remembers what was asked."""

    takes_its_time: bool = False
    behind: tuple[Behind, ...] = ()
    asked: list[tuple[frozenset[AppGuid], Stage, float]] = field(default_factory=list)

    async def wait(
        self, apps: frozenset[AppGuid], stage: Stage, timeout: float
    ) -> tuple[Behind, ...]:
        """Answer, after the whole timeout if the test says so."""
        self.asked.append((apps, stage, timeout))
        await asyncio.sleep(timeout if self.takes_its_time else 0)
        return self.behind


@dataclass(slots=True)
class Places:
    """Where the test says that others find the control plane."""

    xds: str = "203.0.113.7:18000"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane without a data plane.

    Attributes:
        connected: the instances of which a test says that they have a stream.
    """

    socket: Path
    channel: grpc.aio.Channel
    registry: Registry
    connected: set[InstanceGuid]
    progress: FakeProgress
    places: Places
    clock: StillClock
    trust_bundle: bytes
    fingerprint: str

    async def call(
        self, method: str, request: Fields | None = None, timeout: float | None = None
    ) -> dict[str, Any]:
        """Call a method by its name, with and for the JSON of its messages."""
        known = METHODS[method]
        asked = message_factory.GetMessageClass(known.input_type)
        answered = message_factory.GetMessageClass(known.output_type)
        call = self.channel.unary_unary(
            f"/{known.containing_service.full_name}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )
        answer = await call(ParseDict(dict(request or {}), asked()), timeout=timeout)
        return MessageToDict(
            answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )

    async def do(self, requests: Iterable[tuple[str, Fields]]) -> None:
        """Call several methods, one after the other."""
        for method, request in requests:
            await self.call(method, request)


@asynccontextmanager
async def control_plane(
    directory: Path,
    domains: Sequence[Domain] = DOMAINS,
    chain_bytes: int = CHAIN_BYTES,
    enroll: str = ENROLL,
) -> AsyncIterator[ControlPlane]:
    """Run one, with its database and its socket in a directory, which it may find used before."""
    private = directory / "data"
    private.mkdir(mode=0o700, exist_ok=True)
    store = await SqliteStore.open(private / "state.db")
    registry = Registry(State.of(await store.load()), store)
    clock, progress, places = StillClock(), FakeProgress(), Places()
    connected: set[InstanceGuid] = set()
    authority = create_authority(
        "test CA", now=NOON, lifetime=timedelta(days=365), key=new_key_pair(), serial=1
    )
    budget = CertificateBudget(lambda: (authority,), Profile(max_chain_bytes=chain_bytes))
    guids = (f"new-guid-{number}" for number in count(1))
    tokens = (f"token-{number}" for number in count(1))
    token_guids = (f"token-guid-{number}" for number in count(1))
    enrollment = EnrollmentServer(enroll, authority.fingerprint)
    apps = AppService(registry, guids.__next__)
    routes = RouteService(registry, progress, budget, domains)
    instances = InstanceService(registry, connected.__contains__, budget, guids.__next__)
    policies = NetworkPolicyService(registry, progress, opening=Opening())
    join_tokens = JoinTokenService(
        registry, clock, tokens.__next__, token_guids.__next__, lambda: enrollment
    )
    trust = TrustService(
        lambda: authority.trust_bundle_pem, DEFAULT_TRUST_DOMAIN, lambda: places.xds
    )

    def add(server: grpc.aio.Server) -> None:
        app_pb2_grpc.add_AppServiceServicer_to_server(apps, server)
        route_pb2_grpc.add_RouteServiceServicer_to_server(routes, server)
        instance_pb2_grpc.add_InstanceServiceServicer_to_server(instances, server)
        network_policy_pb2_grpc.add_NetworkPolicyServiceServicer_to_server(policies, server)
        join_token_pb2_grpc.add_JoinTokenServiceServicer_to_server(join_tokens, server)
        trust_pb2_grpc.add_TrustServiceServicer_to_server(trust, server)
        add_reflection(server, SERVICES)

    writer = asyncio.create_task(registry.run())
    try:
        async with serving(directory, add) as socket, channel_to(socket) as channel:
            yield ControlPlane(
                socket,
                channel,
                registry,
                connected,
                progress,
                places,
                clock,
                authority.trust_bundle_pem,
                authority.fingerprint,
            )
    finally:
        writer.cancel()
        await asyncio.wait([writer])
        await store.close()
