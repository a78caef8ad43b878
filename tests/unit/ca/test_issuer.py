"""Issuing from end to end, judged by the openssl command and by real TLS handshakes."""

from __future__ import annotations

import contextlib
import re
import ssl
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    C2CRequest,
    IdentityRequest,
    KeyPair,
    Leaf,
    OperatorRequest,
    Profile,
    ServerRequest,
    create_authority,
    issue,
    load_authority,
    make_csr,
    new_key_pair,
    parse_csr,
    read_certificate,
)
from control_plane.errors import IssuanceError
from tests.needs import need_command
from tests.unit.ca.forge import NOW, conforming, handshake_size, made

REAL_NOW = datetime.now(UTC)
"""OpenSSL has a clock of its own."""

GUID = "b66d0aa2-cf1f-4b4e-6029-b6c5"


def openssl(*arguments: str | Path) -> str:
    """Run the openssl command and return what it prints."""
    command = [need_command("openssl", "openssl"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def trusted(kind: str, rsa_key: KeyPair) -> Authority:
    """Return an authority of that kind, valid now."""
    start, end = REAL_NOW - timedelta(hours=1), REAL_NOW + timedelta(days=30)
    match kind:
        case "embedded":
            return create_authority(
                "c2c CA", now=REAL_NOW, lifetime=timedelta(days=30), key=new_key_pair(), serial=1
            )
        case "rsa":
            root = made("root", key=rsa_key, extensions=conforming(rsa_key), start=start, end=end)
            return load_authority(root.pem, rsa_key.private_pem(), now=REAL_NOW)
        case _:
            root = made("root", key=rsa_key, extensions=conforming(rsa_key), start=start, end=end)
            key = new_key_pair()
            extensions = conforming(key, by=rsa_key)
            ca = made("ca", by=root, key=key, extensions=extensions, start=start, end=end)
            return load_authority(ca.pem + root.pem, ca.key.private_pem(), now=REAL_NOW)


@pytest.fixture(params=["embedded", "rsa", "intermediate"])
def any_authority(request: pytest.FixtureRequest, rsa_key: KeyPair) -> Authority:
    """Return each kind of authority in turn."""
    return trusted(request.param, rsa_key)


def test_openssl_reads_what_we_mean(
    authority: Authority, profile: Profile, request_c2c: C2CRequest, tmp_path: Path
) -> None:
    """The openssl command shows each field as Cloud Foundry has it (C2, C3, C4, C6, C7, C8)."""
    serial = 0x7B00D2B44E0C4C6BA8C7D4E6F9A8B7C6
    leaf = issue(authority, profile, request_c2c, key=new_key_pair, now=NOW, serial=serial)
    path = tmp_path / "leaf.pem"
    path.write_bytes(leaf.certificate_chain_pem)

    text = openssl("x509", "-in", path, "-noout", "-text")
    # OpenSSL 3.2 dropped the spaces around the sign.
    lines = [line.strip().replace(" = ", "=") for line in text.splitlines()]

    def after(heading: str) -> str:
        return lines[lines.index(heading) + 1]

    assert after("Serial Number:").replace(":", "") == f"{serial:x}"
    assert "Issuer: CN=c2c CA" in lines
    assert (
        f"Subject: OU=space:dev + OU=organization:acme + OU=app:{request_c2c.app_guid}, CN={GUID}"
    ) in lines
    assert "Not Before: Mar  1 11:55:00 2026 GMT" in lines
    assert "Not After : Mar  2 12:00:00 2026 GMT" in lines
    assert "ASN1 OID: prime256v1" in lines
    assert after("X509v3 Key Usage: critical") == "Digital Signature"
    assert after("X509v3 Extended Key Usage:") == (
        "TLS Web Client Authentication, TLS Web Server Authentication"
    )
    assert after("X509v3 Subject Alternative Name:") == (
        f"DNS:{GUID}, DNS:0.app-b.apps.internal, DNS:app-b.apps.internal, IP Address:10.255.1.7"
    )
    assert "X509v3 Basic Constraints" not in text
    assert "Signature Algorithm: ecdsa-with-SHA256" in lines


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_verifies(
    any_authority: Authority, request_c2c: C2CRequest, tmp_path: Path, purpose: str
) -> None:
    """The chain verifies for servers and clients, strictly, by the trust bundle alone."""
    leaf = issue(
        any_authority, Profile(), request_c2c, key=new_key_pair, now=REAL_NOW, serial=2**126
    )
    bundle, chain = tmp_path / "bundle.pem", tmp_path / "chain.pem"
    bundle.write_bytes(any_authority.trust_bundle_pem)
    chain.write_bytes(leaf.certificate_chain_pem)
    flags = ["-x509_strict", "-purpose", purpose, "-verify_hostname", "0.app-b.apps.internal"]

    openssl("verify", *flags, "-CAfile", bundle, "-untrusted", chain, chain)


def context_of(leaf: Leaf, tmp_path: Path, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a TLS server with a leaf."""
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    assert leaf.private_key_pem is not None
    chain.write_bytes(leaf.certificate_chain_pem)
    key.write_bytes(leaf.private_key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(chain, key)
    return context


def handshake(server_context: ssl.SSLContext, authority: Authority, hostname: str) -> bytes:
    """Shake hands in memory as a client that verifies fully; return all that the server sent."""
    client_context = ssl.create_default_context(cadata=authority.trust_bundle_pem.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=hostname)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    sent = b""
    for end in (client, server) * 3:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
        if end is server:
            flight = to_client.read()
            sent += flight
            to_client.write(flight)
    assert client.version() == server.version()
    return sent


def certificate_list_bytes(flight: bytes) -> int:
    """Return the length of the certificate list in a TLS 1.2 server's first flight."""
    records = []
    while flight:
        length = int.from_bytes(flight[3:5])
        if flight[0] == 22:
            records.append(flight[5 : 5 + length])
        flight = flight[5 + length :]
    messages = b"".join(records)
    while messages[0] != 11:
        messages = messages[4 + int.from_bytes(messages[1:4]) :]
    return int.from_bytes(messages[4:7])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str)
@pytest.mark.parametrize(
    "hostname", [GUID, "app-b.apps.internal", "0.app-b.apps.internal", "10.255.1.7"], ids=str
)
def test_handshake(
    any_authority: Authority,
    request_c2c: C2CRequest,
    tmp_path: Path,
    hostname: str,
    version: ssl.TLSVersion,
) -> None:
    """A client that trusts the bundle only reaches the instance by each of its names (C3 to C5)."""
    leaf = issue(any_authority, Profile(), request_c2c, key=new_key_pair, now=REAL_NOW, serial=1)

    handshake(context_of(leaf, tmp_path, version), any_authority, hostname)


@pytest.mark.parametrize("hostname", ["app-c.apps.internal", "1.app-b.apps.internal", "10.255.1.8"])
def test_handshake_with_another_name(
    request_c2c: C2CRequest, rsa_key: KeyPair, tmp_path: Path, hostname: str
) -> None:
    """A client that looks for another app, instance or address refuses the certificate."""
    authority = trusted("embedded", rsa_key)
    leaf = issue(authority, Profile(), request_c2c, key=new_key_pair, now=REAL_NOW, serial=1)

    with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
        handshake(context_of(leaf, tmp_path, ssl.TLSVersion.TLSv1_3), authority, hostname)


def test_the_size_is_that_of_the_handshake(
    any_authority: Authority, request_c2c: C2CRequest, tmp_path: Path
) -> None:
    """What is measured is what goes over the wire, and what TLS 1.3 adds to each certificate."""
    names = tuple(f"app-{number}.apps.internal" for number in range(100))
    request = replace(request_c2c, hostnames=names)
    leaf = issue(any_authority, Profile(), request, key=new_key_pair, now=REAL_NOW, serial=1)

    flight = handshake(
        context_of(leaf, tmp_path, ssl.TLSVersion.TLSv1_2), any_authority, "app-7.apps.internal"
    )

    certificates = 1 + len(any_authority.chain)
    measured = handshake_size(leaf.certificate_chain_pem)
    assert certificate_list_bytes(flight) == measured - 2 * certificates


def test_identity_for_a_csr(authority: Authority, profile: Profile, rsa_key: KeyPair) -> None:
    """An identity certificate is for the key of the CSR, whatever its kind; no key comes back."""
    request = IdentityRequest(DEFAULT_TRUST_DOMAIN, GUID, "app", "acme", "dev", "10.255.1.7")

    for key in (new_key_pair(), rsa_key):
        public = parse_csr(make_csr(key))
        leaf = issue(authority, profile, request, key=public, now=NOW, serial=1)
        assert leaf.private_key_pem is None
        assert read_certificate(leaf.certificate_chain_pem).public_key == key.public


def test_identity_with_its_own_key(authority: Authority, profile: Profile) -> None:
    """The same identity can be issued with a key of ours, for the ports from 61001."""
    request = IdentityRequest(DEFAULT_TRUST_DOMAIN, GUID, "app", "acme", "dev", "10.255.1.7")
    leaf = issue(authority, profile, request, key=new_key_pair, now=NOW, serial=1)

    assert leaf.private_key_pem is not None
    assert leaf.san.uris == (f"spiffe://c2c.internal/app/app/instance/{GUID}",)


def test_operator_and_server(authority: Authority, profile: Profile, tmp_path: Path) -> None:
    """An operator's certificate proves clients only, and the control plane's servers only."""
    server = ServerRequest(DEFAULT_TRUST_DOMAIN, ("control-plane",), ("127.0.0.1",))
    operator = OperatorRequest(DEFAULT_TRUST_DOMAIN, "jane")
    path = tmp_path / "leaf.pem"

    for request, usage in ((server, "Server"), (operator, "Client")):
        leaf = issue(authority, profile, request, key=new_key_pair, now=NOW, serial=1)
        path.write_bytes(leaf.certificate_chain_pem)
        text = openssl("x509", "-in", path, "-noout", "-ext", "extendedKeyUsage")
        assert re.findall("TLS Web ([a-zA-Z]+) Auth", text) == [usage]


def test_each_leaf_has_its_own_key(
    authority: Authority, profile: Profile, request_c2c: C2CRequest
) -> None:
    """Every certificate has a new key, also for the same request at the same moment."""
    one, other = (
        issue(authority, profile, request_c2c, key=new_key_pair, now=NOW, serial=serial)
        for serial in (1, 2)
    )

    assert one.private_key_pem != other.private_key_pem


def test_same_arguments_same_certificate(
    profile: Profile, rsa_key: KeyPair, request_c2c: C2CRequest
) -> None:
    """With the same key, and a CA whose signatures have no chance in them, the bytes are equal."""
    authority = create_authority("CA", now=NOW, lifetime=timedelta(9), key=rsa_key, serial=1)
    key = new_key_pair()

    def once() -> Leaf:
        return issue(authority, profile, request_c2c, key=lambda: key, now=NOW, serial=1)

    assert once() == once()


def test_issue_refuses(authority: Authority, profile: Profile, request_c2c: C2CRequest) -> None:
    """Nothing is issued with a serial that is none, or by a CA that ended."""
    with pytest.raises(IssuanceError, match="serial must be positive"):
        issue(authority, profile, request_c2c, key=new_key_pair, now=NOW, serial=0)
    with pytest.raises(IssuanceError, match="the CA is not valid after"):
        issue(
            authority,
            profile,
            request_c2c,
            key=new_key_pair,
            now=NOW + timedelta(days=3650),
            serial=1,
        )


def test_lint_stands_between_signing_and_publishing(
    authority: Authority, profile: Profile, request_c2c: C2CRequest
) -> None:
    """A key that the linter would not publish does not leave, though it could be signed."""
    weak = KeyPair(rsa.generate_private_key(65537, 1024))  # noqa: S505 - to be refused

    with pytest.raises(IssuanceError, match="private key: RSA key must have 2048 to 8192 bits"):
        issue(authority, profile, request_c2c, key=lambda: weak, now=NOW, serial=1)
