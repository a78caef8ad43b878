"""An operator's CA: what is accepted, and everything that is wrong with what is not."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from control_plane.ca import Authority, KeyPair, load_authority, load_trusted, new_key_pair
from control_plane.errors import ConfigurationError
from tests.needs import need_command
from tests.unit.ca.forge import CA, NOW, Extensions, Maker, ca_pem, key_usage, made

_BROKEN = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"


def problems_of(cert_pem: bytes, key_pem: bytes) -> tuple[str, ...]:
    """Return why an authority cannot be loaded."""
    with pytest.raises(ConfigurationError) as caught:
        load_authority(cert_pem, key_pem, now=NOW)
    return caught.value.problems


def loaded(*path: Maker) -> Authority:
    """Load the authority whose path, from the CA up to the root, these are."""
    return load_authority(b"".join(maker.pem for maker in path), path[0].key.private_pem(), now=NOW)


def test_embedded_ca_after_a_restart(authority: Authority) -> None:
    """What the embedded CA wrote is loaded as the same authority."""
    again = load_authority(ca_pem(authority), authority.key.private_pem(), now=NOW)

    assert again.fingerprint == authority.fingerprint
    assert again.sent_pem == authority.sent_pem
    assert again.trust_bundle_pem == authority.trust_bundle_pem


def test_intermediate() -> None:
    """An intermediate is sent with all above it but the root, and the root is what is trusted."""
    root = made("root")
    middle = made("middle", by=root)
    ca = made("ca", by=middle)
    authority = loaded(ca, middle, root)

    assert authority.sent_pem == ca.pem + middle.pem
    assert authority.trust_bundle_pem == root.pem


def test_rsa_and_p384(rsa_key: KeyPair, p384_key: KeyPair) -> None:
    """The keys of an operator's CAs may be of several kinds, in one path too."""
    root = made("root", key=rsa_key)

    assert loaded(root).key.public == rsa_key.public
    assert loaded(made("ca", by=root, key=p384_key), root).key.public == p384_key.public


def test_what_openssl_req_makes(tmp_path: Path) -> None:
    """The CA of the usual one-line openssl command is accepted."""
    key, certificate = tmp_path / "ca.key", tmp_path / "ca.pem"
    command = [need_command("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048"]
    command += ["-nodes", "-subj", "/CN=mine"]
    command += ["-days", "3650", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    made_at = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_before_utc

    authority = load_authority(certificate.read_bytes(), key.read_bytes(), now=made_at)

    assert authority.certificate.subject.rfc4514_string() == "CN=mine"


def openssl(*words: str | Path) -> None:
    """Run the command; it has to do well."""
    command = [need_command("openssl", "openssl"), *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


def intermediate_of_openssl(
    directory: Path, *, root: str = "sha256", signed: str = "sha256", bits: int = 2048
) -> tuple[bytes, bytes]:
    """Return the path and the key of an intermediate.

    Args:
        root: the digest with which its root signed itself.
        signed: the digest with which it signed the intermediate.
        bits: the size of the root's RSA key.
    """
    root_key, root_pem = directory / "root.key", directory / "root.pem"
    key, csr, pem = directory / "ca.key", directory / "ca.csr", directory / "ca.pem"
    extensions = directory / "extensions"
    extensions.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
    new = ("req", "-nodes", "-newkey")
    openssl(*new, f"rsa:{bits}", "-x509", f"-{root}", "-subj", "/CN=root", "-days", "30",
            "-keyout", root_key, "-out", root_pem)  # fmt: skip
    openssl(*new, "rsa:2048", "-subj", "/CN=ca", "-keyout", key, "-out", csr)
    openssl("x509", "-req", f"-{signed}", "-in", csr, "-CA", root_pem, "-CAkey", root_key,
            "-days", "20", "-extfile", extensions, "-out", pem)  # fmt: skip
    return pem.read_bytes() + root_pem.read_bytes(), key.read_bytes()


def is_verified(directory: Path) -> bool:
    """Tell whether OpenSSL verifies that intermediate at the level that systems have."""
    command = [need_command("openssl", "openssl"), "verify", "-auth_level", "2"]
    command += ["-CAfile", str(directory / "root.pem"), str(directory / "ca.pem")]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_a_root_that_signed_itself_long_ago(tmp_path: Path) -> None:
    """Nobody verifies that signature, so it may be one that nobody would take any more."""
    path, key = intermediate_of_openssl(tmp_path, root="sha1")

    authority = load_authority(path, key, now=datetime.now(UTC))

    assert [each.subject.rfc4514_string() for each in authority.roots] == ["CN=root"]
    assert is_verified(tmp_path)


@pytest.mark.parametrize(
    ("weakness", "problem"),
    [
        ({"signed": "sha1"}, "'CN=ca' is signed with SHA-1 or MD5, which no client takes"),
        ({"signed": "md5"}, "'CN=ca' is signed with SHA-1 or MD5, which no client takes"),
        (
            {"bits": 1024},
            "'CN=root' has an RSA key of 1024 bits, and clients take none of less than 2048",
        ),
    ],
    ids=["SHA-1", "MD5", "key"],
)
def test_a_path_that_is_too_weak_for_clients(
    tmp_path: Path, weakness: dict[str, Any], problem: str
) -> None:
    """Whatever it signs would be refused, by OpenSSL to begin with."""
    path, key = intermediate_of_openssl(tmp_path, **weakness)

    with pytest.raises(ConfigurationError) as refused:
        load_authority(path, key, now=datetime.now(UTC))

    assert refused.value.problems == (f"CA certificate {problem}",)
    assert not is_verified(tmp_path)


def test_a_weak_signature_is_at_least_by_the_next_one(tmp_path: Path) -> None:
    """An old root with another after it is no path, though nobody verifies how it signed itself."""
    path, key = intermediate_of_openssl(tmp_path, root="sha1")

    with pytest.raises(ConfigurationError) as refused:
        load_authority(path + made("other").pem, key, now=None)

    assert refused.value.problems == (
        "CA certificate 'CN=root' was not issued by the next one in its file, 'CN=other'",
    )


def test_a_signature_of_an_unknown_kind() -> None:
    """A path that nobody here can verify is none."""
    der = made("ca").certificate.public_bytes(Encoding.DER)
    ecdsa_with_sha256 = bytes.fromhex("06082a8648ce3d040302")
    unknown = der.replace(ecdsa_with_sha256, ecdsa_with_sha256[:-1] + b"\x7f")
    pem = x509.load_der_x509_certificate(unknown).public_bytes(Encoding.PEM)

    assert "append the certificates up to the root" in problems_of(pem, b"")[0]


@pytest.mark.parametrize(
    "extensions",
    [
        [(key_usage(key_cert_sign=True), True)],
        [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)],
        [
            (
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                False,
            )
        ],
        [(x509.NameConstraints(None, [x509.DNSName("example.com")]), True)],
        [(x509.NameConstraints(None, [x509.IPAddress(IPv4Network("192.0.2.0/24"))]), True)],
    ],
    ids=["key-usage", "any-usage", "both-usages", "excluded-names", "excluded-addresses"],
)
def test_harmless_restrictions(extensions: Extensions) -> None:
    """A CA may be restricted, as long as our leaves keep within it."""
    assert loaded(made("ca", extensions=[*CA, *extensions])).certificate.subject


@pytest.mark.parametrize(
    ("extensions", "problem"),
    [
        ([], "CA certificate 'CN=ca' is not a CA (basic constraints)"),
        (
            [(x509.BasicConstraints(ca=False, path_length=None), True)],
            "CA certificate 'CN=ca' is not a CA (basic constraints)",
        ),
        (
            [*CA, (key_usage(key_cert_sign=False), True)],
            "CA certificate 'CN=ca' may not sign certificates (key usage)",
        ),
        (
            [*CA, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
            "CA certificate 'CN=ca' is not for TLS servers and clients both (extended key usage)",
        ),
        (
            [*CA, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)],
            "CA certificate 'CN=ca' is not for TLS servers and clients both (extended key usage)",
        ),
        (
            [*CA, (x509.NameConstraints([x509.DNSName("apps.internal")], None), True)],
            (
                "CA certificate 'CN=ca' permits certain names only, which GUIDs and addresses are "
                "not (name constraints)"
            ),
        ),
        (
            [*CA, (x509.NameConstraints(None, [x509.IPAddress(IPv4Network("0.0.0.0/0"))]), True)],
            (
                "CA certificate 'CN=ca' excludes every address, and each leaf has one "
                "(name constraints)"
            ),
        ),
    ],
    ids=[
        "no-constraints",
        "no-ca",
        "no-cert-sign",
        "servers-only",
        "clients-only",
        "permitted-names",
        "excluded-addresses",
    ],
)
def test_certificates_that_no_client_takes_as_a_ca(extensions: Extensions, problem: str) -> None:
    """What would make clients refuse every leaf is found when the CA is loaded."""
    ca = made("ca", extensions=extensions)

    assert problems_of(ca.pem, ca.key.private_pem()) == (problem,)


@pytest.mark.parametrize(
    ("subtree", "is_excluded"),
    [
        ("apps.internal", True),
        (".apps.internal", True),
        ("INTERNAL", True),
        ("", True),
        ("a.apps.internal", False),
        ("s.internal", False),
    ],
)
def test_an_internal_domain_that_is_excluded(subtree: str, *, is_excluded: bool) -> None:
    """No client would take the name of any route in it; of single hosts that is for others."""
    names = x509.NameConstraints(None, [x509.DNSName(subtree)])
    ca = made("ca", extensions=[*CA, (names, True)])
    domains = ("apps.internal", "example.com") if subtree else ("apps.internal",)
    found: tuple[str, ...] = ()
    try:
        load_authority(ca.pem, ca.key.private_pem(), now=NOW, domains=domains)
    except ConfigurationError as error:
        found = error.problems

    problem = "CA certificate 'CN=ca' excludes the internal domain 'apps.internal'"
    assert found == ((f"{problem} (name constraints)",) if is_excluded else ())


@pytest.mark.parametrize("is_critical", [True, False], ids=["critical", "not critical"])
def test_an_extension_that_nobody_knows(*, is_critical: bool) -> None:
    """Clients refuse it if it is critical, and pass over it if it is not."""
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
    ca = made("ca", extensions=[*CA, (unknown, is_critical)])
    if not is_critical:
        assert loaded(ca).certificate == ca.certificate
        return

    assert problems_of(ca.pem, ca.key.private_pem()) == (
        (
            "CA certificate 'CN=ca' has the critical extension 1.2.3.4.5, and clients refuse what "
            "they do not know"
        ),
    )


def test_an_rsa_key_that_is_for_pss_only(tmp_path: Path) -> None:
    """Its leaves would be signed with PKCS #1 v1.5, and no client takes that of such a key."""
    key, certificate = tmp_path / "ca.key", tmp_path / "ca.pem"
    openssl("req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-nodes",
            "-subj", "/CN=pss", "-days", "30", "-keyout", key, "-out", certificate)  # fmt: skip

    with pytest.raises(ConfigurationError) as refused:
        load_authority(certificate.read_bytes(), key.read_bytes(), now=datetime.now(UTC))
    assert refused.value.problems == (
        (
            "CA certificate 'CN=pss' has an RSA key that is for PSS only, by which leaves are not "
            "signed and which not every client takes"
        ),
    )


def test_validity() -> None:
    """A CA that expired, or is not valid yet, is refused with the date and what the clock says."""
    moment = timedelta(seconds=1)
    old = made("old", end=NOW)
    new = made("new", start=NOW + moment)

    assert problems_of(old.pem, old.key.private_pem()) == (
        (
            "CA certificate 'CN=old' expired on 2026-03-01T12:00:00Z, and the clock of this "
            "machine says 2026-03-01T12:00:00Z: set the clock if it is wrong"
        ),
    )
    assert problems_of(new.pem, new.key.private_pem()) == (
        (
            "CA certificate 'CN=new' is not valid before 2026-03-01T12:00:01Z, and the clock of "
            "this machine says 2026-03-01T12:00:00Z: set the clock"
        ),
    )
    assert load_authority(old.pem, old.key.private_pem(), now=None).not_after == NOW


def test_path_length() -> None:
    """A root that allows no CA below it cannot have one."""
    root = made("root", extensions=[(x509.BasicConstraints(ca=True, path_length=0), True)])
    ca = made("ca", by=root)

    assert loaded(root).roots == (root.certificate,)
    assert problems_of(ca.pem + root.pem, ca.key.private_pem()) == (
        "CA certificate 'CN=root' allows 0 CAs below it and has 1 (path length)",
    )


@pytest.mark.parametrize("required", [None, 0, 1, 2, 3])
@pytest.mark.parametrize("where", ["root", "middle", "ca"])
def test_a_policy_that_clients_would_want(tmp_path: Path, where: str, required: int | None) -> None:
    """What keeps RFC 5280, as Envoy and Go do, refuses leaves without one, and ours have none."""
    wanted: Extensions = [*CA, (x509.PolicyConstraints(required, 0), True)]
    extensions = {"root": CA, "middle": CA, "ca": CA, where: wanted}
    root = made("root", extensions=extensions["root"])
    middle = made("middle", by=root, extensions=extensions["middle"])
    ca = made("ca", by=middle, extensions=extensions["ca"])
    for each, maker in (("root", root), ("middle", middle), ("ca", ca)):
        (tmp_path / each).write_bytes(maker.pem)
    (tmp_path / "leaf").write_bytes(made("leaf", by=ca, extensions=()).pem)
    verify = [need_command("openssl", "openssl"), "verify", "-policy_check", "-CAfile", "root"]
    verify += ["-untrusted", "middle", "-untrusted", "ca", "-attime", f"{NOW.timestamp():.0f}"]
    verified = subprocess.run([*verify, "leaf"], cwd=tmp_path, check=False, capture_output=True)

    pem, key = ca.pem + middle.pem + root.pem, ca.key.private_pem()
    if verified.returncode == 0:
        assert load_authority(pem, key, now=NOW).certificate == ca.certificate
        return
    problem = "wants a certificate policy of what is below it, and leaves have none"
    assert problems_of(pem, key) == (f"CA certificate 'CN={where}' {problem} (policy constraints)",)


def test_a_root_that_was_made_anew() -> None:
    """Where what is below it names the one before, with its serial number, it is said so."""
    root = made("root")
    names = [x509.DirectoryName(root.certificate.subject)]
    before = x509.AuthorityKeyIdentifier(None, names, root.certificate.serial_number + 1)
    ca = made("ca", by=root, extensions=[*CA, (before, False)])
    lost = made("root", key=root.key, extensions=[*CA, (before, False)])

    assert problems_of(ca.pem + root.pem, ca.key.private_pem()) == (
        (
            "CA certificate 'CN=ca' says that another certificate of 'CN=root' issued it than the "
            "next one in its file (authority key identifier): clients take no other"
        ),
    )
    assert problems_of(lost.pem, lost.key.private_pem()) == (
        (
            "CA certificate 'CN=root' says that another certificate of that name issued it "
            "(authority key identifier): not every client takes it for a root"
        ),
    )


def test_missing_root() -> None:
    """An intermediate alone is refused, with what to do about it."""
    ca = made("ca", by=made("root"))

    assert problems_of(ca.pem, ca.key.private_pem()) == (
        (
            "CA certificate 'CN=ca' was issued by 'CN=root': append the certificates up to the "
            "root to its file"
        ),
    )


def test_wrong_order() -> None:
    """The CA must come first and the root last."""
    root = made("root")
    middle = made("middle", by=root)
    ca = made("ca", by=middle)

    assert problems_of(ca.pem + root.pem + middle.pem, ca.key.private_pem()) == (
        "CA certificate 'CN=ca' was not issued by the next one in its file, 'CN=root'",
        "CA certificate 'CN=root' was not issued by the next one in its file, 'CN=middle'",
        (
            "CA certificate 'CN=middle' was issued by 'CN=root': append the certificates up to the "
            "root to its file"
        ),
    )


def test_impostor_in_the_path() -> None:
    """An issuer with the right name and another key is not the issuer."""
    ca = made("ca", by=made("root"))

    assert problems_of(ca.pem + made("root").pem, ca.key.private_pem()) == (
        "CA certificate 'CN=ca' was not issued by the next one in its file, 'CN=root'",
    )


def test_foreign_key() -> None:
    """A key that is not the certificate's is refused before anything is signed with it."""
    mismatch = "CA key does not belong to the CA certificate, which must be the first in its file"

    assert problems_of(made("ca").pem, new_key_pair().private_pem()) == (mismatch,)


def test_certificate_with_an_unknown_kind_of_key() -> None:
    """A CA certificate whose key we cannot use belongs to no key of ours."""
    p521 = KeyPair(ec.generate_private_key(ec.SECP521R1()))
    mismatch = "CA key does not belong to the CA certificate, which must be the first in its file"

    assert problems_of(made("ca", key=p521).pem, new_key_pair().private_pem()) == (mismatch,)
    der = made("ca").certificate.public_bytes(Encoding.DER)
    id_ec_public_key = bytes.fromhex("06072a8648ce3d0201")
    unknown = der.replace(id_ec_public_key, id_ec_public_key[:-1] + b"\x7f")
    pem = x509.load_der_x509_certificate(unknown).public_bytes(Encoding.PEM)
    assert mismatch in problems_of(pem, new_key_pair().private_pem())


def test_everything_at_once() -> None:
    """Every problem of both files is reported at once."""
    ca = made("ca", extensions=[], end=NOW - timedelta(hours=1))

    assert problems_of(ca.pem, b"") == (
        "CA certificate 'CN=ca' is not a CA (basic constraints)",
        (
            "CA certificate 'CN=ca' expired on 2026-03-01T11:00:00Z, and the clock of this "
            "machine says 2026-03-01T12:00:00Z: set the clock if it is wrong"
        ),
        "CA key: not a private key in PEM",
    )
    assert problems_of(b"", b"") == (
        "CA certificate: not X.509 certificates in PEM",
        "CA key: not a private key in PEM",
    )
    assert problems_of(b"\x00", ca.key.private_pem()) == (
        "CA certificate: not X.509 certificates in PEM",
    )


def test_trusted_cas_are_taken_as_they_are(authority: Authority) -> None:
    """Text between certificates is none of ours, and Envoy passes over it likewise."""
    pem = b"our routers\n" + ca_pem(authority) + ca_pem(authority)

    assert load_trusted(pem, where="routers.pem") == pem


@pytest.mark.parametrize("end", [b"", _BROKEN], ids=["no certificate", "a broken one"])
def test_trusted_cas_that_cannot_be_read_are_refused(authority: Authority, end: bytes) -> None:
    """Envoy would refuse all of them for one, and open no port that waits for them."""
    pem = ca_pem(authority) + end if end else b"our routers\n"

    with pytest.raises(ConfigurationError) as refused:
        load_trusted(pem, where="file 'routers.pem'")

    assert refused.value.problems == ("file 'routers.pem': not X.509 certificates in PEM",)
