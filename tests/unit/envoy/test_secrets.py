"""Secrets, read back with protobuf's own classes."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3 import common_pb2, secret_pb2

from control_plane.envoy import secrets


def test_a_certificate_travels_inline_with_its_key() -> None:
    """Chain and key are in the secret itself, unchanged, under the name that listeners know."""
    body = secrets.tls_secret("c2c-cert-and-key", b"chain", b"key")
    secret = secret_pb2.Secret.FromString(body)

    assert secret.name == "c2c-cert-and-key"
    assert secret.WhichOneof("type") == "tls_certificate"
    assert secret.tls_certificate.certificate_chain.inline_bytes == b"chain"
    assert secret.tls_certificate.private_key.inline_bytes == b"key"


def test_the_same_certificate_has_the_same_bytes() -> None:
    """A secret's version is the hash of its bytes, so nothing else may reach them."""
    assert secrets.tls_secret("a", b"b", b"c") == secrets.tls_secret("a", b"b", b"c")


def test_clients_are_verified_by_ca_and_any_of_the_names() -> None:
    """The CA is inline, and each name is an exact match of a DNS SAN."""
    body = secrets.validation_secret("id-validation-context", b"ca", ["a.internal", "b.internal"])
    secret = secret_pb2.Secret.FromString(body)

    context = secret.validation_context
    assert secret.name == "id-validation-context"
    assert context.trusted_ca.inline_bytes == b"ca"
    matchers = [
        (each.san_type, each.matcher.exact) for each in context.match_typed_subject_alt_names
    ]
    dns = common_pb2.SubjectAltNameMatcher.DNS
    assert matchers == [(dns, "a.internal"), (dns, "b.internal")]


def test_without_names_any_certificate_of_the_ca_will_do() -> None:
    """No name given means no name asked for."""
    secret = secret_pb2.Secret.FromString(secrets.validation_secret("id-validation-context", b"ca"))

    assert not secret.validation_context.match_typed_subject_alt_names
