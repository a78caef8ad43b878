"""Simulated sidecars: a process with many xDS clients, each with a connection of its own.

The rule of this module: a client sends what Envoy 1.40 sends over delta ADS with mutual TLS, in
Envoy's order: it asks for all clusters, all listeners, then the secrets and filters that those
name; it sends the node in the first request only; and it ACKs everything. The module uses nothing
of the project's code but the names of types.

A client that reconnects says what it has, as Envoy does, and has everything once each type that it
asks for was answered. Secrets are not answered, as long as it has the right ones.

Lines in: ``connect N`` (N more clients), ``leave`` (all close their connections, and keep what they
have), ``report`` (each also reports what it serves, on a connection of its own, as the sidecar
beside an Envoy does), ``watch`` (count from zero). Lines out: ``synced T N`` once all clients that
were asked for have everything, N streams having been refused; ``left`` once no client is connected;
``reporting`` once all have reported; ``pushed N T`` as soon as N secrets were ACKed since
``watch``, N being the number of clients. T is the kernel's monotonic clock, which all processes
share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.names import SERVER_NAME
from control_plane.planner.ports import ID_SECRET
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
Call = grpc.aio.StreamStreamCall[bytes, bytes]
Request = discovery_pb2.DeltaDiscoveryRequest

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Envoy's back-off between streams (bootstrap default), in seconds."""

_NO_PINGS = ("grpc.http2.bdp_probe", 0)
"""Unlike gRPC, Envoy does not ping the server after each message of it."""


@dataclass(eq=False, slots=True)
class Member:
    """An instance, with whose certificate a client connects.

    Attributes:
        filter: the name of the filter that its listener refers to.
        held: what its client has: the version of each resource, by type and name.
    """

    guid: str
    certificate: str = field(repr=False)
    filter: str
    held: dict[str, dict[str, str]] = field(default_factory=dict)


class Crowd:
    """All clients of this process."""

    def __init__(self, address: str, members: Path, first_request: bytes, at_once: int) -> None:
        """Remember the members; no client connects yet."""
        known = json.loads(members.read_text())
        self._address = address
        self._ca, self._key = known["ca"].encode(), known["key"].encode()
        self._away = deque(starmap(Member, known["members"]))
        self._node = base_pb2.Node()
        if first_request:
            self._node.CopyFrom(Request.FromString(first_request).node)
        self._slots = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connected: list[Member] = []
        self._complete: set[str] = set()
        self._pushed = self._reporting = self.refused = 0

    def connect(self, number: int) -> None:
        """Start this many more clients."""
        for _ in range(number):
            member = self._away.popleft()
            self._connected.append(member)
            self._tasks.add(asyncio.create_task(self._live(member)))

    async def leave(self) -> None:
        """Have every client close its connections; the next ``connect`` begins with these."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._away.extendleft(reversed(self._connected))
        for each in (self._tasks, self._connected, self._complete):
            each.clear()
        self.refused = self._reporting = 0
        say("left")

    def report(self) -> None:
        """Have each client report what it serves."""
        for member in self._connected:
            self._tasks.add(asyncio.create_task(self._report(member)))

    def watch(self) -> None:
        """Count secrets from zero."""
        self._pushed = 0

    def completed(self, guid: str) -> None:
        """Take note that a client has everything."""
        if guid in self._complete:
            return
        self._complete.add(guid)
        if len(self._complete) == len(self._connected):
            say("synced", time.monotonic(), self.refused)

    def pushed(self) -> None:
        """Take note that one more secret was ACKed."""
        self._pushed += 1
        if self._pushed == len(self._connected):
            say("pushed", self._pushed, time.monotonic())

    async def _live(self, member: Member) -> None:
        """Keep a stream open, as Envoy would."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._channel(member, _NO_PINGS) as channel:
                    await self._stream(channel, member)
            except grpc.aio.AioRpcError as error:
                self.refused += 1
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    print(member.guid, error.code(), error.details(), file=sys.stderr)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _report(self, member: Member) -> None:
        """Report the expected certificate as served, and do so again whenever it changes."""
        async with self._channel(member) as channel:
            stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
            async with self._slots:
                call = stub.KeepReporting()
                await call.write(sidecar_pb2.ReportRequest(listening=True))
                answer = await call.read()
                self._reported()
            while isinstance(answer, sidecar_pb2.ReportResponse):
                served = answer.expected_serial
                await call.write(sidecar_pb2.ReportRequest(listening=True, served_serial=served))
                answer = await call.read()

    def _reported(self) -> None:
        self._reporting += 1
        if self._reporting == len(self._connected):
            say("reporting")

    def _channel(self, member: Member, *options: tuple[str, int]) -> grpc.aio.Channel:
        certificate = member.certificate.encode()
        credentials = grpc.ssl_channel_credentials(self._ca, self._key, certificate)
        usual = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.ssl_target_name_override", SERVER_NAME),
            ("grpc.enable_retries", 0),
        ]
        return grpc.aio.secure_channel(self._address, credentials, [*usual, *options])

    async def _stream(self, channel: grpc.aio.Channel, member: Member) -> None:
        async with self._slots:
            client = Client(self, channel.stream_stream(METHOD)(), member)
            self._node.id = member.guid
            await client.begin(self._node)
            while not client.is_complete:
                await client.step()
        self.completed(member.guid)
        while True:
            await client.step()


class Client:
    """One stream: it answers each response, and asks for what Envoy would ask for next."""

    __slots__ = ("_call", "_crowd", "_filter", "_held", "_missing", "is_complete")

    def __init__(self, crowd: Crowd, call: Call, member: Member) -> None:
        """Start before the first request."""
        self._crowd = crowd
        self._call = call
        self._held = member.held
        self._filter = member.filter
        self._missing = {CLUSTER, LISTENER, EXTENSION_CONFIG}
        if not self._held:
            self._missing |= {C2C_SECRET, ID_SECRET}
        self.is_complete = False

    async def begin(self, node: base_pb2.Node) -> None:
        """Send the first requests: the node, and everything that it knows by name already."""
        await self._ask(CLUSTER, node=node)
        if self._held:
            await self._ask(LISTENER)
            await self._ask_by_name()

    async def step(self) -> None:
        """Take a response and accept it."""
        raw = await self._call.read()
        if raw is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(
                await self._call.code(), grpc.aio.Metadata(), grpc.aio.Metadata()
            )
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(raw)
        url = response.type_url
        is_first = url not in self._held
        held = self._held.setdefault(url, {})
        held.update((each.name, each.version) for each in response.resources)
        for name in response.removed_resources:
            held.pop(name, None)
        await self._write(type_url=url, response_nonce=response.nonce)
        if self.is_complete:
            if url == SECRET:
                self._crowd.pushed()
            return
        if is_first and url == CLUSTER:
            await self._ask(LISTENER)
        elif is_first and url == LISTENER:
            await self._ask_by_name()
        self._missing -= {url, *(each.name for each in response.resources)}
        self.is_complete = not self._missing

    async def _ask_by_name(self) -> None:
        await self._ask(SECRET, resource_names_subscribe=[C2C_SECRET, ID_SECRET])
        await self._ask(EXTENSION_CONFIG, resource_names_subscribe=[self._filter])

    async def _ask(self, url: str, **fields: object) -> None:
        """Send the first request of a type, with the versions of what it has."""
        held = self._held.get(url, {})
        await self._write(type_url=url, initial_resource_versions=held, **fields)

    async def _write(self, **fields: object) -> None:
        await self._call.write(Request(**fields).SerializeToString())


def say(*words: object) -> None:
    """Print a line, and flush it."""
    print(*words, flush=True)


async def main() -> None:
    """Do what the lines on standard input ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("members", type=Path)
    parser.add_argument("--first-request", type=Path)
    parser.add_argument("--at-once", type=int, default=32)
    options = parser.parse_args()
    first = options.first_request.read_bytes() if options.first_request else b""
    crowd = Crowd(options.address, options.members, first, options.at_once)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := (await reader.readline()).decode().split():
        match line:
            case ["connect", number]:
                crowd.connect(int(number))
            case ["leave"]:
                await crowd.leave()
            case ["report"]:
                crowd.report()
            case ["watch"]:
                crowd.watch()
            case _:
                raise ValueError(f"not understood: {line}")


if __name__ == "__main__":
    asyncio.run(main())
