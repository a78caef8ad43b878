"""The identity of a TLS peer, as the verified certificate states it.

The rule of this module: an identity is exactly one SPIFFE id of our trust domain, in exactly one of
three shapes. Any other certificate identifies nobody, even if our own CA signed it for another
purpose (the certificates of an app's ports have no URI, so they open nothing here).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from control_plane.ca.certificate import Claims, read_claims
from control_plane.ca.spiffe import TrustDomain, read_spiffe_id
from control_plane.errors import InvalidArgument, Unauthenticated
from control_plane.names import AppGuid, InstanceGuid, parse_guid


@dataclass(frozen=True, slots=True)
class InstanceIdentity:
    """An instance of an app, until its certificate ends.

    Attributes:
        not_before: when the certificate's life began.
        issuer: the name of the CA that signed it, in the notation of RFC 4514.
    """

    app_guid: AppGuid
    instance_guid: InstanceGuid
    not_before: datetime
    not_after: datetime
    serial: int
    issuer: str


@dataclass(frozen=True, slots=True)
class OperatorIdentity:
    """An operator, who may use the operators' API.

    Attributes:
        issuer: the name of the CA that signed the certificate, in the notation of RFC 4514.
    """

    name: str
    not_after: datetime
    serial: int
    issuer: str


@dataclass(frozen=True, slots=True)
class ControlPlaneIdentity:
    """The control plane itself.

    Attributes:
        issuer: the name of the CA that signed the certificate, in the notation of RFC 4514.
    """

    not_after: datetime
    serial: int
    issuer: str


Identity = InstanceIdentity | OperatorIdentity | ControlPlaneIdentity


def peer_identity(certificate: bytes, trust_domain: TrustDomain) -> Identity:
    """Return the identity in a peer's certificate (PEM or DER), which the handshake verified.

    Raises:
        Unauthenticated: the certificate cannot be read, or does not have exactly one SPIFFE id of a
            shape that we issue.
    """
    try:
        return _identity(read_claims(certificate), trust_domain)
    except InvalidArgument as error:
        raise Unauthenticated(f"client certificate refused: {error.rule}") from None


def _identity(claims: Claims, trust_domain: TrustDomain) -> Identity:
    uris = claims.uris
    if len(uris) != 1:
        raise InvalidArgument(f"it needs exactly one SPIFFE id and has {len(uris)} URIs")
    not_after, serial, issuer = claims.not_after, claims.serial, claims.issuer
    match read_spiffe_id(uris[0], trust_domain):
        case ("app", app, "instance", instance):
            return InstanceIdentity(
                AppGuid(parse_guid(app, field="certificate")),
                InstanceGuid(parse_guid(instance, field="certificate")),
                claims.not_before,
                not_after,
                serial,
                issuer,
            )
        case ("operator", name):
            return OperatorIdentity(name, not_after, serial, issuer)
        case ("control-plane",):
            return ControlPlaneIdentity(not_after, serial, issuer)
        case segments:
            raise InvalidArgument(
                "SPIFFE path must be that of an instance, an operator or the control plane: /"
                + "/".join(segments)
            )
