"""What strict verifiers have against a CA: what we say, held against what OpenSSL does."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from control_plane.ca import (
    Authority,
    C2CRequest,
    Profile,
    create_authority,
    issue,
    load_authority,
    new_key_pair,
    strict_problem,
)
from tests.needs import need_command
from tests.unit.ca.forge import CA, Extension, conforming, made

NOW = datetime.now(UTC)
"""OpenSSL has a clock of its own."""

START, END = NOW - timedelta(hours=1), NOW + timedelta(days=1)

NOT_CRITICAL: Extension = (CA[0][0], False)


def refusal(authority: Authority, request: C2CRequest, directory: Path) -> str:
    """Return what OpenSSL has against a leaf of an authority if it is strict, or ""."""
    leaf = issue(authority, Profile(), request, key=new_key_pair, now=NOW, serial=7)
    bundle, chain = directory / "bundle.pem", directory / "chain.pem"
    bundle.write_bytes(authority.trust_bundle_pem)
    chain.write_bytes(leaf.certificate_chain_pem)
    command = [need_command("openssl", "openssl"), "verify"]
    ran = subprocess.run(
        [*command, "-x509_strict", "-CAfile", bundle, "-untrusted", chain, chain],
        check=False,
        capture_output=True,
        text=True,
    )
    # Without the flag there is nothing against it.
    subprocess.run(
        [*command, "-CAfile", bundle, "-untrusted", chain, chain], check=True, capture_output=True
    )
    return ran.stderr if ran.returncode else ""


def an_intermediate(*, without: type[x509.ExtensionType] | None, of_root: bool) -> Authority:
    """Return an intermediate whose certificate, or its root's, lacks an extension."""
    root_key, key = new_key_pair(), new_key_pair()

    def kept(extensions: tuple[Extension, ...], *, is_meant: bool) -> list[Extension]:
        return [
            each
            for each in extensions
            if not (is_meant and without is not None and isinstance(each[0], without))
        ]

    of_the_root = kept(conforming(root_key), is_meant=of_root)
    root = made("root", key=root_key, extensions=of_the_root, start=START, end=END)
    of_the_ca = kept(conforming(key, by=root_key), is_meant=not of_root)
    ca = made("ca", by=root, key=key, extensions=of_the_ca, start=START, end=END)
    return load_authority(ca.pem + root.pem, key.private_pem(), now=NOW)


@pytest.mark.parametrize(
    ("without", "of_root", "sentence", "reason"),
    [
        (
            x509.KeyUsage,
            True,
            "CA certificate 'CN=root' has no key usage (RFC 5280, section 4.2.1.3)",
            "key usage",
        ),
        (
            x509.KeyUsage,
            False,
            "CA certificate 'CN=ca' has no key usage (RFC 5280, section 4.2.1.3)",
            "key usage",
        ),
        (
            x509.SubjectKeyIdentifier,
            True,
            "CA certificate 'CN=root' has no subject key identifier (RFC 5280, section 4.2.1.2)",
            "Subject Key Identifier",
        ),
        (
            x509.AuthorityKeyIdentifier,
            False,
            "CA certificate 'CN=ca' has no authority key identifier (RFC 5280, section 4.2.1.1)",
            "Authority Key Identifier",
        ),
    ],
)
def test_what_a_strict_verifier_misses_is_named(
    request_c2c: C2CRequest,
    tmp_path: Path,
    without: type[x509.ExtensionType],
    sentence: str,
    reason: str,
    *,
    of_root: bool,
) -> None:
    """OpenSSL refuses for the reason that is said, and takes the same chain if it is not strict."""
    authority = an_intermediate(without=without, of_root=of_root)

    assert strict_problem(authority) == sentence
    assert reason in refusal(authority, request_c2c, tmp_path)


def test_constraints_that_may_be_overlooked_are_named(
    request_c2c: C2CRequest, tmp_path: Path
) -> None:
    """Basic constraints have to be critical."""
    key = new_key_pair()
    extensions = [NOT_CRITICAL, *conforming(key)[1:]]
    root = made("root", key=key, extensions=extensions, start=START, end=END)
    authority = load_authority(root.pem, key.private_pem(), now=NOW)

    assert "basic constraints that are not critical" in strict_problem(authority)
    assert "Basic Constraints of CA cert not" in refusal(authority, request_c2c, tmp_path)


def test_an_issuer_that_is_named_by_its_serial_number_only_is_named(
    request_c2c: C2CRequest, tmp_path: Path
) -> None:
    """An authority key identifier has to have the key, whatever else it has."""
    root_key, key = new_key_pair(), new_key_pair()
    root = made("root", key=root_key, extensions=conforming(root_key), start=START, end=END)
    names = [x509.DirectoryName(root.certificate.subject)]
    by_serial = x509.AuthorityKeyIdentifier(None, names, root.certificate.serial_number)
    extensions = [*conforming(key), (by_serial, False)]
    ca = made("ca", by=root, key=key, extensions=extensions, start=START, end=END)
    authority = load_authority(ca.pem + root.pem, key.private_pem(), now=NOW)

    assert strict_problem(authority) == (
        "CA certificate 'CN=ca' has an authority key identifier without a key (RFC 5280, section "
        "4.2.1.1)"
    )
    assert "Missing Authority Key Identifier" in refusal(authority, request_c2c, tmp_path)


def test_every_fault_is_named(request_c2c: C2CRequest, tmp_path: Path) -> None:
    """A root with nothing but its basic constraints has two."""
    key = new_key_pair()
    root = made("root", key=key, start=START, end=END)
    authority = load_authority(root.pem, key.private_pem(), now=NOW)

    assert strict_problem(authority).count("CA certificate 'CN=root' has no ") == 2
    assert refusal(authority, request_c2c, tmp_path)


def test_a_ca_that_keeps_the_rules_has_no_problem(request_c2c: C2CRequest, tmp_path: Path) -> None:
    """Our own CA, and an intermediate with all that it needs."""
    own = create_authority(
        "c2c CA", now=NOW, lifetime=timedelta(days=1), key=new_key_pair(), serial=1
    )
    for authority in (own, an_intermediate(without=None, of_root=False)):
        assert strict_problem(authority) == ""
        assert refusal(authority, request_c2c, tmp_path) == ""
