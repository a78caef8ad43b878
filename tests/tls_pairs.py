"""What is in a secret that lets a listener present a certificate."""

from __future__ import annotations

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2

from control_plane.ca.certificate import Certificate, read_certificates
from control_plane.xds.resource import Resource


def chain_in(secret: Resource) -> bytes:
    """Return its certificates, PEM, the leaf first."""
    return bytes(_pair(secret).certificate_chain.inline_bytes)


def leaf_in(secret: Resource) -> Certificate:
    """Return its first certificate."""
    return read_certificates(chain_in(secret))[0]


def key_in(secret: Resource) -> bytes:
    """Return its private key, PEM."""
    return bytes(_pair(secret).private_key.inline_bytes)


def _pair(secret: Resource) -> secret_pb2.TlsCertificate:
    return secret_pb2.Secret.FromString(secret.body).tls_certificate
