"""Who connects: somebody with a key, and the certificate that a test wants shown.

The rule of this module: nothing here is checked before it is sent. A certificate may be of another
CA, may have ended, and may be somebody else's; that the server finds out is what is tested.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import grpc

from control_plane.app.core import new_serial
from control_plane.ca import (
    Authority,
    C2CRequest,
    IdentityRequest,
    KeyPair,
    OperatorRequest,
    Profile,
    Request,
    create_authority,
    issue,
    new_key_pair,
    read_certificate,
)
from control_plane.names import SERVER_NAME, InstanceGuid
from tests.sidecar.platform import Platform


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who has a key, and a certificate for it.

    Attributes:
        guid: the instance that it is, or says to be.
        chain: the certificate, PEM; empty to show none.
        roots: by which the server is known.
    """

    guid: str
    key: KeyPair
    chain: bytes = field(repr=False)
    roots: bytes = field(repr=False)

    @property
    def serial(self) -> int:
        """The serial of the certificate."""
        return read_certificate(self.chain).serial

    @asynccontextmanager
    async def connect(self, address: object) -> AsyncIterator[grpc.aio.Channel]:
        """Open a connection to a port that is shared with nobody."""
        key, chain = (self.key.private_pem(), self.chain) if self.chain else (None, None)
        credentials = grpc.ssl_channel_credentials(self.roots, key, chain)
        options: list[tuple[str, str | int]] = [
            ("grpc.ssl_target_name_override", SERVER_NAME),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", -1),
        ]
        async with grpc.aio.secure_channel(str(address), credentials, options) as channel:
            yield channel


def nobody(cf: Platform, guid: str = "") -> Holder:
    """Return somebody who has no certificate, and knows the server all the same."""
    return Holder(guid, new_key_pair(), b"", cf.trust_bundle)


def issued(
    cf: Platform,
    request: Request,
    *,
    by: Authority | None = None,
    age: timedelta = timedelta(),
    lifetime: timedelta = timedelta(hours=1),
    guid: str = "",
) -> Holder:
    """Return somebody with a certificate that the CA issued some time ago, or another CA did."""
    key = new_key_pair()
    leaf = issue(
        by or cf.running.core.authority,
        Profile(lifetime=lifetime),
        request,
        key=key.public,
        now=datetime.now(UTC) - age,
        serial=new_serial(),
    )
    return Holder(guid, key, leaf.certificate_chain_pem, cf.trust_bundle)


def identity_request(cf: Platform, holder: Holder) -> IdentityRequest:
    """Return what the identity of an instance says."""
    state = cf.running.core.registry.state
    instance = state.instance(InstanceGuid(holder.guid))
    assert instance is not None
    app = state.apps[instance.app_guid]
    return IdentityRequest(
        trust_domain=cf.settings.trust_domain,
        instance_guid=instance.guid,
        app_guid=app.guid,
        org=app.key.org,
        space=app.key.space,
        address=instance.address,
    )


def c2c_request(cf: Platform, holder: Holder) -> C2CRequest:
    """Return what the certificate says that an instance shows to other containers."""
    identity = identity_request(cf, holder)
    return C2CRequest(
        instance_guid=identity.instance_guid,
        app_guid=identity.app_guid,
        org=identity.org,
        space=identity.space,
        hostnames=("app-b.apps.internal",),
        index=0,
        address=identity.address,
    )


def operator_request(cf: Platform) -> OperatorRequest:
    """Return what the certificate of an operator says."""
    return OperatorRequest(cf.settings.trust_domain, "alice")


def foreign_authority() -> Authority:
    """Return a CA that nobody trusts, with the very name of ours."""
    return create_authority(
        "c2c-control-plane CA",
        now=datetime.now(UTC) - timedelta(hours=1),
        lifetime=timedelta(days=1),
        key=new_key_pair(),
        serial=new_serial(),
    )
