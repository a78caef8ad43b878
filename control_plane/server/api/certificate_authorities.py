"""CertificateAuthorityService: the CA and its rotation (protos/c2c/v1/certificate_authority.proto).

The rule of this module: each answer shows the state after the call, so that the caller knows what
to wait for next. An answer about a fleet is made in slices, so that other tasks get their turn. No
operator is locked out by its own call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from control_plane.api.v1 import certificate_authority_pb2 as messages
from control_plane.api.v1 import certificate_authority_pb2_grpc
from control_plane.ca import Authority, Stage, strict_problem
from control_plane.ca.rotation import crossing_problem, pinning_problem
from control_plane.clock import Clock
from control_plane.server.access.admission import Context
from control_plane.server.access.validity import shown_issuer
from control_plane.server.api.inspection_values import timestamp
from control_plane.server.ca_rotation.progress import AT_ONCE, Readiness
from control_plane.server.ca_rotation.steps import CaRotation
from control_plane.server.turns import unhurried


class CertificateAuthorityService(
    certificate_authority_pb2_grpc.CertificateAuthorityServiceServicer
):
    """Shows the CAs, and has them rotated."""

    def __init__(self, rotation: CaRotation, clock: Clock) -> None:
        """Rotate the CA with this."""
        self._rotation = rotation
        self._clock = clock

    async def ListCertificateAuthorities(
        self,
        request: messages.ListCertificateAuthoritiesRequest,  # noqa: ARG002 - it is empty
        context: Context,
    ) -> messages.ListCertificateAuthoritiesResponse:
        """Show the CA that signs, and the CA that is prepared or retiring."""
        return messages.ListCertificateAuthoritiesResponse(
            authorities=[each async for each in self._shown()]
        )

    async def PrepareCertificateAuthority(
        self, request: messages.PrepareCertificateAuthorityRequest, context: Context
    ) -> messages.PrepareCertificateAuthorityResponse:
        """Make everybody trust another CA."""
        await self._rotation.prepare(
            request.ca_cert, request.ca_key, uncrossed=request.allow_uncrossed
        )
        return messages.PrepareCertificateAuthorityResponse(
            authorities=[each async for each in self._shown()]
        )

    async def UndoPrepareCertificateAuthority(
        self, request: messages.UndoPrepareCertificateAuthorityRequest, context: Context
    ) -> messages.UndoPrepareCertificateAuthorityResponse:
        """Forget the prepared CA."""
        await self._rotation.undo_prepare(force=request.force, caller=shown_issuer(context))
        return messages.UndoPrepareCertificateAuthorityResponse(
            authorities=[each async for each in self._shown()]
        )

    async def ActivateCertificateAuthority(
        self, request: messages.ActivateCertificateAuthorityRequest, context: Context
    ) -> messages.ActivateCertificateAuthorityResponse:
        """Make the prepared CA sign."""
        await self._rotation.activate(force=request.force)
        return messages.ActivateCertificateAuthorityResponse(
            authorities=[each async for each in self._shown()]
        )

    async def UndoActivateCertificateAuthority(
        self, request: messages.UndoActivateCertificateAuthorityRequest, context: Context
    ) -> messages.UndoActivateCertificateAuthorityResponse:
        """Make the CA sign that signed before."""
        await self._rotation.undo_activate(force=request.force)
        return messages.UndoActivateCertificateAuthorityResponse(
            authorities=[each async for each in self._shown()]
        )

    async def RetireCertificateAuthority(
        self, request: messages.RetireCertificateAuthorityRequest, context: Context
    ) -> messages.RetireCertificateAuthorityResponse:
        """Forget the CA that signed before."""
        await self._rotation.retire(force=request.force, caller=shown_issuer(context))
        return messages.RetireCertificateAuthorityResponse(
            authorities=[each async for each in self._shown()]
        )

    async def _shown(self) -> AsyncIterator[messages.CertificateAuthority]:
        rotation, look = self._rotation.rotation, self._rotation.look()
        active = await self._message("active", rotation.active)
        if rotation.active_since is not None:
            active.since.CopyFrom(timestamp(rotation.active_since))
        if rotation.other is None or look is None:
            yield active
            return
        is_prepared = rotation.stage is Stage.PREPARED
        other = await self._message("prepared" if is_prepared else "retiring", rotation.other)
        other.since.CopyFrom(timestamp(rotation.since))
        now = self._clock.now()
        if is_prepared:
            active.not_cross_signed = crossing_problem(
                active=rotation.active, other=rotation.other, now=now
            )
        other.not_cross_signed = crossing_problem(
            active=rotation.other, other=rotation.active, now=now
        )
        new, old = (rotation.active, rotation.other)
        if is_prepared:
            new, old = old, new
        (other if is_prepared else active).not_pinned = pinning_problem(
            active=new, other=old, now=now
        )
        yield active
        await self._tell_readiness(other, await look.in_turns())
        yield other

    async def _message(self, role: str, authority: Authority) -> messages.CertificateAuthority:
        return messages.CertificateAuthority(
            role=role,
            subject=authority.subject,
            fingerprint=authority.fingerprint,
            not_before=timestamp(authority.not_before),
            not_after=timestamp(authority.not_after),
            live_certificates=await self._rotation.progress.live_certificates(authority),
            not_strict=strict_problem(authority),
        )

    async def _tell_readiness(
        self, message: messages.CertificateAuthority, readiness: Readiness
    ) -> None:
        message.waits_for = self._rotation.sentence(readiness)
        message.ready, message.wanted = readiness.ready, readiness.wanted
        async for each in unhurried(readiness.waiting, AT_ONCE):
            key = readiness.state.apps[each.instance.app_guid].key
            message.waiting.add(
                instance_guid=each.instance.guid,
                app=key.name,
                app_guid=each.instance.app_guid,
                space=key.space,
                org=key.org,
                index=each.instance.index,
                reason=each.reason,
            )
