"""The embedded authority: what its certificate says and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from control_plane.ca import (
    Authority,
    KeyPair,
    create_authority,
    new_key_pair,
    read_certificate,
    read_certificates,
)
from control_plane.errors import InvalidArgument, IssuanceError
from tests.unit.ca.forge import NOW, ca_pem, made

YEAR = timedelta(days=365)


def test_embedded_ca_certificate(authority: Authority) -> None:
    """The embedded CA is a root that may sign certificates, with room for three CAs below it."""
    extensions = authority.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)

    assert authority.certificate.subject == authority.certificate.issuer
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=3)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert authority.certificate.serial_number == 7


def test_embedded_ca_validity() -> None:
    """The embedded CA is back-dated, so that a leaf issued at once can be, too."""
    now = NOW.replace(microsecond=5)
    authority = create_authority("CA", now=now, lifetime=YEAR, key=new_key_pair(), serial=1)

    assert authority.not_before == NOW - timedelta(minutes=5)
    assert authority.not_after == NOW + YEAR


def test_repr_shows_no_key(authority: Authority) -> None:
    """The key of the CA is not in its repr."""
    assert "key" not in repr(authority).lower()


def test_pem(authority: Authority) -> None:
    """A root is sent after the leaf (T6), and is what clients must trust."""
    assert authority.sent_pem == ca_pem(authority) == authority.trust_bundle_pem
    assert read_certificate(ca_pem(authority)).fingerprint == authority.fingerprint


def test_a_detour_is_sent_instead_of_the_root(authority: Authority) -> None:
    """While a CA is rotated the path may end at either root, and only our own decides its end."""
    successor = create_authority("new", now=NOW, lifetime=YEAR, key=new_key_pair(), serial=8)
    cross = made("new", by=made("c2c CA", key=authority.key), key=successor.key, end=NOW)
    both = replace(successor, detour=(cross.certificate,), other_roots=(authority.certificate,))

    back = replace(authority, other_roots=successor.roots)
    assert both.root_fingerprints == {successor.fingerprint}
    assert both.trusted_fingerprints == {successor.fingerprint, authority.fingerprint}
    assert both.sent_digest != successor.sent_digest == replace(successor).sent_digest
    trusted = {each.fingerprint for each in read_certificates(both.trust_bundle_pem)}
    assert trusted == both.trusted_fingerprints
    assert back.trust_bundle_pem == both.trust_bundle_pem
    assert both.sent_pem == cross.pem
    assert both.sent_octets == len(cross.certificate.public_bytes(Encoding.DER)) + 5
    assert both.not_before == NOW - timedelta(minutes=5)
    assert both.not_after == NOW + YEAR


def test_roots_that_are_not_sent(authority: Authority) -> None:
    """Who knows the control plane by a fingerprint finds it in what is sent, or among these."""
    successor = create_authority("new", now=NOW, lifetime=YEAR, key=new_key_pair(), serial=8)
    cross = made("new", by=made("c2c CA", key=authority.key), key=successor.key)
    both = replace(successor, detour=(cross.certificate,), other_roots=(authority.certificate,))

    assert authority.unsent_roots_pem == b""
    assert both.unsent_roots_pem == successor.trust_bundle_pem + authority.trust_bundle_pem


def test_an_intermediate_below_its_root() -> None:
    """The root is in the path, and is sent only where the CA itself is one."""
    root = made("root")
    middle = made("middle", by=root)
    ca = made("ca", by=middle)
    authority = Authority(
        ca.certificate,
        ca.key,
        chain=(ca.certificate, middle.certificate),
        roots=(root.certificate,),
    )
    crossed = replace(authority, detour=(made("root", by=made("other")).certificate,))

    assert authority.below_root == authority.sent == (ca.certificate, middle.certificate)
    assert authority.path == (*authority.sent, root.certificate)
    assert crossed.sent == (*authority.sent, *crossed.detour)
    assert crossed.unsent_roots_pem == root.pem


def test_key_identifier_without_ski(authority: Authority) -> None:
    """A CA without a subject key identifier is named by the hash of its key (RFC 5280, 4.2.1.2)."""
    bare = made("bare", key=authority.key).certificate
    named = replace(authority, certificate=bare, chain=(bare,), roots=(bare,))

    assert named.key_identifier == authority.key_identifier


def test_every_kind_of_key(rsa_key: KeyPair, p384_key: KeyPair) -> None:
    """A CA may have any key that we accept."""
    for key in (rsa_key, p384_key):
        authority = create_authority("CA", now=NOW, lifetime=YEAR, key=key, serial=1)
        assert read_certificate(ca_pem(authority)).public_key == key.public


def test_bad_authorities() -> None:
    """A name that does not fit, or a serial that is none, makes no CA."""
    with pytest.raises(InvalidArgument, match="common name must have 1 to 64 octets"):
        create_authority("", now=NOW, lifetime=YEAR, key=new_key_pair(), serial=1)
    with pytest.raises(IssuanceError, match="serial must be positive"):
        create_authority("CA", now=NOW, lifetime=YEAR, key=new_key_pair(), serial=0)
