"""Simulated sidecars: a process with many xDS clients, each with a connection of its own.

The rule of this module: what it sends is what Envoy 1.40 sends over delta ADS with mutual TLS, in
Envoy's order: all clusters, all listeners, then the secrets and filters that those name; the node
in the first request only; an ACK for everything. It has none of the project's code in it but the
names of types.

Lines in: ``connect N`` (so many more clients), ``report`` (each tells what it serves as well, on a
connection of its own, as the sidecar beside an Envoy does), ``watch`` (count from zero). Lines out:
``synced T N`` once all that were asked for have everything, N streams having been refused;
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
from pathlib import Path

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.envoy.listeners import C2C_SECRET
from control_plane.envoy.rbac import sources_filter_name
from control_plane.names import C2C_PORT
from control_plane.planner.plan import ID_SECRET
from control_plane.server.credentials import SERVER_NAME
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
Call = grpc.aio.StreamStreamCall[bytes, bytes]
Request = discovery_pb2.DeltaDiscoveryRequest

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Envoy's back-off between streams (bootstrap default), in seconds."""


class Crowd:
    """All clients of this process."""

    def __init__(self, address: str, members: Path, first_request: bytes, at_once: int) -> None:
        """Remember who they are; nobody connects yet."""
        known = json.loads(members.read_text())
        self._address = address
        self._ca, self._key = known["ca"].encode(), known["key"].encode()
        self._certificates = iter(known["certificates"].items())
        self._node = base_pb2.Node()
        if first_request:
            self._node.CopyFrom(Request.FromString(first_request).node)
        self._slots = asyncio.Semaphore(at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connected: dict[str, bytes] = {}
        self._clients = self._complete = self._pushed = self._reporting = self.refused = 0

    def connect(self, number: int) -> None:
        """Start so many more clients."""
        self._clients += number
        for _ in range(number):
            guid, certificate = next(self._certificates)
            self._connected[guid] = certificate.encode()
            self._tasks.add(asyncio.create_task(self._live(guid, certificate.encode())))

    def report(self) -> None:
        """Have each client report what it serves."""
        for certificate in self._connected.values():
            self._tasks.add(asyncio.create_task(self._report(certificate)))

    def watch(self) -> None:
        """Count secrets from zero."""
        self._pushed = 0

    def completed(self) -> None:
        """Take note that one more client has everything."""
        self._complete += 1
        if self._complete == self._clients:
            say("synced", time.monotonic(), self.refused)

    def pushed(self) -> None:
        """Take note that one more secret was ACKed."""
        self._pushed += 1
        if self._pushed == self._clients:
            say("pushed", self._pushed, time.monotonic())

    async def _live(self, guid: str, certificate: bytes) -> None:
        """Keep a stream open, as Envoy would."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with self._channel(certificate) as channel:
                    await self._stream(channel, guid)
            except grpc.aio.AioRpcError as error:
                self.refused += 1
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    print(guid, error.code(), error.details(), file=sys.stderr)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - jitter
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _report(self, certificate: bytes) -> None:
        """Say that the newest certificate is served, hear of another, and say so again."""
        async with self._channel(certificate) as channel:
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
        if self._reporting == self._clients:
            say("reporting")

    def _channel(self, certificate: bytes) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self._ca, self._key, certificate)
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.ssl_target_name_override", SERVER_NAME),
            ("grpc.enable_retries", 0),
        ]
        return grpc.aio.secure_channel(self._address, credentials, options)

    async def _stream(self, channel: grpc.aio.Channel, guid: str) -> None:
        async with self._slots:
            call: Call = channel.stream_stream(METHOD)()
            self._node.id = guid
            first = Request(node=self._node, type_url=CLUSTER).SerializeToString()
            await call.write(first)
            client = Client(self, call)
            while not client.is_complete:
                await client.step()
        self.completed()
        while True:
            await client.step()


class Client:
    """One stream: answers whatever comes, and asks for what Envoy would ask for next."""

    __slots__ = ("_call", "_crowd", "_missing", "is_complete")

    def __init__(self, crowd: Crowd, call: Call) -> None:
        """Start when the first request is on its way."""
        self._crowd = crowd
        self._call = call
        self._missing = {CLUSTER, LISTENER, C2C_SECRET, ID_SECRET, EXTENSION_CONFIG}
        self.is_complete = False

    async def step(self) -> None:
        """Take a response and accept it."""
        raw = await self._call.read()
        if raw is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(
                await self._call.code(), grpc.aio.Metadata(), grpc.aio.Metadata()
            )
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(raw)
        url = response.type_url
        await self._write(type_url=url, response_nonce=response.nonce)
        if self.is_complete:
            if url == SECRET:
                self._crowd.pushed()
            return
        if url == CLUSTER:
            await self._write(type_url=LISTENER)
        elif url == LISTENER:
            await self._write(type_url=SECRET, resource_names_subscribe=[C2C_SECRET, ID_SECRET])
            names = [sources_filter_name(C2C_PORT)]
            await self._write(type_url=EXTENSION_CONFIG, resource_names_subscribe=names)
        self._missing -= {url, *(each.name for each in response.resources)}
        self.is_complete = not self._missing

    async def _write(self, **fields: object) -> None:
        await self._call.write(Request(**fields).SerializeToString())


def say(*words: object) -> None:
    """Print a line at once."""
    print(*words, flush=True)


async def main() -> None:
    """Do what the lines on standard input say."""
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
            case ["report"]:
                crowd.report()
            case ["watch"]:
                crowd.watch()
            case _:
                raise ValueError(f"not understood: {line}")


if __name__ == "__main__":
    asyncio.run(main())
