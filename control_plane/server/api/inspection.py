"""InspectionService: what operators look at (protos/c2c/v1/inspection.proto).

The rule of this module: it changes nothing, and a long answer lets streams and commands go ahead
while it is made. A watcher that hangs up or reads too slowly affects nobody else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.ca.profile import renew_at
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.errors import NotFound, Unavailable
from control_plane.model.entities import Instance
from control_plane.model.state import State
from control_plane.names import InstanceGuid, shown
from control_plane.reconciler.certificates.ledger import Entry
from control_plane.server.access.admission import Context
from control_plane.server.api.inspection_events import Wanted, event
from control_plane.server.api.inspection_explain import Explainer
from control_plane.server.api.inspection_status import StatusMessages, certificate_reason
from control_plane.server.api.inspection_values import (
    AT_ONCE,
    Inspected,
    certificate_state,
    hexadecimal,
    timestamp,
)
from control_plane.server.api.selection import asked_instances
from control_plane.server.observability.feed import Feed
from control_plane.server.turns import unhurried

_STOPPING = "the server is shutting down"


class InspectionService(inspection_pb2_grpc.InspectionServiceServicer):
    """Shows the state of everything, and reports what happens."""

    def __init__(self, inspected: Inspected, explainer: Explainer, feed: Feed) -> None:
        """Show what these know."""
        self._inspected = inspected
        self._explainer = explainer
        self._feed = feed

    async def GetStatus(
        self, request: inspection_pb2.GetStatusRequest, context: Context
    ) -> inspection_pb2.GetStatusResponse:
        """Show how far each instance has got."""
        state, revision = self._inspected.state(), self._inspected.revision()
        instances = asked_instances(state, request)
        if request.instance_guid:
            guid = InstanceGuid(request.instance_guid)
            instances = tuple(each for each in instances if each.guid == guid)
            if not instances:
                raise NotFound(f"instance {shown(guid)} not found", field="instance_guid")
        messages = StatusMessages(self._inspected, state, resources=request.resources)
        return inspection_pb2.GetStatusResponse(
            instances=[messages.of(each) async for each in unhurried(instances, AT_ONCE)],
            revision=revision,
            alarms=self._alarms(),
            ca_rotation=await self._inspected.ca_rotation(),
        )

    async def ListCertificates(
        self, request: inspection_pb2.ListCertificatesRequest, context: Context
    ) -> inspection_pb2.ListCertificatesResponse:
        """Show every certificate, or the certificates of a space or an app."""
        state = self._inspected.state()
        instances = asked_instances(state, request)
        return inspection_pb2.ListCertificatesResponse(
            certificates=[
                self._certificate(state, instance, entry)
                async for instance in unhurried(instances, AT_ONCE)
                for entry in self._inspected.ledger.of(instance.guid)
            ]
        )

    async def Explain(
        self, request: inspection_pb2.ExplainRequest, context: Context
    ) -> inspection_pb2.ExplainResponse:
        """Say what one app needs to reach another, and what of that is missing."""
        return inspection_pb2.ExplainResponse(chains=await self._explainer.chains(request))

    async def WatchEvents(
        self, request: inspection_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[inspection_pb2.Event]:
        """Report what happens until the caller hangs up."""
        if self._feed.is_closed:
            # This comes before the caller is told that it watches; otherwise it would say both that
            # it does and that it does not.
            raise Unavailable(_STOPPING)
        wanted = Wanted(self._inspected.state(), request)
        with self._feed.watch() as watcher:
            # From here on, the caller knows that it misses nothing.
            await context.send_initial_metadata(())
            lost = 0
            while True:
                told = await watcher.next()
                if told is None:
                    raise Unavailable(_STOPPING)
                lost += told.lost
                if wanted.has(told.fact):
                    yield event(told, lost)
                    lost = 0

    def _alarms(self) -> list[str]:
        """Return what every caller should know, whatever it asked for."""
        own = [each.sentence for each in self._inspected.expiry.of_own()]
        absence = self._inspected.absence()
        return [absence, *own] if absence else own

    def _certificate(
        self, state: State, instance: Instance, entry: Entry
    ) -> inspection_pb2.Certificate:
        key, record = state.apps[instance.app_guid].key, entry.record
        reason = entry.reason
        if record.secret == C2C_SECRET:
            reason = certificate_reason(self._inspected, instance.guid, entry)
        at = renew_at(record.not_before, record.not_after, instance.guid)
        return inspection_pb2.Certificate(
            instance_guid=instance.guid,
            app=key.name,
            app_guid=instance.app_guid,
            space=key.space,
            org=key.org,
            index=instance.index,
            secret=record.secret,
            serial=hexadecimal(record.serial),
            names=record.names,
            not_before=timestamp(record.not_before),
            not_after=timestamp(record.not_after),
            renew_at=timestamp(at),
            state=certificate_state(instance, entry.state),
            since=timestamp(entry.since),
            reason=reason,
            issuer=record.issuer,
            version=record.version,
        )
