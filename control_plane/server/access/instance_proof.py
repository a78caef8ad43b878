"""Which instance is at the other end of a connection.

The rule of this module: a node id is a claim, a certificate is proof. What a stream or a call may
see follows from the certificate alone, and the claim has to agree with it.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from control_plane import log_events
from control_plane.ca import Identity, InstanceIdentity
from control_plane.errors import InvalidRequest, PermissionDenied, Unauthenticated, Unavailable
from control_plane.model.entities import Instance, Tombstone
from control_plane.model.state import State
from control_plane.names import InstanceGuid, shown
from control_plane.nodes import Credential
from control_plane.server.access.admission import PeerContext
from control_plane.server.access.identities import Identities
from control_plane.server.access.peers import caller, identities_in
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.access.validity import Validity, identity_of
from control_plane.xds.messages import Node


def removed(instance: InstanceGuid) -> PermissionDenied:
    """Return the error for a client that was an instance and has been removed."""
    return PermissionDenied(
        f"instance {instance} was removed: with a new token (c2c join-token) another can take its "
        "place"
    )


class InstanceProof:
    """Tells which instance makes a call, and records callers that are no instance.

    A proof does not last. It is asked for with each call and each new stream, even on a connection
    that has been open for long, and once more (``again``) with each message of a stream. A stream
    that shows an older certificate after a newer one was used ends without a line in the audit log,
    since every renewal leads to that.
    """

    def __init__(
        self,
        state: Callable[[], State],
        identities: Identities,
        validity: Validity,
        refusals: RefusalTally,
        seen: Callable[[InstanceIdentity], None],
    ) -> None:
        """Ask these for the current State, and for which certificates count.

        Args:
            state: returns the newest State.
            identities: knows which certificates were replaced.
            validity: tells which certificates are worthless for another reason.
            refusals: told of refusals that are too many for a line each.
            seen: told of each identity that proved an instance, or one that may return; returns at
                once.
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
            context: the call.
            node_id: the node that the caller says it is, if it says so.

        Raises:
            Unauthenticated: the peer proved nothing.
            PermissionDenied: the peer is no instance; or it was removed or never existed; or it is
                not the node that it says it is; or it belongs to another app.
        """
        return self._told(context, lambda: identity_of(context, self._validity), node_id)

    def again(self, context: PeerContext, identity: InstanceIdentity) -> InstanceIdentity:
        """Return the identity that earlier proved an instance on this call, if it still does.

        Raises:
            Unauthenticated: its certificate is worthless by now.
            PermissionDenied: the instance was removed.
            Unavailable: a newer certificate has been used since.
        """

        def still() -> InstanceIdentity:
            self._validity.check(identity)
            if self._identities.counts(identity.instance_guid, identity.serial):
                return identity
            raise Unavailable("a newer certificate of this instance was used: come back")

        return self._told(context, still)[0]

    def of_returning(self, context: PeerContext) -> InstanceIdentity | None:
        """Return the caller's identity if its instance was removed, but may return.

        If it is None, ``of`` tells who calls, or what is wrong with that caller.
        """
        try:
            identity = identity_of(context, self._validity)
        except InvalidRequest:
            return None
        if not isinstance(identity, InstanceIdentity):
            return None
        left = self._left_of(identity)
        if left is None or left.address is None:
            return None
        if not self._identities.counts(identity.instance_guid, identity.serial):
            return None
        self._identities.shown(identity.instance_guid, identity.serial)
        self._seen(identity)
        return identity

    def of_removed(self, context: PeerContext, node_id: str) -> InstanceIdentity | None:
        """Return the caller's identity if it is that of a removed instance; otherwise None.

        Raises:
            Unauthenticated: the peer proved nothing.
        """
        identity = identity_of(context, self._validity)
        if not isinstance(identity, InstanceIdentity) or identity.instance_guid != node_id:
            return None
        return None if self._left_of(identity) is None else identity

    def _left_of(self, identity: InstanceIdentity) -> Tombstone | None:
        left = self._state().tombstone(identity.instance_guid)
        return left if left is not None and left.app_guid == identity.app_guid else None

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
        left = self._state().tombstone(instance)
        if left is not None and left.address is not None:
            return PermissionDenied(
                f"instance {instance} was away and another has its address now: start its sidecar "
                "again where it has an address of its own"
            )
        if left is not None:
            return removed(instance)
        return PermissionDenied(
            f"instance {instance} is not known: register it (c2c register-instance), or let "
            "another enrol with a new token (c2c join-token)"
        )


class InstanceAdmission:
    """Lets an instance open streams as itself, and a removed instance learn that it was removed."""

    def __init__(self, proof: InstanceProof, awaits: Callable[[InstanceGuid], bool]) -> None:
        """Let in clients that can prove which instance they are.

        Args:
            proof: tells which instance a client is.
            awaits: tells whether an instance that was removed may not know that yet.
        """
        self._proof = proof
        self._awaits = awaits

    def admit(self, node: Node, context: PeerContext) -> Credential:
        """Compare what a node claims with what its certificate proves.

        Raises:
            Unauthenticated: the client proved nothing.
            PermissionDenied: the client is not that instance, or was removed and has been told so.
        """
        try:
            identity, _ = self._proof.of(context, node.id)
        except PermissionDenied:
            former = self._proof.of_removed(context, node.id)
            if former is None or not self._awaits(former.instance_guid):
                raise
            identity = former
        return Credential(identity.serial, identity.not_after)
