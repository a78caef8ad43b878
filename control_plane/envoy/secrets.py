"""Secrets for SDS: a certificate with its key, or what to verify a peer with.

The rule of this module: this is the rotation path, with a message for each instance and each
renewal. So messages are built with protobuf's own classes (4 us, where the other builders take a
hundred times that), and the PEM is inline. Nothing here shows, logs or keeps a key.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

C2C_SECRET = "c2c-cert-and-key"  # noqa: S105 the name of a resource
"""The SDS secret of 61443, named as in Cloud Foundry."""


def tls_secret(name: str, chain_pem: bytes, key_pem: bytes) -> bytes:
    """Build a secret that lets a listener present this chain, leaf first, with its private key."""
    secret = secret_pb2.Secret(name=name)
    secret.tls_certificate.certificate_chain.inline_bytes = chain_pem
    secret.tls_certificate.private_key.inline_bytes = key_pem
    return bytes(secret.SerializeToString(deterministic=True))


def validation_secret(name: str, ca_pem: bytes, dns_names: Iterable[str] = ()) -> bytes:
    """Build a secret that verifies clients: signed by these CAs, and with one of these DNS names.

    Args:
        name: the name by which listeners refer to it.
        ca_pem: one or more certificates.
        dns_names: the certificate must have at least one of these names; if there are none, any
            certificate will do.
    """
    secret = secret_pb2.Secret(name=name)
    context = secret.validation_context
    context.trusted_ca.inline_bytes = ca_pem
    for dns_name in dns_names:
        matcher = context.match_typed_subject_alt_names.add()
        matcher.san_type = matcher.DNS
        matcher.matcher.exact = dns_name
    return bytes(secret.SerializeToString(deterministic=True))
