"""What the verified certificate of a peer proves: who it is.

The rule of this module: a handshake verified the certificate, but that proves less than it seems.
Since then the certificate may have expired, or its CA may have been retired; and the CA need not be
one that signs here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from control_plane.ca import (
    Identity,
    Issuers,
    OperatorIdentity,
    TrustDomain,
    is_signed_by,
    peer_identity,
    read_claims,
)
from control_plane.clock import Clock
from control_plane.errors import PermissionDenied, Unauthenticated
from control_plane.model.operators import REVOKED
from control_plane.server.access.admission import PeerContext

_read_identity = lru_cache(maxsize=8192)(peer_identity)
_is_signed_by = lru_cache(maxsize=8192)(is_signed_by)
_read_claims = lru_cache(maxsize=8192)(read_claims)
"""A client shows the same certificate with each call, and reading it costs more than many calls
do."""


@dataclass(frozen=True, slots=True)
class Validity:
    """What makes a certificate of ours worthless although a handshake verified it.

    Attributes:
        clock: tells which certificates have expired.
        issuers: returns the CAs that may have issued a certificate, as they are by now. A handshake
            proves no more than that the certificate is below one of their roots, which may have
            other CAs below it.
        is_gone: tells whether the CA of this name has been retired since.
        is_revoked: tells whether the operator's certificate with this serial has been revoked.
    """

    trust_domain: TrustDomain
    clock: Clock
    issuers: Callable[[], Issuers]
    is_gone: Callable[[str], bool]
    is_revoked: Callable[[int], bool]

    def check(self, identity: Identity) -> None:
        """Refuse an identity whose certificate is worthless by now.

        Raises:
            Unauthenticated: the certificate has expired or was revoked, or its CA was retired.
        """
        if self.is_gone(identity.issuer):
            raise Unauthenticated(
                f"client certificate is of a CA that was retired: {identity.issuer}"
            )
        if identity.not_after <= self.clock.now():
            raise Unauthenticated(
                f"client certificate ended at {identity.not_after:%Y-%m-%dT%H:%M:%SZ}: "
                "connect with a newer one"
            )
        if isinstance(identity, OperatorIdentity) and self.is_revoked(identity.serial):
            raise Unauthenticated(REVOKED)


def identity_of(context: PeerContext, validity: Validity) -> Identity:
    """Return the identity of a call's peer.

    The handshake verified the peer's certificate, but that may have been long ago.

    Raises:
        Unauthenticated: the peer showed no certificate, one that we never gave to anybody, one that
            another CA signed, or one that has expired, was revoked or whose CA was retired.
    """
    certificate = _shown(context)
    if certificate is None:
        raise Unauthenticated("a client certificate is required")
    identity = _read_identity(certificate, validity.trust_domain)
    validity.check(identity)
    if not _is_signed_by(certificate, validity.issuers()):
        raise Unauthenticated(
            f"client certificate is of a CA that does not sign here: {identity.issuer}"
        )
    return identity


def require_operator(context: PeerContext, validity: Validity) -> OperatorIdentity:
    """Return the operator who makes a call.

    Raises:
        Unauthenticated: the peer proved nothing.
        PermissionDenied: the peer is no operator.
    """
    identity = identity_of(context, validity)
    if not isinstance(identity, OperatorIdentity):
        raise PermissionDenied("only an operator may do this, with an operator's certificate")
    return identity


def asking_operator(context: PeerContext, validity: Validity) -> OperatorIdentity | None:
    """Return the operator who makes a call; None on the socket, where nobody shows a certificate.

    Raises:
        Unauthenticated: the peer's certificate has become worthless since the call was let in.
    """
    if _shown(context) is None:
        return None
    return require_operator(context, validity)


def shown_serial(context: PeerContext) -> int | None:
    """Return the serial of the peer's certificate, whatever it is worth; None if it showed none."""
    certificate = _shown(context)
    return None if certificate is None else _read_claims(certificate).serial


def shown_issuer(context: PeerContext) -> str:
    """Return the name of the CA that signed the peer's certificate; "" if it showed none."""
    certificate = _shown(context)
    return "" if certificate is None else _read_claims(certificate).issuer


def _shown(context: PeerContext) -> bytes | None:
    return next(iter(context.auth_context().get("x509_pem_cert", ())), None)
