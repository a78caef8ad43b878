"""How an instance keeps its identity.

The rule of this module: a sidecar that renews proves by mTLS which instance it is. It makes the
private key itself and never sends it. A refused attempt changes nothing and is in the audit log, on
its own or, if an instance renews without end, counted with others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from control_plane import log_events
from control_plane.api.v1 import identity_pb2, identity_pb2_grpc
from control_plane.ca import Leaf, parse_csr
from control_plane.errors import (
    AlreadyExists,
    ControlPlaneError,
    LimitExceeded,
    PermissionDenied,
)
from control_plane.model.change import Decision
from control_plane.model.entities import Instance
from control_plane.model.instances import move_instance
from control_plane.model.state import State
from control_plane.names import Address, InstanceGuid, parse_address, shown
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.access.identities import Identities
from control_plane.server.access.instance_proof import InstanceProof, removed
from control_plane.server.access.peers import source_address
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.limits import TokenBuckets
from control_plane.server.observability.audit import CALLER_LEFT


class IdentityService(identity_pb2_grpc.IdentityServiceServicer):
    """Renews the identity of an instance that proves by mTLS to have it."""

    def __init__(
        self,
        registry: Registry,
        identities: Identities,
        proof: InstanceProof,
        *,
        is_alive: Callable[[InstanceGuid], bool],
        trust_bundle: Callable[[], bytes],
        pace: TokenBuckets,
        refusals: RefusalTally,
    ) -> None:
        """Renew the identities of the instances in this registry.

        Args:
            registry: where instances move.
            identities: issues the certificates.
            proof: tells which instance calls.
            is_alive: tells whether the instance that holds an address is there.
            trust_bundle: the certificates that the sidecar and the app must trust.
            pace: how often each instance may renew.
            refusals: told of renewals that came too often.
        """
        self._registry = registry
        self._identities = identities
        self._proof = proof
        self._is_alive = is_alive
        self._trust_bundle = trust_bundle
        self._pace = pace
        self._refusals = refusals
        self._away: dict[InstanceGuid, Address] = {}
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    async def Renew(
        self, request: identity_pb2.RenewRequest, context: Context
    ) -> identity_pb2.RenewResponse:
        """Issue a newer certificate; the instance may have moved to the address it calls from."""
        identity, instance = self._proof.of(context)
        if not self._pace.take(instance.guid):
            self._refusals.count(log_events.AUDIT_RENEWALS_LIMITED, instance.guid)
            raise LimitExceeded("this instance renews too often: come again in a second")
        source = source_address(context)
        try:
            committed = await self._registry.execute(
                lambda state: self._renew(state, instance.guid, request, source)
            )
            if self._registry.state.instance(instance.guid) is None:  # gone in the same commit
                raise removed(instance.guid)
        except ControlPlaneError as error:
            self._tell_refusal(instance, context, str(error))
            if isinstance(error, AlreadyExists):
                self._left(instance)
            raise
        except asyncio.CancelledError:
            self._tell_refusal(instance, context, CALLER_LEFT)
            raise
        leaf = committed.result
        self._away.pop(instance.guid, None)
        self._identities.given(instance.guid, leaf)
        self._audit.info(
            log_events.AUDIT_IDENTITY_RENEWED,
            peer=context.peer(),
            instance=instance.guid,
            old_serial=f"{identity.serial:x}",
            serial=f"{leaf.serial:x}",
        )
        return identity_pb2.RenewResponse(
            certificate=leaf.certificate_chain_pem, trust_bundle=self._trust_bundle().decode()
        )

    def _tell_refusal(self, instance: Instance, context: Context, reason: str) -> None:
        self._audit.warning(
            log_events.AUDIT_RENEWAL_REFUSED,
            peer=context.peer(),
            instance=instance.guid,
            reason=reason,
        )

    def _renew(
        self, state: State, guid: InstanceGuid, request: identity_pb2.RenewRequest, source: Address
    ) -> Decision[Leaf]:
        """Move the instance to the address that it now claims, and issue: both, or nothing."""
        key = parse_csr(request.csr)

        def issue(state: State, instance: Instance) -> Decision[Leaf]:
            leaf = self._identities.issue(state.apps[instance.app_guid], instance, key)
            return Decision(state, leaf)

        return self._move(state, guid, request, source).then(issue)

    def _move(
        self, state: State, guid: InstanceGuid, request: identity_pb2.RenewRequest, source: Address
    ) -> Decision[Instance]:
        instance = state.instance(guid)
        if instance is None:
            raise removed(guid)
        address = parse_address(request.address or instance.address)
        if address not in (instance.address, source):
            raise PermissionDenied(
                f"an instance may move to the address that it connects from, {source}, "
                f"not to {shown(address)}",
                field="address",
            )
        holder = state.instance_at(address)
        return move_instance(
            state,
            guid,
            address,
            request.app_address,
            holder_gone=holder is None or self._is_gone(holder),
        )

    def _is_gone(self, holder: Instance) -> bool:
        return self._away.get(holder.guid) == holder.address or not self._is_alive(holder.guid)

    def _left(self, instance: Instance) -> None:
        """Note that an instance no longer is at its registered address: it called from another one.

        Otherwise two instances that exchanged their addresses while the server was down would wait
        for each other.
        """
        state = self._registry.state
        self._away = {guid: at for guid, at in self._away.items() if state.instance(guid)}
        self._away[instance.guid] = instance.address
