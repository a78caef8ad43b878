"""The lint: each way in which a signed certificate can differ from what was asked for."""

from __future__ import annotations

import ast
import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519

import control_plane
from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    C2CRequest,
    OperatorRequest,
    Profile,
    create_authority,
    new_key_pair,
)
from control_plane.ca.linter import lint
from control_plane.ca.signer import Signed, sign
from control_plane.ca.template import Prepared, prepare
from control_plane.errors import IssuanceError
from tests.unit.ca.forge import NOW, handshake_size, key_usage, made, resigned


@pytest.fixture
def prepared(authority: Authority, profile: Profile, request_c2c: C2CRequest) -> Prepared:
    """Return app-b's certificate, ready to be signed."""
    return prepare(authority, profile, request_c2c, key=new_key_pair, now=NOW, serial=0xC2C)


@pytest.fixture
def signed(prepared: Prepared) -> Signed:
    """Return app-b's certificate as signed."""
    return sign(prepared)


def problems_of(signed: Signed, prepared: Prepared) -> str:
    """Return what the lint says against a certificate."""
    with pytest.raises(IssuanceError, match=r"^certificate 0xc2c failed the lint: ") as caught:
        lint(signed, prepared)
    return str(caught.value).removeprefix("certificate 0xc2c failed the lint: ")


def test_what_was_asked_for(signed: Signed, prepared: Prepared) -> None:
    """A certificate that is what was asked for may be published, and says so in plain values."""
    leaf = lint(signed, prepared)

    assert leaf.certificate_chain_pem == signed.certificate_chain_pem
    assert leaf.private_key_pem == signed.private_key_pem
    assert leaf.serial == 0xC2C
    assert leaf.san == prepared.request.san
    assert (leaf.not_before, leaf.not_after) == (prepared.not_before, prepared.not_after)
    assert leaf.issuer_fingerprint == prepared.authority.fingerprint


def test_keys_do_not_show(signed: Signed, prepared: Prepared) -> None:
    """Nothing on the way from the key to what is published has the private key in its repr."""
    key = signed.private_key_pem
    assert key is not None
    body = key.splitlines()[1].decode()

    for value in (signed, prepared, lint(signed, prepared)):
        assert "PRIVATE KEY" not in repr(value)
        assert body not in repr(value)


def test_leaf_can_be_pickled(signed: Signed, prepared: Prepared) -> None:
    """A leaf can be handed back by another process that issued it."""
    leaf = lint(signed, prepared)

    assert pickle.loads(pickle.dumps(leaf)) == leaf  # noqa: S301 - we wrote it a moment ago


def test_only_the_linter_makes_leaves() -> None:
    """No module but the linter constructs a Leaf, so whatever is published has been linted."""
    root = Path(control_plane.__file__).parent
    makers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and "Leaf" in (getattr(node.func, "id", None), getattr(node.func, "attr", None))
    }

    assert makers == {"ca/linter.py"}


def test_mismatched_key(signed: Signed, prepared: Prepared) -> None:
    """A private key that is not the certificate's is found before Envoy would refuse it (C12)."""
    other = Signed(signed.certificate_chain_pem, new_key_pair().private_pem())

    assert problems_of(other, prepared) == "the key does not belong to the certificate"


@pytest.mark.parametrize("key", [None, b"", b"garbage"], ids=["none", "empty", "garbage"])
def test_no_key(signed: Signed, prepared: Prepared, key: bytes | None) -> None:
    """A certificate without a private key that can be read is not published."""
    found = problems_of(Signed(signed.certificate_chain_pem, key), prepared)

    assert found == "private key: not a private key in PEM"


def test_key_of_a_csr(authority: Authority, profile: Profile) -> None:
    """A certificate for a CSR is for the CSR's key, and comes without a private key."""
    request = OperatorRequest(DEFAULT_TRUST_DOMAIN, "jane")
    key = new_key_pair()
    prepared = prepare(authority, profile, request, key=key.public, now=NOW, serial=0xC2C)
    signed = sign(prepared)

    assert lint(signed, prepared).private_key_pem is None
    assert problems_of(Signed(signed.certificate_chain_pem, key.private_pem()), prepared) == (
        "a private key beside the certificate for a CSR"
    )
    foreign = replace(prepared, key=new_key_pair().public)
    assert problems_of(signed, foreign) == "the key does not belong to the certificate"


def test_chain_of_another_ca(signed: Signed, prepared: Prepared) -> None:
    """What follows the leaf must be what the authority sends."""
    leaf_pem = signed.certificate_chain_pem.removesuffix(prepared.authority.sent_pem)
    broken = "the leaf is not followed by what is sent after it"

    assert problems_of(Signed(leaf_pem, signed.private_key_pem), prepared) == broken
    assert problems_of(Signed(leaf_pem + made("x").pem, signed.private_key_pem), prepared) == broken


def test_not_a_certificate(signed: Signed, prepared: Prepared) -> None:
    """Bytes that are not one certificate and the chain are refused."""
    chain = prepared.authority.sent_pem

    for pem in (chain, b"garbage" + chain, signed.certificate_chain_pem + chain):
        assert problems_of(Signed(pem, b""), prepared) == "the leaf cannot be read"


def test_serial(signed: Signed, prepared: Prepared) -> None:
    """The serial must be the one that was decided."""
    other = replace(prepared, serial=0xBAD)

    assert problems_of(sign(other), prepared) == "serial 0xbad"
    assert lint(signed, prepared).serial == prepared.serial


def test_subject(prepared: Prepared, request_c2c: C2CRequest) -> None:
    """The subject must be the request's."""
    other = replace(prepared, request=replace(request_c2c, space="prod"))

    assert problems_of(sign(other), prepared).startswith("subject CN=b66d0aa2-cf1f-4b4e-6029-b6c5,")


def test_issuer(prepared: Prepared) -> None:
    """The signature must be by the authority's key, whatever the issuer's name."""
    namesake = create_authority(
        "c2c CA", now=NOW, lifetime=timedelta(days=3650), key=new_key_pair(), serial=7
    )
    other = sign(replace(prepared, authority=namesake))
    leaf_pem = other.certificate_chain_pem.removesuffix(namesake.sent_pem)
    posing = Signed(leaf_pem + prepared.authority.sent_pem, other.private_key_pem)

    found = problems_of(posing, prepared)

    assert found.startswith("not issued by the CA; unwanted extension <AuthorityKeyIdentifier(")


def test_validity(prepared: Prepared) -> None:
    """The validity must be the one that was decided."""
    longer = replace(prepared, not_after=prepared.not_after + timedelta(seconds=1))

    assert problems_of(sign(longer), prepared) == (
        "valid from 2026-03-01 11:55:00+00:00 to 2026-03-02 12:00:01+00:00, "
        "not from 2026-03-01 11:55:00+00:00 to 2026-03-02 12:00:00+00:00"
    )


def test_validity_inside_the_profile(prepared: Prepared) -> None:
    """A validity longer than the profile allows is found, even if it was decided so."""
    wrong = replace(prepared, not_after=prepared.not_after + timedelta(days=1))

    assert problems_of(sign(wrong), wrong) == (
        "valid for 2 days, 0:05:00, longer than the profile allows"
    )


def test_validity_inside_the_ca(prepared: Prepared) -> None:
    """A leaf that starts before its CA, or ends after it, is found, even if it was decided so."""
    early = replace(prepared, not_before=NOW - timedelta(minutes=5, seconds=1))
    late = prepared.authority.not_after + timedelta(seconds=1)
    after = replace(prepared, not_before=late - timedelta(hours=1), not_after=late)

    assert problems_of(sign(early), early) == "valid when the CA is not"
    assert problems_of(sign(after), after) == "valid when the CA is not"


@pytest.mark.parametrize(
    "hostnames",
    [(), ("app-b.apps.internal", "evil.apps.internal"), ("app-c.apps.internal",)],
    ids=["fewer", "more", "others"],
)
def test_names(prepared: Prepared, request_c2c: C2CRequest, hostnames: tuple[str, ...]) -> None:
    """The names must be those of the request, neither fewer nor more nor others."""
    other = replace(prepared, request=replace(request_c2c, hostnames=hostnames))

    found = problems_of(sign(other), prepared)

    assert found.startswith("unwanted extension <SubjectAlternativeName(")


def test_order_of_names(signed: Signed, prepared: Prepared) -> None:
    """The order of the names is part of what was asked for."""
    san = prepared.request.san
    turned = replace(san, dns=tuple(reversed(san.dns))).extension()
    other = resigned(signed, prepared, without=x509.SubjectAlternativeName, extra=(turned, False))

    assert problems_of(other, prepared).startswith("unwanted extension <SubjectAlternativeName(")


@pytest.mark.parametrize(
    ("kind", "oid"),
    [
        (x509.SubjectAlternativeName, "2.5.29.17"),
        (x509.KeyUsage, "2.5.29.15"),
        (x509.ExtendedKeyUsage, "2.5.29.37"),
        (x509.SubjectKeyIdentifier, "2.5.29.14"),
        (x509.AuthorityKeyIdentifier, "2.5.29.35"),
    ],
    ids=["san", "key-usage", "extended-key-usage", "ski", "aki"],
)
def test_missing_extensions(
    signed: Signed, prepared: Prepared, kind: type[x509.ExtensionType], oid: str
) -> None:
    """Each extension of a leaf must be there."""
    assert problems_of(resigned(signed, prepared, without=kind), prepared) == f"no extension {oid}"


def test_ca_bit(signed: Signed, prepared: Prepared) -> None:
    """A leaf that could sign other certificates is never published."""
    other = resigned(
        signed, prepared, extra=(x509.BasicConstraints(ca=True, path_length=None), True)
    )

    assert problems_of(other, prepared) == (
        "unwanted extension <BasicConstraints(ca=True, path_length=None)>"
    )


@pytest.mark.parametrize("critical", [True, False], ids=["critical", "not-critical"])
def test_key_usage(signed: Signed, prepared: Prepared, *, critical: bool) -> None:
    """The key usage must be digitalSignature alone, and critical (RFC 5280, section 4.2.1.3)."""
    usage = key_usage(key_cert_sign=critical)
    other = resigned(signed, prepared, without=x509.KeyUsage, extra=(usage, critical))

    assert problems_of(other, prepared).startswith("unwanted extension <KeyUsage(digital_signature")


def test_extended_key_usage(signed: Signed, prepared: Prepared) -> None:
    """The key may be used for what the request says, in Cloud Foundry's order (C8)."""
    turned = x509.ExtendedKeyUsage(
        [x509.ObjectIdentifier(usage) for usage in reversed(prepared.request.usages)]
    )
    other = resigned(signed, prepared, without=x509.ExtendedKeyUsage, extra=(turned, False))

    assert problems_of(other, prepared).startswith("unwanted extension <ExtendedKeyUsage(")


def test_foreign_kind_of_key(signed: Signed, prepared: Prepared) -> None:
    """A leaf with another key inside, of whatever kind, is not the one that was asked for."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()

    found = problems_of(resigned(signed, prepared, key=key), prepared)

    assert found.startswith("the key does not belong to the certificate; unwanted extension")


def test_size(authority: Authority, request_c2c: C2CRequest) -> None:
    """A certificate larger than the bound is found, even if it was thought to fit."""
    large = replace(request_c2c, hostnames=tuple(f"{'a' * 60}{n}.internal" for n in range(40)))
    prepared = prepare(authority, Profile(), large, key=new_key_pair, now=NOW, serial=0xC2C)
    strict = replace(prepared, profile=Profile(max_chain_bytes=4000))
    signed = sign(prepared)

    found = problems_of(signed, strict)
    size = handshake_size(signed.certificate_chain_pem)
    assert found.endswith(f"{size} bytes in the handshake, more than 4000")

    lint(signed, replace(prepared, profile=Profile(max_chain_bytes=size)))
    smaller = replace(prepared, profile=Profile(max_chain_bytes=size - 1))
    assert problems_of(signed, smaller).endswith(f"more than {size - 1}")


def test_every_difference_is_named(prepared: Prepared, request_c2c: C2CRequest) -> None:
    """All that is wrong is reported at once."""
    other = replace(prepared, serial=0xBAD, request=replace(request_c2c, org="evil", hostnames=()))

    found = problems_of(sign(other), prepared).split("; ")

    assert [problem.split(" ")[0] for problem in found] == ["serial", "subject", "unwanted"]
