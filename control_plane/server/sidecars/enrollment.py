"""How an instance gets its first identity.

The rule of this module: a sidecar proves with a join token which app its instance belongs to, and
by the source of its connection which address is its own. It makes its private key itself and never
sends it. A refused request changes nothing and is in the audit log, on its own or counted with
others. If the caller leaves before the answer, the enrolment is undone and the token is as good as
before. If the answer is lost on its way, the same request is answered again until the instance has
connected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

import structlog

from control_plane import log_events
from control_plane.api.v1 import enrollment_pb2, enrollment_pb2_grpc
from control_plane.ca import Leaf
from control_plane.clock import Clock
from control_plane.errors import AlreadyExists, ControlPlaneError, PermissionDenied
from control_plane.model.change import Decision
from control_plane.model.entities import App, Instance, JoinToken
from control_plane.model.instances import register_instance, remove_instance
from control_plane.model.state import State
from control_plane.model.tokens import admits, known_token, spend_token, take_back_use
from control_plane.names import Address, InstanceGuid, shown
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.access.applicants import Applicants
from control_plane.server.access.identities import Identities
from control_plane.server.access.instance_proof import removed
from control_plane.server.access.peers import source_address
from control_plane.server.api.join_tokens import token_digest
from control_plane.server.budget import CertificateBudget
from control_plane.server.observability.audit import CALLER_LEFT
from control_plane.server.sidecars.application import Application


class EnrollmentService(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Gives an instance its first identity, for a join token."""

    def __init__(  # noqa: PLR0913 - one argument for each part that an enrolment concerns
        self,
        registry: Registry,
        identities: Identities,
        budget: CertificateBudget,
        *,
        is_alive: Callable[[InstanceGuid], bool],
        applicants: Applicants,
        without_tombstone: Callable[[InstanceGuid], AbstractContextManager[None]],
        trust_bundle: Callable[[], bytes],
        new_guid: Callable[[], str],
        xds_port: int,
        clock: Clock,
    ) -> None:
        """Enrol into this registry.

        Args:
            registry: where tokens are spent and instances are registered.
            identities: issues the certificates.
            budget: refuses an instance whose certificate no client would accept.
            is_alive: tells whether the instance that holds an address is there, or may come back.
            applicants: bounds how often attempts may fail.
            without_tombstone: within its block, an instance that is removed leaves no tombstone.
            trust_bundle: the certificates that the sidecar and the app must trust.
            new_guid: gives the GUIDs of new instances.
            xds_port: the port that the sidecar has to connect to next.
            clock: tells which tokens have expired.
        """
        self._registry = registry
        self._identities = identities
        self._budget = budget
        self._is_alive = is_alive
        self._applicants = applicants
        self._without_tombstone = without_tombstone
        self._trust_bundle = trust_bundle
        self._new_guid = new_guid
        self._xds_port = xds_port
        self._clock = clock
        self._undoing: dict[asyncio.Task[None], str] = {}
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    async def Enroll(
        self, request: enrollment_pb2.EnrollRequest, context: Context
    ) -> enrollment_pb2.EnrollResponse:
        """Register an instance and issue its identity certificate."""
        source, token, guid = source_address(context), "", None
        digest = token_digest(request.token)
        try:
            await self._undone(digest)
            # An applicant without a good token does not get as far as the queue of changes.
            known_token(self._registry.state, digest, self._clock.now())
            token = digest
            self._applicants.let_in(token)
            application = Application.read(request, digest, source)
            again = application.earlier(self._registry.state)
            if again is None:
                spend_token(self._registry.state, digest, self._clock.now())
                guid = self._guid(application)
            committed = await self._registry.execute(
                lambda state: self._enrol(state, application, guid or application.guid)
            )
            instance, leaf = committed.result
            if self._registry.state.instance(instance.guid) is None:
                raise removed(instance.guid)  # its app was deleted in the same transaction
        except ControlPlaneError as error:
            if guid is not None:
                self._identities.forget(guid)
            answer = self._applicants.refuse(error, source, token)
            if answer is not error:
                raise answer from error
            if self._applicants.has_line(error, source, token):
                self._tell_refusal(request, context, str(error))
            raise
        except asyncio.CancelledError:
            if self._applicants.left(source, digest):
                self._tell_refusal(request, context, CALLER_LEFT)
            if guid is not None:
                # No sidecar has this identity, so it must not hold the address nor cost a use.
                self._identities.forget(guid)
                self._undo(guid, digest)
            raise
        self._identities.given(instance.guid, leaf)
        self._audit.info(
            log_events.AUDIT_ENROLLED,
            peer=context.peer(),
            instance=instance.guid,
            app=instance.app_guid,
            address=instance.address,
            serial=f"{leaf.serial:x}",
            join_token=committed.state.tokens[digest].guid,
            again=again is not None,
        )
        return self._response(committed.state.apps[instance.app_guid], instance, leaf)

    def _guid(self, application: Application) -> InstanceGuid:
        """Return the GUID of the request, or another one if an instance has or had it already."""
        state, guid = self._registry.state, application.guid
        if state.instance(guid) is None and state.tombstone(guid) is None:
            return guid
        return InstanceGuid(self._new_guid())

    def _response(self, app: App, instance: Instance, leaf: Leaf) -> enrollment_pb2.EnrollResponse:
        return enrollment_pb2.EnrollResponse(
            instance_guid=instance.guid,
            app_guid=instance.app_guid,
            index=instance.index,
            address=instance.address,
            certificate=leaf.certificate_chain_pem,
            trust_bundle=self._trust_bundle().decode("ascii"),
            xds_port=self._xds_port,
            app_ports=app.ports,
            c2c_port=app.c2c_port or 0,
        )

    async def _undone(self, digest: str) -> None:
        """Wait until abandoned enrolments with this token are undone, and it is good again."""
        while undoing := [task for task, spent in self._undoing.items() if spent == digest]:
            await asyncio.wait(undoing)

    def _undo(self, guid: InstanceGuid, digest: str) -> None:
        """Remove the instance of an abandoned enrolment, should the commit under way register it.

        Its certificate was dropped before any of it was sent, so its token enrolled nobody.
        """

        def undone(state: State) -> Decision[JoinToken | None]:
            removal = remove_instance(state, guid)
            if removal.result is None:
                return Decision(state, None)
            return removal.then(lambda rest, _: take_back_use(rest, digest))

        async def undo() -> None:
            # No client with this identity can come back, so no tombstone is needed.
            with suppress(ControlPlaneError), self._without_tombstone(guid):
                await self._registry.execute(undone)

        task = asyncio.create_task(undo())
        self._undoing[task] = digest
        task.add_done_callback(self._undoing.pop)

    def _tell_refusal(
        self, request: enrollment_pb2.EnrollRequest, context: Context, reason: str
    ) -> None:
        self._audit.warning(
            log_events.AUDIT_ENROLLMENT_REFUSED,
            peer=context.peer(),
            address=shown(request.address),
            reason=reason,
        )

    def _enrol(
        self, state: State, application: Application, guid: InstanceGuid
    ) -> Decision[tuple[Instance, Leaf]]:
        """Spend the token, register and issue: all of it, or nothing."""
        address, source = application.address, application.source
        if application.earlier(state) is None:
            token = spend_token(state, application.digest, self._clock.now())
        else:
            token = Decision(state, known_token(state, application.digest, self._clock.now()))
        if not admits(token.result, address, source):
            raise PermissionDenied(
                f"an instance may enrol with the address that it connects from, {source}, or one "
                f"in the range of its token (c2c join-token --address-range), not {shown(address)}",
                field="address",
            )

        def register(state: State, _: Instance | None) -> Decision[Instance]:
            app = token.result.app_guid
            registered = register_instance(state, guid, app, address, application.app_address)
            self._budget.check(registered.state, app)
            return registered

        def issue(state: State, instance: Instance) -> Decision[tuple[Instance, Leaf]]:
            leaf = self._identities.issue(state.apps[instance.app_guid], instance, application.key)
            # An enrolment with the same address in the same transaction has to find this instance
            # alive.
            self._identities.enrols(guid, leaf)
            return Decision(state, (instance, leaf))

        vacated = token.then(lambda state, _: self._vacate(state, guid, address))
        return vacated.then(register).then(issue)

    def _vacate(
        self, state: State, guid: InstanceGuid, address: Address
    ) -> Decision[Instance | None]:
        """Remove another instance that had this address before, unless it is alive.

        A new identity is a new instance, even at the address of an instance of the same app.
        """
        holder = state.instance_at(address)
        if holder is None or holder.guid == guid:
            return Decision(state, None)
        if self._is_alive(holder.guid):
            raise AlreadyExists(
                f"address {shown(address)} is held by another instance that is running or may "
                "come back",
                field="address",
            )
        return remove_instance(state, holder.guid)
