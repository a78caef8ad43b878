"""InstanceService: the running copies of apps (protos/c2c/v1/instance.proto).

The rule of this module: which instances are registered comes from the registry, and which are
connected from the streams; neither is guessed from the other.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.api.v1 import instance_pb2, instance_pb2_grpc
from control_plane.errors import AlreadyExists
from control_plane.model.apps import find_app
from control_plane.model.change import Decision
from control_plane.model.entities import Instance
from control_plane.model.instances import register_instance, remove_instance
from control_plane.model.state import State
from control_plane.names import InstanceGuid, parse_guid, shown
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.api.messages import AT_ONCE, instance_message
from control_plane.server.api.selection import asked_instances
from control_plane.server.budget import CertificateBudget
from control_plane.server.turns import unhurried


class InstanceService(instance_pb2_grpc.InstanceServiceServicer):
    """Registers, shows and removes instances."""

    def __init__(
        self,
        registry: Registry,
        is_connected: Callable[[InstanceGuid], bool],
        budget: CertificateBudget,
        new_guid: Callable[[], str],
    ) -> None:
        """Serve the instances of a registry.

        Args:
            registry: the one writer.
            is_connected: tells whether an instance has a stream now.
            budget: refuses an instance whose certificate no client would accept.
            new_guid: makes the GUID of an instance that is registered without one.
        """
        self._registry = registry
        self._is_connected = is_connected
        self._budget = budget
        self._new_guid = new_guid

    async def RegisterInstance(
        self, request: instance_pb2.RegisterInstanceRequest, context: Context
    ) -> instance_pb2.RegisterInstanceResponse:
        """Register an instance, or find that it is registered already."""
        guid = request.guid or self._new_guid()
        committed = await self._registry.execute(lambda state: self._register(state, request, guid))
        return instance_pb2.RegisterInstanceResponse(
            instance=self._shown(committed.state, committed.result),
            already=not committed.change,
            revision=committed.revision,
        )

    async def ListInstances(
        self, request: instance_pb2.ListInstancesRequest, context: Context
    ) -> instance_pb2.ListInstancesResponse:
        """Show every instance, or the instances of a space or an app."""
        state = self._registry.state
        found = unhurried(asked_instances(state, request), AT_ONCE)
        return instance_pb2.ListInstancesResponse(
            instances=[self._shown(state, each) async for each in found]
        )

    async def RemoveInstance(
        self, request: instance_pb2.RemoveInstanceRequest, context: Context
    ) -> instance_pb2.RemoveInstanceResponse:
        """Remove an instance for good, or find that there is none."""
        guid = InstanceGuid(parse_guid(request.guid, field="guid"))
        committed = await self._registry.execute(lambda state: remove_instance(state, guid))
        return instance_pb2.RemoveInstanceResponse(
            already=not committed.change, revision=committed.revision
        )

    def _register(
        self, state: State, request: instance_pb2.RegisterInstanceRequest, guid: str
    ) -> Decision[Instance]:
        app = find_app(state, request.app, request.org, request.space)
        decision = register_instance(state, guid, app.guid, request.address, request.app_address)
        if request.guid and decision.result.guid != request.guid:
            raise AlreadyExists(
                f"address {shown(decision.result.address)} is held by another instance of the app: "
                f"{decision.result.guid}",
                field="address",
            )
        if decision.change:
            self._budget.check(decision.state, app.guid, field="app")
        return decision

    def _shown(self, state: State, instance: Instance) -> instance_pb2.Instance:
        connected = self._is_connected(instance.guid)
        return instance_message(state, instance, connected=connected)
