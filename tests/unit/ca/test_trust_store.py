"""What Java finds in a trust store of ours, as its own keytool tells."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from control_plane.ca import Authority, fingerprint, java_trust_store
from control_plane.errors import InvalidArgument

PASSWORD = "changeit"


def _trusted(pem: bytes, directory: Path) -> list[str]:
    """Return the names of the entries that Java trusts."""
    path = directory / "truststore.p12"
    path.write_bytes(java_trust_store(pem, PASSWORD))
    command = ["keytool", "-list", "-keystore", str(path), "-storepass", PASSWORD]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
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
    der = bytearray(ssl.PEM_cert_to_DER_cert(authority.certificate_pem.decode()))
    der[der.index(bytes([2, 1, 7])) + 2] = 0
    pem = ssl.DER_cert_to_PEM_cert(bytes(der)).encode()

    assert [fingerprint(bytes(der))] == _trusted(pem, tmp_path)


@pytest.mark.parametrize("pem", [b"", b"no certificate"], ids=["empty", "text"])
def test_a_store_without_certificates_is_refused(pem: bytes) -> None:
    """Java would start with such a store, and trust nobody at all."""
    with pytest.raises(InvalidArgument, match=r"no X\.509 certificate in PEM to trust"):
        java_trust_store(pem, PASSWORD)
