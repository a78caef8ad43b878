"""Who this instance is: the certificate that the control plane issued, and its private key.

The rule of this module: an identity that exists is whole. Its certificate is that of an instance,
and is for this very key. What the control plane sends is checked like any input from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from control_plane.ca import (
    InstanceIdentity,
    KeyPair,
    TrustDomain,
    parse_trust_domain,
    peer_identity,
    read_certificate,
    renew_at,
)
from control_plane.ca.spiffe import spiffe_id
from control_plane.errors import InvalidArgument, InvalidRequest
from control_plane.names import Address, AppGuid, InstanceGuid, shown

_SCHEME = "spiffe://"


@dataclass(frozen=True, slots=True)
class HeldIdentity:
    """An identity certificate with its key.

    Attributes:
        chain_pem: the certificate, followed by the chain up to the CA.
        address: the address at which the instance is reached, as registered.
        trust_domain: the trust domain of the control plane that issued it.
    """

    chain_pem: bytes = field(repr=False)
    key: KeyPair = field(repr=False)
    app_guid: AppGuid
    instance_guid: InstanceGuid
    address: Address
    trust_domain: TrustDomain
    serial: int
    not_before: datetime
    not_after: datetime

    @property
    def server_uri(self) -> str:
        """The SPIFFE id in the certificate of the control plane that issued it."""
        return spiffe_id(self.trust_domain, "control-plane")

    @property
    def renew_at(self) -> datetime:
        """When to ask for the next identity."""
        return renew_at(self.not_before, self.not_after, self.instance_guid)

    def is_valid(self, now: datetime) -> bool:
        """Tell whether a handshake with this identity can succeed."""
        return self.not_before <= now < self.not_after


def hold(chain_pem: bytes, key: KeyPair) -> HeldIdentity:
    """Return the identity made of a certificate chain and a key.

    Raises:
        InvalidArgument: the certificate is not that of an instance, or not for this key.
    """
    certificate = read_certificate(chain_pem)
    if certificate.public_key != key.public:
        raise InvalidArgument("identity certificate is for another key than ours")
    if len(certificate.san.uris) != 1 or len(certificate.san.ips) != 1:
        raise InvalidArgument(
            "identity certificate needs one SPIFFE id and one address, and has "
            f"{len(certificate.san.uris)} and {len(certificate.san.ips)}"
        )
    uri = certificate.san.uris[0]
    trust_domain = parse_trust_domain(uri.removeprefix(_SCHEME).partition("/")[0])
    identity = _instance(chain_pem, trust_domain)
    return HeldIdentity(
        chain_pem=chain_pem,
        key=key,
        app_guid=identity.app_guid,
        instance_guid=identity.instance_guid,
        address=Address(certificate.san.ips[0]),
        trust_domain=trust_domain,
        serial=certificate.serial,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
    )


def _instance(chain_pem: bytes, trust_domain: TrustDomain) -> InstanceIdentity:
    try:
        identity = peer_identity(chain_pem, trust_domain)
    except InvalidRequest as error:
        raise InvalidArgument(f"not an identity certificate: {error.rule}") from None
    if not isinstance(identity, InstanceIdentity):
        raise InvalidArgument(f"identity certificate is not an instance's: {shown(identity)}")
    return identity
