"""Authorities and requests that the tests of certificates share."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from control_plane.ca import Authority, C2CRequest, KeyPair, Profile, create_authority
from control_plane.ca import new_key_pair as p256_key_pair
from tests.unit.ca.forge import NOW


@pytest.fixture(scope="session")
def rsa_key() -> KeyPair:
    """Return an RSA key, made once since it takes 100 ms."""
    return KeyPair(rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="session")
def p384_key() -> KeyPair:
    """Return a P-384 key."""
    return KeyPair(ec.generate_private_key(ec.SECP384R1()))


@pytest.fixture
def authority() -> Authority:
    """Return an embedded CA: a self-signed P-256 root."""
    return create_authority(
        "c2c CA", now=NOW, lifetime=timedelta(days=3650), key=p256_key_pair(), serial=7
    )


@pytest.fixture
def profile() -> Profile:
    """Return the default profile."""
    return Profile()


@pytest.fixture
def request_c2c() -> C2CRequest:
    """Return the request of the announcement's app-b."""
    return C2CRequest(
        instance_guid="b66d0aa2-cf1f-4b4e-6029-b6c5",
        app_guid="6a2f9a3e-2b9c-4c77-9f6e-0d5f0b1b3a11",
        org="acme",
        space="dev",
        hostnames=("app-b.apps.internal",),
        index=0,
        address="10.255.1.7",
    )
