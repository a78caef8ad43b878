"""Who is at the other end of a connection, as its verified certificate says.

The rule of this module: a node id is a claim, a certificate is proof. What a stream or a call may
see follows from the certificate alone, and the claim has to agree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from control_plane.ca import (
    Identity,
    InstanceIdentity,
    OperatorIdentity,
    TrustDomain,
    peer_identity,
)
from control_plane.errors import PermissionDenied, Unauthenticated
from control_plane.model.entities import Instance
from control_plane.model.state import State
from control_plane.names import Address, shown
from control_plane.nodes import Credential
from control_plane.xds.messages import Node

Context = grpc.aio.ServicerContext[Any, Any]


def identity_of(context: Context, trust_domain: TrustDomain) -> Identity:
    """Return who the peer of a call is.

    Raises:
        Unauthenticated: it showed no certificate, or one that is nobody's of ours.
    """
    certificate = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
    if certificate is None:
        raise Unauthenticated("a client certificate is required")
    return peer_identity(certificate, trust_domain)


def require_instance(
    context: Context, trust_domain: TrustDomain, state: State
) -> tuple[InstanceIdentity, Instance]:
    """Return the instance that makes a call.

    Raises:
        Unauthenticated: the peer proved nothing.
        PermissionDenied: it is no instance, or one that was removed.
    """
    identity = identity_of(context, trust_domain)
    if not isinstance(identity, InstanceIdentity):
        raise PermissionDenied("only an app instance may do this, with its own certificate")
    instance = state.instance(identity.instance_guid)
    if instance is None or instance.app_guid != identity.app_guid:
        raise PermissionDenied(f"instance {identity.instance_guid} was removed")
    return identity, instance


def require_operator(context: Context, trust_domain: TrustDomain) -> OperatorIdentity:
    """Return the operator who makes a call.

    Raises:
        Unauthenticated: the peer proved nothing.
        PermissionDenied: it is no operator.
    """
    identity = identity_of(context, trust_domain)
    if not isinstance(identity, OperatorIdentity):
        raise PermissionDenied("only an operator may do this, with an operator's certificate")
    return identity


def source_address(context: Context) -> Address:
    """Return where a call comes from.

    Raises:
        PermissionDenied: it does not come from an IP address.
    """
    kind, _, rest = context.peer().partition(":")
    host, _, _ = rest.rpartition(":")
    if kind not in {"ipv4", "ipv6"}:
        raise PermissionDenied(f"an address is needed to come from, not {shown(context.peer())}")
    text = host.removeprefix("%5B").removesuffix("%5D").strip("[]")
    return Address(text.removeprefix("::ffff:"))


class InstanceAdmission:
    """Lets an instance open streams as itself."""

    def __init__(self, state: Callable[[], State], trust_domain: TrustDomain) -> None:
        """Ask this for the State of the moment."""
        self._state = state
        self._trust_domain = trust_domain

    def admit(self, node: Node, context: Context) -> Credential:
        """Compare what a node claims with what its certificate proves.

        Raises:
            Unauthenticated: it proved nothing.
            PermissionDenied: it is somebody else, or was removed.
        """
        identity, _ = require_instance(context, self._trust_domain, self._state())
        if node.id != identity.instance_guid:
            raise PermissionDenied(
                f"node.id must be the instance of the certificate, {identity.instance_guid}, "
                f"not {shown(node.id)}"
            )
        return Credential(identity.serial, identity.not_after)
