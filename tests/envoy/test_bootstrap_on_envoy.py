"""What the bootstrap promises about the connection to the control plane, on a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from control_plane.envoy import bootstrap
from tests.envoy.ads import FakeAds, fake_ads
from tests.envoy.certificates import Authority, Pair
from tests.envoy.harness import Envoy, envoy_release, start_envoy, until

SERVER = "spiffe://apps.internal/control-plane"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An Envoy that connects to a control plane over mTLS, with files that may be replaced."""

    envoy: Envoy
    ads: FakeAds
    files: bootstrap.XdsIdentity

    def renew(self, identity: Pair) -> None:
        """Replace the identity as a sidecar does: write beside it, then rename."""
        _replace(self.files.identity_file, _identity(identity))

    def trust(self, authority: Authority) -> None:
        """Replace what the Envoy trusts."""
        _replace(self.files.trust_file, bootstrap.trust_file(authority.pem.decode()))

    async def stream(self, number: int) -> int:
        """Wait for the n-th stream, and return the serial number of the certificate on it."""

        async def probe() -> bool:
            return len(self.ads.peers) >= number

        await until(probe, what=f"stream {number}")
        return x509.load_pem_x509_certificate(self.ads.peers[number - 1]).serial_number


@contextlib.asynccontextmanager
async def _enrolled(
    directory: Path, server: Pair, clients: Authority, trusted: Authority, identity: Pair
) -> AsyncIterator[Enrolled]:
    """Run an Envoy with an identity against a control plane that demands one."""
    credentials = grpc.ssl_server_credentials(
        [(server.key, server.chain)], clients.pem, require_client_auth=True
    )
    files = bootstrap.XdsIdentity(directory / "identity.json", directory / "trust.json", SERVER)
    _replace(files.identity_file, _identity(identity))
    _replace(files.trust_file, bootstrap.trust_file(trusted.pem.decode()))
    async with (
        fake_ads(credentials) as ads,
        start_envoy(partial(ads.bootstrap, tls=files)) as envoy,
    ):
        yield Enrolled(envoy, ads, files)


def _identity(pair: Pair) -> str:
    return bootstrap.identity_file(pair.chain.decode(), pair.key.decode())


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


async def test_a_renewed_identity_is_shown_on_the_next_stream(tmp_path: Path) -> None:
    """K5: a new identity is picked up from its file, and a new stream is a new handshake."""
    authority = Authority()
    server = authority.issue("control-plane", uris=[SERVER])
    old, new = authority.issue("instance-1"), authority.issue("instance-1")
    async with _enrolled(tmp_path, server, authority, authority, old) as enrolled:
        assert await enrolled.stream(1) == old.serial

        enrolled.renew(new)
        await enrolled.envoy.wait_for(
            lambda stats: stats.get("sds.identity.update_success") == 2,
            what="the new identity is read",
            prefix="sds.identity",
        )
        await enrolled.ads.hang_up()

        assert await enrolled.stream(2) == new.serial
        assert await enrolled.envoy.restart_epoch() == 0


async def test_a_new_ca_is_trusted_without_a_restart(tmp_path: Path) -> None:
    """An Envoy that does not trust the control plane's CA connects once its trust file does."""
    right, wrong = Authority("right"), Authority("wrong")
    server = right.issue("control-plane", uris=[SERVER])
    async with _enrolled(tmp_path, server, right, wrong, right.issue("instance-1")) as enrolled:
        await enrolled.envoy.wait_for(
            lambda stats: stats.get("cluster.control-plane.ssl.fail_verify_error", 0) > 0,
            what="the control plane is refused",
            prefix="cluster.control-plane.ssl",
        )
        assert enrolled.ads.peers == []

        enrolled.trust(right)

        await enrolled.stream(1)


async def test_a_server_with_another_name_is_refused(tmp_path: Path) -> None:
    """A certificate of the right CA for somebody else (an app instance) is no control plane."""
    authority = Authority()
    somebody = authority.issue("control-plane", uris=["spiffe://apps.internal/app/a/instance/1"])
    identity = authority.issue("instance-1")
    async with _enrolled(tmp_path, somebody, authority, authority, identity) as enrolled:
        await enrolled.envoy.wait_for(
            lambda stats: stats.get("cluster.control-plane.ssl.fail_verify_san", 0) > 0,
            what="the control plane's name is refused",
            prefix="cluster.control-plane.ssl",
        )
        assert enrolled.ads.peers == []


@pytest.mark.skipif(envoy_release() < (1, 38), reason="delta streams repeat it before Envoy 1.38")
async def test_the_node_is_sent_once_for_each_stream() -> None:
    """N3: with set_node_on_first_message_only the 61 KB of node come in the first request only."""
    async with fake_ads() as ads, start_envoy(ads.bootstrap) as envoy:
        await envoy.wait_live()
        await ads.hang_up()

        async def probe() -> bool:
            return len(ads.peers) == 2 and len(ads.streams[-1].names) == 2

        await until(probe, what="the second stream has both subscriptions")

    assert ads.nodes == ["instance-1", "instance-1"]


async def test_a_host_name_is_resolved() -> None:
    """The control plane may be named: Envoy then resolves the name itself."""
    async with fake_ads() as ads:
        named = partial(ads.bootstrap, host="localhost")
        async with start_envoy(named) as envoy, asyncio.timeout(20):
            await envoy.wait_live()

    assert set(ads.nodes) == {"instance-1"}


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
async def test_each_address_of_a_name_is_tried(address: str) -> None:
    """A name may have addresses of both families, and one of them lead nowhere from here."""
    async with fake_ads(address=address) as ads:
        # It means 127.0.0.1 and ::1 everywhere (RFC 6761, section 6.3).
        named = partial(ads.bootstrap, host="localhost")
        async with start_envoy(named) as envoy, asyncio.timeout(20):
            await envoy.wait_live()

    assert set(ads.nodes) == {"instance-1"}
