"""A server is known by the fingerprint of its CA, or not at all."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    KeyPair,
    Profile,
    ServerRequest,
    issue,
    load_authority,
    new_key_pair,
)
from control_plane.errors import ConfigurationError
from control_plane.names import SERVER_NAME
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import anonymous_channel
from control_plane.sidecar.enrolment import pin
from control_plane.sidecar.enrolment.pin import WRONG_PORT, pinned, roots_from_file, verify
from control_plane.sidecar.retry import why_not
from tests.sidecar.platform import free_port
from tests.unit.ca.forge import Maker, made


def _authority(*path: Maker, key: KeyPair) -> Authority:
    """Return the authority of the first of these, each issued by the next."""
    return load_authority(
        b"".join(each.pem for each in path), key.private_pem(), now=datetime.now(UTC)
    )


def _now(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


@pytest.fixture
def root() -> Maker:
    """Return a root that is valid now."""
    return made("root", start=_now(-1), end=_now(10))


@asynccontextmanager
async def serving(by: Authority, directory: Path, days: int = 0) -> AsyncIterator[SocketAddress]:
    """Serve TLS as a control plane under this authority whose clock is ahead by so many days."""
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, (SERVER_NAME,), ())
    leaf = issue(by, Profile(), request, key=new_key_pair, now=_now(days), serial=2)
    file = directory / "server.pem"
    file.write_bytes((leaf.private_key_pem or b"") + leaf.certificate_chain_pem)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(file)
    tls.set_alpn_protocols(["h2"])

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield SocketAddress("127.0.0.1", server.sockets[0].getsockname()[1])


async def test_a_root_is_known_by_its_fingerprint(root: Maker, tmp_path: Path) -> None:
    """What comes back is that certificate and nothing else that the server showed."""
    by = _authority(root, key=root.key)
    async with serving(by, tmp_path) as server:
        assert root.pem == (await pinned(server, by.fingerprint)).roots


async def test_an_intermediate_is_known_by_its_fingerprint(root: Maker, tmp_path: Path) -> None:
    """An operator's CA may be below a root that the server does not show."""
    intermediate = made("intermediate", by=root, start=_now(-1), end=_now(5))
    by = _authority(intermediate, root, key=intermediate.key)
    async with serving(by, tmp_path) as server:
        assert intermediate.pem == (await pinned(server, by.fingerprint)).roots


async def test_another_certificate_of_the_same_ca_is_another(root: Maker, tmp_path: Path) -> None:
    """The fingerprint is of a certificate, not of its key: one that the server does not show."""
    by = _authority(root, key=root.key)
    other = _authority(made("other", start=_now(-1), end=_now(1), key=root.key), key=root.key)
    async with serving(by, tmp_path) as server:
        with pytest.raises(ConfigurationError, match="shows no CA certificate with the finger"):
            await pinned(server, other.fingerprint)


async def test_a_server_that_is_down_is_told_apart_from_a_wrong_one() -> None:
    """Only the former is worth another attempt."""
    with pytest.raises(ConnectionRefusedError) as refused:
        await pinned(SocketAddress("127.0.0.1", free_port()), f"sha256:{'0' * 64}")

    assert why_not(refused.value).startswith("Connection refused: Connect call failed ('127.0.0.1'")


async def test_an_expired_ca_is_refused(tmp_path: Path) -> None:
    """A certificate that is over proves nothing, whoever pinned it."""
    root = made("root", start=_now(-10), end=_now(10))
    by = _authority(root, key=root.key)
    expired = made("root", key=root.key, start=_now(-10), end=_now(-1))
    async with serving(by, tmp_path) as server:
        with pytest.raises(ConfigurationError, match="certificate has expired"):
            await verify(server, expired.pem)


@pytest.mark.parametrize(
    ("days", "side"),
    [(-3, r"2d\w* after the end"), (3, r"2d23h5[45]m\w* before the begin")],
    ids=["ahead", "behind"],
)
async def test_clocks_that_disagree_are_said_to(tmp_path: Path, days: int, side: str) -> None:
    """A right server is not called a wrong one: the sentence has both times and their distance."""
    root = made("root", start=_now(-9), end=_now(9))
    by = _authority(root, key=root.key)
    async with serving(by, tmp_path, days) as server:
        with pytest.raises(ConfigurationError) as refused:
            await pinned(server, by.fingerprint)

    assert re.fullmatch(
        rf"clock of this machine says \S+Z, which is {side} of the certificate of server {server} "
        r"\(valid from \S+Z to \S+Z\), so the join token was not sent: set the clock here, or on "
        "the server if that one is wrong",
        str(refused.value),
    )


def test_a_ca_file_is_read_or_refused_in_a_sentence(root: Maker, tmp_path: Path) -> None:
    """What is wrong with the file is said before a server is asked."""
    file = tmp_path / "ca.pem"
    with pytest.raises(ConfigurationError, match="cannot be read: No such file or directory"):
        roots_from_file(file)
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"not X\.509 certificates in PEM"):
        roots_from_file(file)
    file.write_bytes(root.pem)

    assert roots_from_file(file) == root.pem


async def test_grpc_takes_a_pinned_intermediate_for_a_root(root: Maker) -> None:
    """The pin would be worth nothing if the channel that carries the token could not use it."""
    intermediate = made("intermediate", by=root, start=_now(-1), end=_now(5))
    by = _authority(intermediate, root, key=intermediate.key)
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, (SERVER_NAME,), ())
    leaf = issue(by, Profile(), request, key=new_key_pair, now=datetime.now(UTC), serial=2)
    pair = (leaf.private_key_pem or b"", leaf.certificate_chain_pem)
    server = grpc.aio.server()
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    place = SocketAddress("127.0.0.1", port)
    roots = (await pinned(place, by.fingerprint)).roots
    async with anonymous_channel(place, roots) as channel:
        async with asyncio.timeout(10):
            await channel.channel_ready()
    await server.stop(None)

    assert roots == intermediate.pem


async def test_a_server_that_says_nothing_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind a firewall is given up after a while, with a reason that says where it is."""
    monkeypatch.setattr(pin, "HANDSHAKE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = SocketAddress("127.0.0.1", silent.getsockname()[1])
        with pytest.raises(TimeoutError) as given_up:
            await pinned(server, f"sha256:{'0' * 64}")

    assert why_not(given_up.value) == f"no answer from {server} within 0.2 s"


@pytest.mark.parametrize(
    ("answer", "why"),
    [(b"", "the server hung up"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "WRONG_VERSION_NUMBER")],
)
async def test_a_port_without_tls_is_said_to_be_none_to_enrol_at(answer: bytes, why: str) -> None:
    """Whether it hangs up on who greets or has an answer of its own, the port may be mistyped."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as plain:
        server = SocketAddress("127.0.0.1", plain.sockets[0].getsockname()[1])
        with pytest.raises(ConnectionResetError) as refused:
            await pinned(server, f"sha256:{'0' * 64}")

    assert why_not(refused.value) == f"no TLS handshake: {why} ({WRONG_PORT})"


async def test_an_address_that_does_not_answer_keeps_nobody_from_the_next(
    root: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that has several addresses is reached by one that leads to it."""
    by = _authority(root, key=root.key)
    async with serving(by, tmp_path) as server:
        with silent("127.0.0.2", server.port) as nowhere:
            places = [
                (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, server.port))
                for host in (nowhere, server.host)
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
            named = SocketAddress("control-plane.example", server.port)

            proven = await pinned(named, by.fingerprint)

    assert proven == (root.pem, server, "127.0.0.1")


@contextmanager
def silent(host: str, port: int) -> Iterator[str]:
    """Return an address where nobody answers, as behind a firewall: no more fit into its queue."""
    with socket.create_server((host, port), backlog=0), socket.socket() as waiting:
        waiting.connect((host, port))
        yield host
