"""An operator's CA: it is used if and only if everybody believes what it signs.

The rule of this module: the judges are those whom it concerns, and not we. Envoy and the ports of
the control plane have BoringSSL, most apps OpenSSL.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

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
from tests.needs import need_command
from tests.unit.ca.forge import Extension, Maker, conforming, made, name

START, END = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(days=1)
ROOT, CA = new_key_pair(), new_key_pair()


def key_identifier(key: KeyPair) -> x509.SubjectKeyIdentifier:
    """Return what names a key."""
    return x509.SubjectKeyIdentifier.from_public_key(key.public.key)


def issuer(key: KeyPair, directory: str, serial: int) -> x509.AuthorityKeyIdentifier:
    """Return what names an issuer, whose own certificate has serial number 1, in all three ways."""
    names = [x509.DirectoryName(name(directory))]
    return x509.AuthorityKeyIdentifier(key_identifier(key).digest, names, serial)


LIST = [
    x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.example")], None, None, None)
]
ACCESS = x509.AccessDescription(
    AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://ocsp.example")
)
POLICY = x509.PolicyInformation(x509.ObjectIdentifier("1.2.3.4"), None)
BOTH = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
MAPPED = bytes.fromhex("300c300a06032a030406032a0305")

CASES: dict[str, Extension] = {
    "a policy that is wanted at once": (x509.PolicyConstraints(0, None), True),
    "a policy that is wanted of leaves": (x509.PolicyConstraints(1, None), True),
    "a policy that is wanted further below": (x509.PolicyConstraints(2, None), True),
    "a policy that is not mapped": (x509.PolicyConstraints(None, 0), True),
    "policies": (x509.CertificatePolicies([POLICY]), True),
    "no other policy": (x509.InhibitAnyPolicy(0), True),
    "mappings": (x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.33"), MAPPED), True),
    "names": (x509.SubjectAlternativeName([x509.DNSName("ca.example")]), True),
    "excluded names": (x509.NameConstraints(None, [x509.DNSName("example.com")]), True),
    "usages": (x509.ExtendedKeyUsage(BOTH), True),
    "a list": (x509.CRLDistributionPoints(LIST), False),
    "a list that is critical": (x509.CRLDistributionPoints(LIST), True),
    "the newest list": (x509.FreshestCRL(LIST), True),
    "where to ask": (x509.AuthorityInformationAccess([ACCESS]), True),
    "names of the issuer": (x509.IssuerAlternativeName([x509.DNSName("root.example")]), True),
    "its key": (key_identifier(CA), True),
    "the key of its issuer": (issuer(ROOT, "root", 1), True),
    "its issuer": (issuer(ROOT, "root", 1), False),
    "its issuer with the serial number of before": (issuer(ROOT, "root", 2), False),
    "its issuer with the name of another": (issuer(ROOT, "other", 1), False),
    "its issuer with the key of another": (issuer(CA, "root", 1), False),
    "an issuer with a serial number only": (
        x509.AuthorityKeyIdentifier(None, [x509.DirectoryName(name("root"))], 1),
        False,
    ),
}


@dataclass(frozen=True, slots=True)
class Chain:
    """A CA and the root above it."""

    ca: Maker
    root: Maker

    def loaded(self) -> Authority | None:
        """Return the authority that they are, or None if it is refused."""
        with suppress(ConfigurationError):
            pem = self.ca.pem + self.root.pem
            return load_authority(pem, CA.private_pem(), now=datetime.now(UTC))
        return None

    def unasked(self) -> Authority:
        """Return the authority that they are, whatever is wrong with it."""
        ca, root = self.ca.certificate, self.root.certificate
        return Authority(ca, CA, chain=(ca,), roots=(root,))


def path_with(special: Extension) -> Chain:
    """Return a CA with an extension of its own, in the place of the usual one of its kind."""
    root = made("root", key=ROOT, extensions=conforming(ROOT), start=START, end=END)
    kept = [each for each in conforming(CA, by=ROOT) if each[0].oid != special[0].oid]
    ca = made("ca", by=root, key=CA, extensions=[*kept, special], start=START, end=END)
    return Chain(ca, root)


async def is_believed_by_openssl(authority: Authority, directory: Path) -> bool:
    """Tell whether OpenSSL verifies a leaf."""
    leaf = leaf_of(authority)
    chain, roots = directory / "chain.pem", directory / "roots.pem"
    chain.write_bytes(leaf[1])
    roots.write_bytes(authority.trust_bundle_pem)
    verify = await asyncio.create_subprocess_exec(
        need_command("openssl", "openssl"),
        *("verify", "-CAfile", str(roots), "-untrusted", str(chain), str(chain)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await verify.wait() == 0


async def is_believed_by_boringssl(authority: Authority) -> bool:
    """Tell whether gRPC verifies a leaf in a handshake."""
    server = grpc.aio.server()
    credentials = grpc.ssl_server_credentials([leaf_of(authority)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        roots = grpc.ssl_channel_credentials(authority.trust_bundle_pem)
        async with grpc.aio.secure_channel(f"localhost:{port}", roots) as channel:
            state = channel.get_state(try_to_connect=True)
            while state not in (
                grpc.ChannelConnectivity.READY,
                grpc.ChannelConnectivity.TRANSIENT_FAILURE,
            ):
                await channel.wait_for_state_change(state)
                state = channel.get_state()
            return state is grpc.ChannelConnectivity.READY
    finally:
        await server.stop(None)


def leaf_of(authority: Authority) -> tuple[bytes, bytes]:
    """Return key and chain of a server below a CA."""
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, ("localhost",), ())
    leaf = issue(authority, Profile(), request, key=new_key_pair, now=datetime.now(UTC), serial=2)
    return leaf.private_key_pem or b"", leaf.certificate_chain_pem


@pytest.mark.parametrize("case", CASES)
async def test_an_own_ca_is_used_if_everybody_believes_it(tmp_path: Path, case: str) -> None:
    """A CA is accepted exactly if OpenSSL and BoringSSL both believe what it signs."""
    path = path_with(CASES[case])
    authority = path.loaded() or path.unasked()
    believed = (
        await is_believed_by_openssl(authority, tmp_path),
        await is_believed_by_boringssl(authority),
    )

    assert (path.loaded() is not None) == all(believed)
