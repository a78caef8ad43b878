"""What Java finds in a trust store of ours, as its own keytool tells."""

from __future__ import annotations

import re
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from control_plane.ca import (
    JDK_PASSWORD,
    Authority,
    fingerprint,
    java_trust_store,
    read_certificates,
    read_java_trust_store,
)
from control_plane.errors import InvalidArgument
from tests.needs import need_command
from tests.unit.ca.forge import ca_pem


def _keytool(*arguments: object) -> str:
    keytool = need_command("keytool", "default-jdk-headless")
    # It lives for less time than it takes to compile it well, which is most of what it would do.
    command = [keytool, "-J-XX:TieredStopAtLevel=1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _trusted(pem: bytes, directory: Path) -> list[str]:
    """Return the names of the entries that Java trusts."""
    path = directory / "truststore.p12"
    path.write_bytes(java_trust_store(pem, JDK_PASSWORD))
    listed = _keytool("-list", "-keystore", path, "-storepass", JDK_PASSWORD)
    return re.findall(r"^(.+?), .*, trustedCertEntry", listed, re.MULTILINE)


def test_java_trusts_the_certificate(authority: Authority, tmp_path: Path) -> None:
    """An entry is a trusted one, and has the fingerprint of its certificate as its name."""
    assert [authority.fingerprint] == _trusted(authority.trust_bundle_pem, tmp_path)


def test_a_certificate_that_is_there_twice_is_one_entry(
    authority: Authority, tmp_path: Path
) -> None:
    """Our CA may be among the system's roots already."""
    pem = authority.trust_bundle_pem

    assert [authority.fingerprint] == _trusted(pem + b"# a remark\n" + pem, tmp_path)


def test_an_unreadable_certificate_costs_nothing_but_itself(
    authority: Authority, tmp_path: Path
) -> None:
    """A root that cannot be read is passed over, and the others are kept."""
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

    assert [authority.fingerprint] == _trusted(broken + authority.trust_bundle_pem, tmp_path)


def test_a_root_with_serial_zero_is_kept(authority: Authority, tmp_path: Path) -> None:
    """A serial of zero breaks RFC 5280, section 4.1.2.2, and some public roots have it."""
    der = bytearray(ssl.PEM_cert_to_DER_cert(ca_pem(authority).decode()))
    der[der.index(bytes([2, 1, 7])) + 2] = 0
    pem = ssl.DER_cert_to_PEM_cert(bytes(der)).encode()

    assert [fingerprint(bytes(der))] == _trusted(pem, tmp_path)
    assert pem == read_java_trust_store((tmp_path / "truststore.p12").read_bytes())


@pytest.mark.parametrize("pem", [b"", b"no certificate"], ids=["empty", "text"])
def test_a_store_without_certificates_is_refused(pem: bytes) -> None:
    """Java would start with such a store, and trust nobody at all."""
    with pytest.raises(InvalidArgument, match=r"no X\.509 certificate in PEM to trust"):
        java_trust_store(pem, JDK_PASSWORD)


STORES = {
    "java 8 to 17": ("-storetype", "JKS"),
    "java 18 and later": (
        "-storetype",
        "PKCS12",
        "-J-Dkeystore.pkcs12.certProtectionAlgorithm=NONE",
        "-J-Dkeystore.pkcs12.macAlgorithm=NONE",
    ),
    "with a password": ("-storetype", "PKCS12"),
}


@pytest.mark.parametrize("options", STORES.values(), ids=STORES.keys())
def test_what_a_jdk_trusts_is_read(
    authority: Authority, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A store that keytool made, in each form that a JDK has its own in."""
    (tmp_path / "ca.pem").write_bytes(ca_pem(authority))
    path = tmp_path / "cacerts"
    _keytool(
        *("-importcert", "-noprompt", "-trustcacerts", "-alias", "c2c"),
        *("-file", tmp_path / "ca.pem", "-keystore", path, "-storepass", JDK_PASSWORD),
        *options,
    )

    (read,) = read_certificates(read_java_trust_store(path.read_bytes()))

    assert authority.fingerprint == read.fingerprint


def _of_version_2() -> bytes:
    """Return a certificate of a version that Java reads and ``cryptography`` does not, PEM."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "old")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(days=1))
    der = bytearray(made.sign(key, SHA256()).public_bytes(Encoding.DER))
    der[der.index(bytes([0xA0, 3, 2, 1, 2])) + 4] = 1
    return ssl.DER_cert_to_PEM_cert(bytes(der)).encode()


def test_a_store_with_a_certificate_that_only_java_reads_is_refused(tmp_path: Path) -> None:
    """PKCS#12 is read whole or not at all, and what cannot be read ends no sidecar."""
    (tmp_path / "old.pem").write_bytes(_of_version_2())
    path = tmp_path / "cacerts"
    _keytool(
        *("-importcert", "-noprompt", "-alias", "old", "-file", tmp_path / "old.pem"),
        *("-keystore", path, "-storepass", JDK_PASSWORD, *STORES["java 18 and later"]),
    )

    with pytest.raises(InvalidArgument, match="not a Java trust store"):
        read_java_trust_store(path.read_bytes())


def test_a_store_with_a_key_is_none_of_a_jdk(tmp_path: Path) -> None:
    """A private key is not read, not even to be passed over."""
    path = tmp_path / "keystore"
    _keytool(
        *("-genkeypair", "-alias", "own", "-keyalg", "EC", "-dname", "CN=own"),
        *("-storetype", "JKS", "-keystore", path, "-storepass", JDK_PASSWORD),
        *("-keypass", JDK_PASSWORD),
    )

    with pytest.raises(InvalidArgument, match=r"JKS\) holds a key"):
        read_java_trust_store(path.read_bytes())


def _jks(tag: int, certificate: bytes) -> bytes:
    """Return a JKS with one entry, as ``sun.security.provider.JavaKeyStore`` lays it out."""

    def text(value: str) -> bytes:
        return len(value).to_bytes(2) + value.encode()

    entry = tag.to_bytes(4) + text("c2c") + bytes(8) + text("X.509")
    entry += len(certificate).to_bytes(4) + certificate
    return bytes.fromhex("feedfeed 00000002 00000001") + entry + bytes(20)


def test_what_is_written_is_read(authority: Authority) -> None:
    """A store of ours may be a JDK's own, with the password that each JDK has for it."""
    written = java_trust_store(authority.trust_bundle_pem, JDK_PASSWORD)
    (read,) = read_certificates(read_java_trust_store(written))

    assert read.fingerprint == authority.fingerprint


def test_a_store_is_read_as_it_is_laid_out(authority: Authority) -> None:
    """Octet by octet, so that this is known without a JDK too; a key is told by its tag."""
    der = ssl.PEM_cert_to_DER_cert(ca_pem(authority).decode())
    (read,) = read_certificates(read_java_trust_store(_jks(2, der)))

    assert read.fingerprint == authority.fingerprint
    with pytest.raises(InvalidArgument, match=r"JKS\) holds a key"):
        read_java_trust_store(_jks(1, der))


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", r"not a Java trust store \(JKS or PKCS#12\)"),
        (bytes.fromhex("feedfeed 00000001 00000000"), r"is not of version 2"),
        (bytes.fromhex("feedfeed 00000002 00000001"), r"ends too early"),
    ],
    ids=["empty", "old version", "cut off"],
)
def test_a_damaged_store_is_refused(data: bytes, rule: str) -> None:
    """What is no store is told apart from a store without certificates."""
    with pytest.raises(InvalidArgument, match=rule):
        read_java_trust_store(data)
