"""Runtimes that an app may use trust other instances, and whom they trusted before, unasked.

Each client is the real one, with nothing configured but the environment that the sidecar gives its
app. It connects to a real TLS server by a name that it has to verify.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.api.v1 import certificate_authority_pb2, certificate_authority_pb2_grpc
from control_plane.ca import JDK_PASSWORD, java_trust_store
from control_plane.clock import SystemClock
from control_plane.sidecar.app_trust import JAVA_ROOTS, ROOTS, AppTrust
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.store.files import write_public
from tests.envoy.certificates import Authority
from tests.envoy.harness import until
from tests.needs import need_command
from tests.sidecar.scene import scene
from tests.waiting import output

URLLIB = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())
"""

# pip has a copy of requests, which reads the environment like the original.
REQUESTS = """
import sys
from pip._vendor import requests
print(requests.get(sys.argv[1], timeout=10).text)
"""

GRPC = """
import sys, urllib.parse, grpc
channel = grpc.secure_channel(urllib.parse.urlsplit(sys.argv[1]).netloc,
                              grpc.ssl_channel_credentials())
try:
    channel.unary_unary("/any/Call")(b"", timeout=10)
except grpc.RpcError as error:
    # The server speaks HTTP/1.1: what counts is how far the handshake came.
    print("no certificate" if "CERTIFICATE_VERIFY_FAILED" in error.details() else "hello")
"""

NODE = """
const https = require("https");
https.get(process.argv[1], (response) => response.pipe(process.stdout));
"""

JAVA = """
import java.net.URI;
import java.net.http.*;
public class Client {
  public static void main(String[] arguments) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
    System.out.println(HttpClient.newHttpClient()
        .send(request, HttpResponse.BodyHandlers.ofString()).body());
  }
}
"""

BRIEF = "-XX:TieredStopAtLevel=1"
"""Of JVMs that live for less time than it takes them to compile well."""


def _command(client: str, url: str, directory: Path) -> tuple[str, ...]:
    match client:
        case "curl":
            return (
                need_command("curl", "curl"),
                "--silent",
                "--show-error",
                "--max-time",
                "10",
                url,
            )
        case "node":
            return (need_command("node", "nodejs"), "-e", NODE, url)
        case "java":
            java = need_command("java", "default-jdk-headless")
            return (java, BRIEF, "-cp", str(_compiled(directory)), "Client", url)
        case _:
            source = {"urllib": URLLIB, "requests": REQUESTS, "grpc": GRPC}[client]
            return (sys.executable, "-c", source, url)


def _compiled(directory: Path) -> Path:
    """Compile the client in Java, once, and return where it is."""
    source = directory / "Client.java"
    if not source.exists():
        source.write_text(JAVA)
        compiler = need_command("javac", "default-jdk-headless")
        subprocess.run([compiler, f"-J{BRIEF}", "-d", directory, source], check=True)
    return directory


@asynccontextmanager
async def _https(authority: Authority, directory: Path) -> AsyncIterator[str]:
    """Serve "hello" over HTTPS under a CA, and yield the URL."""
    pair = authority.issue("localhost")
    files = directory / "server.crt", directory / "server.key"
    for file, content in zip(files, (pair.chain, pair.key), strict=True):
        file.write_bytes(content)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*files)
    tls.set_alpn_protocols(["http/1.1", "h2"])  # gRPC offers h2 only, and wants it accepted

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/"


@dataclass(frozen=True, slots=True)
class Trust:
    """Three servers: under our CA, under one that the platform trusts, and under a stranger's."""

    ours: Authority
    platforms: Authority
    urls: Mapping[str, str]
    directory: Path

    async def trusted(self, client: str, inherited: Mapping[str, str]) -> set[str]:
        """Return which servers a client accepts with the variables that a sidecar adds to these."""
        sidecars = SidecarDirectory(self.directory / "sidecar")
        write_public(sidecars.ca_file, self.ours.pem)
        (self.directory / "system.pem").write_bytes(self.platforms.pem)
        trust = AppTrust(
            sidecars, inherited, [str(self.directory / "system.pem")], clock=SystemClock()
        )
        variables = {**inherited, **await trust.write(self.ours.pem)}
        sidecars.close()
        return {
            name
            for name, url in self.urls.items()
            if await _runs(_command(client, url, self.directory), variables)
        }


async def _runs(command: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Tell whether a client got what the server has to say."""
    process = await asyncio.create_subprocess_exec(
        *command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, _ = await output(process, command[0])
    return said.decode().strip() == "hello"


@asynccontextmanager
async def _trust(directory: Path) -> AsyncIterator[Trust]:
    authorities = {each: Authority(each) for each in ("ours", "platform's", "stranger's")}
    async with AsyncExitStack() as stack:
        urls = {
            name: await stack.enter_async_context(_https(authority, directory))
            for name, authority in authorities.items()
        }
        yield Trust(authorities["ours"], authorities["platform's"], urls, directory)


def _plain() -> dict[str, str]:
    """Return the variables of this process, without any that says whom to trust."""
    own = ("SSL_CERT", "REQUESTS_CA", "CURL_CA", "NODE_EXTRA", "JAVA_", "GRPC_", "PIP_")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)}


@pytest.mark.parametrize("client", ["urllib", "requests", "grpc", "curl"])
async def test_a_client_trusts_us_and_the_system(tmp_path: Path, client: str) -> None:
    """Our CA is added to the system's roots, and nobody else's is."""
    async with _trust(tmp_path) as trust:
        assert await trust.trusted(client, _plain()) == {"ours", "platform's"}


@pytest.mark.parametrize(
    ("client", "variable"),
    [
        ("urllib", "SSL_CERT_FILE"),
        ("requests", "REQUESTS_CA_BUNDLE"),
        ("requests", "CURL_CA_BUNDLE"),
        ("grpc", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        ("curl", "SSL_CERT_FILE"),
        ("curl", "CURL_CA_BUNDLE"),
        ("node", "NODE_EXTRA_CA_CERTS"),
    ],
)
async def test_a_client_trusts_us_and_whom_the_platform_named(
    tmp_path: Path, client: str, variable: str
) -> None:
    """A company's own roots in a variable stay trusted, wherever the runtime looks for them."""
    async with _trust(tmp_path) as trust:
        (tmp_path / "company.pem").write_bytes(trust.platforms.pem)
        inherited = {**_plain(), variable: str(tmp_path / "company.pem")}

        assert await trust.trusted(client, inherited) == {"ours", "platform's"}


async def test_node_trusts_us_besides_its_own(tmp_path: Path) -> None:
    """Node.js has roots of its own and adds ours, so it needs none of the system's."""
    async with _trust(tmp_path) as trust:
        assert await trust.trusted("node", _plain()) == {"ours"}


async def test_java_trusts_us_and_its_jdk(tmp_path: Path) -> None:
    """What somebody imported into the JDK stays trusted; keytool imports it here."""
    async with _trust(tmp_path) as trust:
        store = tmp_path / "jdk" / "lib" / "security" / "cacerts"
        store.parent.mkdir(parents=True)
        store.write_bytes(java_trust_store(trust.platforms.pem, JDK_PASSWORD))
        inherited = {**_plain(), "JAVA_HOME": str(tmp_path / "jdk")}

        assert await trust.trusted("java", inherited) == {"ours", "platform's"}


async def test_java_without_a_jdk_of_its_own_trusts_us_and_the_system(tmp_path: Path) -> None:
    """A JDK whose roots are not found costs nobody the system's."""
    async with _trust(tmp_path) as trust:
        inherited = {**_plain(), "JAVA_HOME": str(tmp_path / "nowhere")}

        assert await trust.trusted("java", inherited) == {"ours", "platform's"}


async def test_an_app_reaches_another_by_its_name_and_nothing_else(tmp_path: Path) -> None:
    """All of it together: the app is curl, its variables are those of a real sidecar."""
    need_command("curl", "curl")
    async with scene(tmp_path) as here:
        await here.cf.allow("app-b", "app-b")
        url = f"https://{here.caller.host}:61443/"
        resolve = f"{here.caller.host}:61443:{here.address}"
        script = f"until curl -fsS --interface {here.address} --resolve {resolve} {url}; do :; done"
        async with here.instance(command=("sh", "-c", f"{script}; env")) as instance:
            assert await instance.ended() == 0

    variables = dict(line.split("=", 1) for line in instance.output if "=" in line)
    assert instance.output[0].startswith("hello")
    assert variables["CF_INSTANCE_INTERNAL_IP"] == here.address
    assert variables["CF_INSTANCE_INDEX"] == "0"
    assert variables["PORT"] == str(here.port)
    assert len(variables["CF_INSTANCE_GUID"]) == 36
    assert "C2C_SIDECAR_TOKEN" not in variables


async def test_whom_an_app_trusts_follows_the_ca(tmp_path: Path) -> None:
    """An app that looks again, or starts next, trusts the next CA before it signs."""
    prepare = certificate_authority_pb2.PrepareCertificateAuthorityRequest()
    async with scene(tmp_path) as here, here.instance(command=("sleep", "60")) as instance:
        await instance.logged("app.started")
        stores = [here.directory / each for each in (ROOTS, JAVA_ROOTS)]
        old = [each.read_bytes() for each in stores]
        async with here.cf.operator() as channel:
            stub = certificate_authority_pb2_grpc.CertificateAuthorityServiceStub(channel)
            await stub.PrepareCertificateAuthority(prepare)

        async def have_followed() -> bool:
            return all(
                each.read_bytes() != before for each, before in zip(stores, old, strict=True)
            )

        await until(have_followed, what="the files of the app are others")
        bundle = here.cf.trust_bundle

        assert bundle.count(b"BEGIN CERTIFICATE") == 2
        assert stores[0].read_bytes().endswith(bundle)
