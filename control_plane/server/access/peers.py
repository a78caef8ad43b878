"""Who is at the other end of a connection, as its verified certificate says.

The rule of this module: a node id is a claim, a certificate is proof. What a stream or a call may
see follows from the certificate alone, and the claim has to agree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import structlog

from control_plane import log_events
from control_plane.ca import (
    Identity,
    InstanceIdentity,
    Issuers,
    OperatorIdentity,
    TrustDomain,
    is_signed_by,
    peer_identity,
)
from control_plane.clock import Clock
from control_plane.errors import InvalidRequest, PermissionDenied, Unauthenticated, Unavailable
from control_plane.model.entities import Instance
from control_plane.model.state import State
from control_plane.names import Address, InstanceGuid, shown
from control_plane.nodes import Credential
from control_plane.server.access.admission import PeerContext
from control_plane.server.access.identities import Identities
from control_plane.server.access.refusals import RefusalTally
from control_plane.xds.messages import Node

_read_identity = lru_cache(maxsize=8192)(peer_identity)
_is_signed_by = lru_cache(maxsize=8192)(is_signed_by)
"""Sidecars report every few seconds, and reading a certificate costs more than the report does."""


@dataclass(frozen=True, slots=True)
class Validity:
    """What makes a certificate of ours worth nothing although a handshake verified it.

    Attributes:
        clock: tells which have ended.
        issuers: returns the CAs of which each has to be, by now. A handshake proves no more than
            that it is below one of their roots, which may have other CAs below it.
        is_gone: tells whether the CA of this name left since.
    """

    trust_domain: TrustDomain
    clock: Clock
    issuers: Callable[[], Issuers]
    is_gone: Callable[[str], bool]

    def check(self, identity: Identity) -> None:
        """Refuse an identity whose certificate is worth nothing by now.

        Raises:
            Unauthenticated: it has ended, or lost its CA.
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


def identity_of(context: PeerContext, validity: Validity) -> Identity:
    """Return who the peer of a call is.

    The handshake verified its certificate, but that may have been long ago.

    Raises:
        Unauthenticated: it showed no certificate, one that we gave to nobody, one that another CA
            signed, or one that has ended or lost its CA since.
    """
    certificate = next(iter(context.auth_context().get("x509_pem_cert", ())), None)
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
        PermissionDenied: it is no operator.
    """
    identity = identity_of(context, validity)
    if not isinstance(identity, OperatorIdentity):
        raise PermissionDenied("only an operator may do this, with an operator's certificate")
    return identity


def identities_in(context: PeerContext) -> tuple[str, ...]:
    """Return the subject alternative names of the peer's certificate; none without one."""
    return tuple(each.decode("utf-8", "replace") for each in context.peer_identities() or ())


def caller(context: PeerContext) -> str:
    """Return who makes a call, for a count: by its certificate, else by where it comes from."""
    return ", ".join(identities_in(context)) or context.peer().rpartition(":")[0]


def source_address(context: PeerContext) -> Address:
    """Return where a call comes from.

    Raises:
        PermissionDenied: it does not come from an IP address.
    """
    kind, _, rest = context.peer().partition(":")
    host, _, _ = rest.rpartition(":")
    if kind not in {"ipv4", "ipv6"}:
        raise PermissionDenied(f"an address is needed to come from, not {shown(context.peer())}")
    return Address(host.removeprefix("%5B").removesuffix("%5D"))  # gRPC writes mapped ones as IPv4


def removed(instance: InstanceGuid) -> PermissionDenied:
    """Return what somebody is told who was an instance once."""
    return PermissionDenied(
        f"instance {instance} was removed: with a new token (c2c join-token) another can take its "
        "place"
    )


class InstanceProof:
    """Tells which instance makes a call, and writes down who is none.

    Proof does not last: it is asked for in each call and on each new stream, also where the
    connection is an old one, and again with all that is said on it. A refusal of ``again`` means
    that the instance was removed, or its certificate ended or lost its CA; a newer one is no
    reason for that, since who renews has streams that show the older: they end without a line.
    """

    def __init__(
        self,
        state: Callable[[], State],
        identities: Identities,
        validity: Validity,
        refusals: RefusalTally,
        seen: Callable[[InstanceIdentity], None],
    ) -> None:
        """Ask these for the State of the moment, and for which certificates count.

        Args:
            state: returns the newest.
            identities: knows which were replaced.
            validity: tells which are worth nothing for another reason.
            refusals: is told of those that are too many for a line each.
            seen: is told of each identity that proved an instance, and returns at once.
        """
        self._state = state
        self._identities = identities
        self._validity = validity
        self._refusals = refusals
        self._seen = seen
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    def of(
        self, context: PeerContext, node_id: str | None = None
    ) -> tuple[InstanceIdentity, Instance]:
        """Return the instance that makes a call.

        Args:
            context: its call.
            node_id: who it says it is, where it says so.

        Raises:
            Unauthenticated: the peer proved nothing.
            PermissionDenied: it is no instance, one that was removed or never was, or another
                than it says, or of another app.
        """
        return self._told(context, lambda: identity_of(context, self._validity), node_id)

    def again(self, context: PeerContext, identity: InstanceIdentity) -> InstanceIdentity:
        """Return the identity that proved an instance on this call before, if it still does.

        Raises:
            Unauthenticated: its certificate is worth nothing by now.
            PermissionDenied: the instance was removed.
            Unavailable: a newer one was used since.
        """

        def still() -> InstanceIdentity:
            self._validity.check(identity)
            if self._identities.counts(identity.instance_guid, identity.serial):
                return identity
            raise Unavailable("a newer certificate of this instance was used: come back")

        return self._told(context, still)[0]

    def of_removed(self, context: PeerContext, node_id: str) -> InstanceIdentity | None:
        """Return who makes a call that was an instance and was removed; None if that is not so.

        Raises:
            Unauthenticated: the peer proved nothing.
        """
        identity = identity_of(context, self._validity)
        if not isinstance(identity, InstanceIdentity) or identity.instance_guid != node_id:
            return None
        left = self._state().tombstone(identity.instance_guid)
        return identity if left is not None and left.app_guid == identity.app_guid else None

    def _told(
        self, context: PeerContext, claim: Callable[[], Identity], node_id: str | None = None
    ) -> tuple[InstanceIdentity, Instance]:
        try:
            identity, instance = self._prove(claim(), node_id)
        except InvalidRequest as error:
            if self._refusals.has_line(log_events.AUDIT_NODES_LIMITED, caller(context)):
                self._audit.warning(
                    log_events.AUDIT_NODE_REFUSED,
                    peer=context.peer(),
                    identities=identities_in(context),
                    node=node_id,
                    reason=error.rule,
                )
            raise
        self._identities.shown(instance.guid, identity.serial)
        self._seen(identity)
        return identity, instance

    def _prove(self, identity: Identity, node_id: str | None) -> tuple[InstanceIdentity, Instance]:
        identities = self._identities
        if not isinstance(identity, InstanceIdentity):
            raise PermissionDenied("only an app instance may do this, with its own certificate")
        instance = self._state().instance(identity.instance_guid)
        if instance is None:
            raise self._absent(identity.instance_guid)
        if instance.app_guid != identity.app_guid:
            raise PermissionDenied(
                f"instance {instance.guid} is not of the app that the certificate says, "
                f"{identity.app_guid}: c2c instances --output json shows its app_guid"
            )
        if not identities.counts(instance.guid, identity.serial):
            raise Unauthenticated(
                f"certificate {identity.serial:x} of instance {instance.guid} does not count any "
                "more, since a newer one was used: if that was not you, remove the instance"
            )
        if node_id is not None and node_id != instance.guid:
            raise PermissionDenied(
                f"node.id must be the instance of the certificate, {instance.guid}, "
                f"not {shown(node_id)}"
            )
        return identity, instance

    def _absent(self, instance: InstanceGuid) -> PermissionDenied:
        if self._state().tombstone(instance) is not None:
            return removed(instance)
        return PermissionDenied(
            f"instance {instance} is not known: register it (c2c register-instance), or let "
            "another enrol with a new token (c2c join-token)"
        )


class InstanceAdmission:
    """Lets an instance open streams as itself, and one that was removed hear that it was."""

    def __init__(self, proof: InstanceProof, awaits: Callable[[InstanceGuid], bool]) -> None:
        """Let in who can prove it.

        Args:
            proof: tells who it is.
            awaits: tells whether an instance that was removed may not know it yet.
        """
        self._proof = proof
        self._awaits = awaits

    def admit(self, node: Node, context: PeerContext) -> Credential:
        """Compare what a node claims with what its certificate proves.

        Raises:
            Unauthenticated: it proved nothing.
            PermissionDenied: it is somebody else, or was removed and told so.
        """
        try:
            identity, _ = self._proof.of(context, node.id)
        except PermissionDenied:
            former = self._proof.of_removed(context, node.id)
            if former is None or not self._awaits(former.instance_guid):
                raise
            identity = former
        return Credential(identity.serial, identity.not_after)
