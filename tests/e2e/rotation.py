"""A control plane in a process of its own, real sidecars with real Envoys, and the command line.

The rule of this module: what an operator does is done by ``c2c``, and what clients see is verified
in full, by the TLS libraries of three families.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509

from control_plane.ca import new_key_pair
from tests.e2e import traffic
from tests.envoy import apps, tls_client
from tests.envoy.harness import C2C_PORT, unique_address, until
from tests.faults.plane import Plane, plane
from tests.installed import C2C, GRPCURL
from tests.sidecar.process import Sidecar, Ticket, sidecar
from tests.unit.ca import forge
from tests.waiting import output

HOST = "app-b"
NAME = f"{HOST}.apps.internal"
APP_PORT = 8080

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance with its sidecar and Envoy."""

    address: str
    sidecar: Sidecar

    @property
    def bundle(self) -> str:
        """The trust bundle that its app finds."""
        return (self.sidecar.directory / "ca.pem").read_text()

    @property
    def name(self) -> str:
        """What people call it: the first of two that start at once may be the second to enrol."""
        (enrolled,) = self.sidecar.events("sidecar.enrolled")
        return f"app-b/{enrolled['index']}"

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Have its sidecar stand still in the block; its Envoy goes on."""
        self.sidecar.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.sidecar.process.send_signal(signal.SIGCONT)


@dataclass(slots=True)
class Cloud:
    """Everything that runs."""

    server: Plane
    directory: Path
    source: str = ""
    running: list[Instance] = field(default_factory=list)

    async def c2c(self, *words: str) -> Ran:
        """Run a command line."""
        process = await asyncio.create_subprocess_exec(
            C2C,
            *("--data-dir", str(self.server.settings.data_dir)),
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await output(process, f"c2c {' '.join(words)}")
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    async def did(self, *words: str) -> str:
        """Run a command line that has to succeed, and return what it printed."""
        ran = await self.c2c(*words)
        assert ran.code == 0, (words, ran)
        return ran.out

    async def found(self, *words: str) -> list[dict[str, Any]]:
        """Run a command line that has to succeed, and return its JSON."""
        found: list[dict[str, Any]] = json.loads(await self.did(*words, "--output", "json"))
        return found

    async def refused(self, *words: str) -> str:
        """Run a command line that must not succeed, and return why it did not."""
        ran = await self.c2c(*words)
        assert ran.code == 1, (words, ran)
        assert "Traceback" not in ran.err
        return ran.err

    async def authorities(self) -> dict[str, dict[str, Any]]:
        """Return the CAs by their roles."""
        return {each["role"]: each for each in await self.found("ca", "list")}

    async def bundle(self) -> str:
        """Return the trust bundle."""
        return await self.did("trust-bundle")

    async def ticket(self) -> Ticket:
        """Create a join token for the app."""
        (made,) = await self.found("join-token", HOST, "--address-range", "127.0.0.0/8")
        return Ticket(made["server"], made["token"], made["fingerprint"])

    @contextlib.asynccontextmanager
    async def instance(self, ticket: Ticket | None = None) -> AsyncIterator[Instance]:
        """Run an instance until the block ends."""
        ticket = ticket or await self.ticket()
        address, behind = unique_address(), unique_address(APP_PORT)
        directory = self.directory / f"sidecar-{len(self.running)}"
        async with (
            apps.tcp_app(_answer, address=behind, port=APP_PORT),
            sidecar(ticket, directory, "--address", address, "--app-address", behind) as started,
        ):
            made = Instance(address, started)
            self.running.append(made)
            yield made

    async def until_issued_by(self, authority: str, instances: int) -> None:
        """Wait until so many instances serve certificates of a CA."""

        async def probe() -> bool:
            found = await self.found("certs", HOST)
            served = [
                each
                for each in found
                if each["secret"] == "c2c-cert-and-key"
                and each["issuer"] == authority
                and each["state"] == "CERTIFICATE_STATE_SERVED"
            ]
            return len(served) == instances

        await until(probe, what=f"{instances} certificates of {authority} are served", timeout=40)

    async def call(self, instance: Instance, roots: str) -> None:
        """Send a request over a new connection that is verified by these roots only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=roots)
        async with tls_client.connect(
            instance.address, NAME, context, source=self.source
        ) as connection:
            answer = await connection.request(headers=["Connection: close"])
            assert answer.status == 200, answer.status

    async def trusted(self, roots: str) -> bool:
        """Tell whether every sidecar trusts exactly these."""
        return all(each.bundle == roots for each in self.running)

    async def refuses(self, instance: Instance, roots: str) -> bool:
        """Tell whether an instance cannot be verified by these roots."""
        try:
            await self.call(instance, roots)
        except ssl.SSLCertVerificationError:
            return True
        return False

    def calling(
        self, instance: Instance, roots: str = ""
    ) -> contextlib.AbstractAsyncContextManager[traffic.Calls]:
        """Keep calling an instance; without roots by the file that its sidecar keeps current."""

        async def call() -> None:
            await self.call(instance, roots or instance.bundle)

        return traffic.calling(call)

    async def verified_by_all(self, instance: Instance, roots: str) -> None:
        """Have OpenSSL, BoringSSL and Go verify an instance by these roots only."""
        await self.call(instance, roots)
        await self._verified_by_boringssl(instance, roots)
        # The app speaks no gRPC, and to say so Go has to have shaken hands.
        assert "content-type" in await self._said_by_go(instance, roots)

    async def _verified_by_boringssl(self, instance: Instance, roots: str) -> None:
        async with grpc.aio.secure_channel(
            f"{instance.address}:{C2C_PORT}",
            grpc.ssl_channel_credentials(roots.encode()),
            [("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1)],
        ) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)

    async def _said_by_go(self, instance: Instance, roots: str) -> str:
        file = self.directory / "roots-of-go.pem"
        file.write_text(roots)
        process = await asyncio.create_subprocess_exec(
            GRPCURL,
            *("-cacert", str(file), "-authority", NAME, "-max-time", "20"),
            *(f"{instance.address}:{C2C_PORT}", "list"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await output(process, "grpcurl")
        return out.decode()


async def _answer(
    app: apps.App, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer the head of one request: one of gRPC has a body without an end."""
    del app
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()


def own_ca(directory: Path) -> tuple[str, ...]:
    """Make a CA that is an intermediate of an operator's own PKI; return the options that name it.

    Both say all that a strict client asks for: that they may sign, who they are and whose.
    """
    root = _authority("own root")
    ca = _authority("own CA", by=root)
    certificate, key = directory / "own.pem", directory / "own.key"
    certificate.write_bytes(ca.pem + root.pem)
    key.touch(mode=0o600)
    key.write_bytes(ca.key.private_pem())
    return ("--ca-cert", str(certificate), "--ca-key", str(key))


def _authority(name: str, *, by: forge.Maker | None = None) -> forge.Maker:
    key, now = new_key_pair(), datetime.now(UTC)
    signer = by.key if by else key
    extensions = (
        *forge.CA,
        (forge.key_usage(key_cert_sign=True), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public.key), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public.key), False),
    )
    week = timedelta(days=7)
    return forge.made(name, by=by, key=key, extensions=extensions, start=now - week, end=now + week)


def only(bundle: str, *, without: str = "") -> str:
    """Return the certificates of a bundle that are not in another."""
    return "".join(each for each in _BLOCK.findall(bundle) if each not in without)


def count(bundle: str) -> int:
    """Return how many certificates a bundle has."""
    return len(_BLOCK.findall(bundle))


@contextlib.asynccontextmanager
async def cloud(directory: Path) -> AsyncIterator[Cloud]:
    """Run a control plane with an app that has a route, and a caller who may reach it."""
    async with plane(directory) as server:
        made = Cloud(server, directory, source=unique_address())
        await made.did("create-app", HOST)
        await made.did("map-route", HOST, "apps.internal", "--hostname", HOST)
        await made.did("create-app", "caller")
        await made.did("register-instance", "caller", "--address", made.source)
        # gRPC and grpcurl cannot choose the address that they call from.
        await made.did("register-instance", "caller", "--address", "127.0.0.1")
        await made.did(
            "add-network-policy", "caller", HOST, "--protocol", "tcp", "--port", str(C2C_PORT)
        )
        yield made
