"""Identities of instances for tests, issued by a CA of the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    IdentityRequest,
    Profile,
    PublicKey,
    create_authority,
    issue,
    new_key_pair,
)
from control_plane.sidecar.directory import Credentials, Enrollment, Membership
from control_plane.sidecar.identity import hold

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GUID = "b66d0aa2-cf1f-4b4e-6029-b6c5"
APP_GUID = "6a2f9a3e-2b9c-4c77-9f6e-0d5f0b1b3a11"
ADDRESS = "10.255.1.7"
LIFETIME = timedelta(hours=24)


def authority(name: str = "c2c CA") -> Authority:
    """Return a CA that is valid at noon."""
    return create_authority(
        name, now=NOON, lifetime=timedelta(days=3650), key=new_key_pair(), serial=7
    )


def identity_chain(
    by: Authority,
    key: PublicKey,
    *,
    guid: str = GUID,
    now: datetime = NOON,
    serial: int = 1,
    lifetime: timedelta = LIFETIME,
) -> bytes:
    """Return the identity certificate of an instance, and the CA's after it."""
    request = IdentityRequest(
        trust_domain=DEFAULT_TRUST_DOMAIN,
        instance_guid=guid,
        app_guid=APP_GUID,
        org="acme",
        space="dev",
        address=ADDRESS,
    )
    leaf = issue(
        by,
        Profile(lifetime),
        request,
        key=key,
        now=now,
        serial=serial,
    )
    return leaf.certificate_chain_pem


def credentials(
    by: Authority,
    *,
    guid: str = GUID,
    now: datetime = NOON,
    serial: int = 1,
    lifetime: timedelta = LIFETIME,
) -> Credentials:
    """Return credentials that an instance got then."""
    key = new_key_pair()
    chain = identity_chain(by, key.public, guid=guid, now=now, serial=serial, lifetime=lifetime)
    return Credentials(hold(chain, key), by.trust_bundle_pem)


def membership(by: Authority, *, guid: str = GUID) -> Membership:
    """Return what an enrolment led to."""
    enrollment = Enrollment(
        trusted_by=by.fingerprint,
        instance_guid=guid,
        xds_port=18000,
        index=3,
        app_address="127.0.0.1",
        app_ports=(9090, 9091),
        c2c_port=9091,
    )
    return Membership(enrollment, credentials(by, guid=guid))
