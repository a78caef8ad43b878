"""How an instance keeps its identity.

The rule of this module: a sidecar that renews proves by mTLS which instance it is. It makes the
private key itself and never sends it. If its instance was away, and another one got its address
meanwhile, it is registered again at the address that it comes from. A refused attempt changes
nothing and is in the audit log, on its own or, if an instance renews without end, counted with
others.
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
from control_plane.model.instances import move_instance, return_instance
from control_plane.model.state import State
from control_plane.names import Address, InstanceGuid, parse_address, shown
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.access.identities import Identities
from control_plane.server.access.instance_proof import InstanceProof, removed
from control_plane.server.access.peers import source_address
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.budget import CertificateBudget
from control_plane.server.observability.audit import CALLER_LEFT
from control_plane.server.rates import TokenBuckets


class IdentityService(identity_pb2_grpc.IdentityServiceServicer):
    """Renews the identity of an instance that proves by mTLS to have it."""

    def __init__(  # noqa: PLR0913 - one argument for each part that a renewal concerns
        self,
        registry: Registry,
        identities: Identities,
        proof: InstanceProof,
        budget: CertificateBudget,
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
            budget: refuses an instance that returns if no client would accept its certificate.
            is_alive: tells whether the instance that holds an address is there.
            trust_bundle: the certificates that the sidecar and the app must trust.
            pace: how often each instance may renew.
            refusals: told of renewals that came too often.
        """
        self._registry = registry
        self._identities = identities
        self._proof = proof
        self._budget = budget
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
        identity = self._proof.of_returning(context) or self._proof.of(context)[0]
        guid = identity.instance_guid
        if not self._pace.take(guid):
            self._refusals.count(log_events.AUDIT_RENEWALS_LIMITED, guid)
            raise LimitExceeded("this instance renews too often: come again in a second")
        source = source_address(context)
        try:
            committed = await self._registry.execute(
                lambda state: self._renew(state, guid, request, source)
            )
            if self._registry.state.instance(guid) is None:  # gone in the same commit
                raise removed(guid)
        except ControlPlaneError as error:
            self._tell_refusal(guid, context, str(error))
            if isinstance(error, AlreadyExists):
                self._left(guid)
            raise
        except asyncio.CancelledError:
            self._tell_refusal(guid, context, CALLER_LEFT)
            raise
        leaf = committed.result
        self._away.pop(guid, None)
        self._identities.given(guid, leaf)
        self._audit.info(
            log_events.AUDIT_IDENTITY_RENEWED,
            peer=context.peer(),
            instance=guid,
            old_serial=f"{identity.serial:x}",
            serial=f"{leaf.serial:x}",
        )
        return identity_pb2.RenewResponse(
            certificate=leaf.certificate_chain_pem, trust_bundle=self._trust_bundle().decode()
        )

    def _tell_refusal(self, guid: InstanceGuid, context: Context, reason: str) -> None:
        self._audit.warning(
            log_events.AUDIT_RENEWAL_REFUSED,
            peer=context.peer(),
            instance=guid,
            reason=reason,
        )

    def _renew(
        self, state: State, guid: InstanceGuid, request: identity_pb2.RenewRequest, source: Address
    ) -> Decision[Leaf]:
        """Move the instance to the address that it now claims, and issue: both, or nothing."""
        key = parse_csr(request.csr)

        def issue(now: State, instance: Instance) -> Decision[Leaf]:
            leaf = self._identities.issue(now.apps[instance.app_guid], instance, key)
            if state.instance(guid) is None:
                self._identities.enrols(guid, leaf)  # it returns, and has no stream yet
            return Decision(now, leaf)

        return self._placed(state, guid, request, source).then(issue)

    def _placed(
        self, state: State, guid: InstanceGuid, request: identity_pb2.RenewRequest, source: Address
    ) -> Decision[Instance]:
        instance, left = state.instance(guid), state.tombstone(guid)
        known = instance or left
        own = None if known is None else known.address
        if own is None:
            raise removed(guid)
        address = parse_address(request.address or own)
        if address not in (own, source):
            raise PermissionDenied(
                f"an instance may move to the address that it connects from, {source}, "
                f"not to {shown(address)}",
                field="address",
            )
        holder = state.instance_at(address)
        holder_gone = holder is None or self._is_gone(holder)
        if left is not None:
            back = return_instance(
                state, left, address, request.app_address, holder_gone=holder_gone
            )
            self._budget.check(back.state, left.app_guid)
            return back
        return move_instance(state, guid, address, request.app_address, holder_gone=holder_gone)

    def _is_gone(self, holder: Instance) -> bool:
        return self._away.get(holder.guid) == holder.address or not self._is_alive(holder.guid)

    def _left(self, guid: InstanceGuid) -> None:
        """Note that an instance no longer is at its registered address: it called from another one.

        Otherwise two instances that exchanged their addresses while the server was down would wait
        for each other.
        """
        state = self._registry.state
        self._away = {guid: at for guid, at in self._away.items() if state.instance(guid)}
        instance = state.instance(guid)
        if instance is not None:
            self._away[guid] = instance.address
