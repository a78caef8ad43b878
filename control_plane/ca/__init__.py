"""Certificates: what is requested, which CA signs it, and the check before it may be published.

The rule of this package: it is pure (the time, the keys and the serial numbers are arguments), and
nothing else in the project uses ``cryptography``. ``issue`` is ``prepare``, ``sign`` and ``lint``;
only the last makes a ``Leaf``.

- What is requested: a ``request``, with its ``subject``, ``san`` and ``spiffe`` id, within the
  numbers of a ``profile`` and a ``size`` that clients accept.
- Which CA signs: an ``authority`` with its ``keys``. ``loader`` reads one, and refuses it if
  clients would (``constraints``); ``strict`` tells what only some clients refuse.
- How a certificate is issued: ``issuer`` has it prepared (``template``), signed (``signer``) and
  read back (``linter``). ``parcel`` takes all of that to another process.
- From one CA to the next: ``rotation``, with ``cross_signing``, stored as a ``rotation_file``.
- What comes from outside: ``certificate``, ``identity``, ``csr``, ``trust_store``.
"""

from __future__ import annotations

from control_plane.ca.authority import Authority, create_authority
from control_plane.ca.certificate import (
    Certificate,
    Issuers,
    fingerprint,
    is_signed_by,
    read_certificate,
    read_certificates,
    read_claims,
)
from control_plane.ca.csr import make_csr, parse_csr
from control_plane.ca.identity import (
    ControlPlaneIdentity,
    Identity,
    InstanceIdentity,
    OperatorIdentity,
    peer_identity,
)
from control_plane.ca.issuer import issue
from control_plane.ca.keys import KeyFactory, KeyPair, PublicKey, load_key_pair, new_key_pair
from control_plane.ca.linter import Leaf
from control_plane.ca.loader import load_authority, load_trusted
from control_plane.ca.profile import Profile, draw, renew_at
from control_plane.ca.request import (
    C2CRequest,
    IdentityRequest,
    OperatorRequest,
    PortsRequest,
    Request,
    ServerRequest,
)
from control_plane.ca.rotation import Rotation, Stage
from control_plane.ca.san import San
from control_plane.ca.size import check_size, size_problem
from control_plane.ca.spiffe import DEFAULT_TRUST_DOMAIN, TrustDomain, parse_trust_domain
from control_plane.ca.strict import NOT_STRICT, strict_problem
from control_plane.ca.trust_store import JDK_PASSWORD, java_trust_store, read_java_trust_store

__all__ = [
    "DEFAULT_TRUST_DOMAIN",
    "JDK_PASSWORD",
    "NOT_STRICT",
    "Authority",
    "C2CRequest",
    "Certificate",
    "ControlPlaneIdentity",
    "Identity",
    "IdentityRequest",
    "InstanceIdentity",
    "Issuers",
    "KeyFactory",
    "KeyPair",
    "Leaf",
    "OperatorIdentity",
    "OperatorRequest",
    "PortsRequest",
    "Profile",
    "PublicKey",
    "Request",
    "Rotation",
    "San",
    "ServerRequest",
    "Stage",
    "TrustDomain",
    "check_size",
    "create_authority",
    "draw",
    "fingerprint",
    "is_signed_by",
    "issue",
    "java_trust_store",
    "load_authority",
    "load_key_pair",
    "load_trusted",
    "make_csr",
    "new_key_pair",
    "parse_csr",
    "parse_trust_domain",
    "peer_identity",
    "read_certificate",
    "read_certificates",
    "read_claims",
    "read_java_trust_store",
    "renew_at",
    "size_problem",
    "strict_problem",
]
