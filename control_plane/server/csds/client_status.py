"""CSDS: what each client has, and what it refused and why, in Envoy's own messages.

The rule of this module: it says what the control plane knows for certain. SYNCED means that the
client ACKed the resource, STALE that it was sent and not answered yet, ERROR that it was refused,
NOT_SENT that it was not sent, or that its turn has not come
(``envoy.service.status.v3.ConfigStatus``). Private keys are never shown, nor is content that cannot
be examined. A long answer lets streams and commands go ahead while it is made. An answer so long
that it would hold them up while it is serialised is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

from envoy.admin.v3 import config_dump_shared_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

from control_plane.clock import Clock
from control_plane.errors import LimitExceeded
from control_plane.nodes import LiveStream, Nodes
from control_plane.server.access.admission import Context
from control_plane.server.csds.node_matchers import node_matcher
from control_plane.server.discovery.wire_node import node_message
from control_plane.server.redaction import redacted
from control_plane.server.turns import unhurried
from control_plane.xds.delivery import ConfigStatus, Delivery, deliveries
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.snapshot import Snapshot

SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"

AT_ONCE = 20
"""How many clients are looked at before other tasks get a turn; one takes some 200 microseconds."""

MOST_OCTETS = 32 * 2**20
"""How long an answer may be. It is serialised in one go, during which no other task gets a turn: 90
MB took half a second and more. A caller has to allow more than gRPC's 4 MiB anyway."""

_STATUS = {
    ConfigStatus.SYNCED: csds_pb2.SYNCED,
    ConfigStatus.NOT_SENT: csds_pb2.NOT_SENT,
    ConfigStatus.STALE: csds_pb2.STALE,
    ConfigStatus.ERROR: csds_pb2.ERROR,
}

_CLIENT_STATUS = {
    ConfigStatus.SYNCED: config_dump_shared_pb2.ACKED,
    ConfigStatus.NOT_SENT: config_dump_shared_pb2.REQUESTED,
    ConfigStatus.STALE: config_dump_shared_pb2.REQUESTED,
    ConfigStatus.ERROR: config_dump_shared_pb2.NACKED,
}


class ClientStatusService(
    csds_pb2_grpc.ClientStatusDiscoveryServiceServicer  # type: ignore[misc]  # it has no stubs
):
    """Shows what the connected clients have."""

    def __init__(
        self, nodes: Nodes, clock: Clock, *, open_types: AbstractSet[TypeUrl] = frozenset()
    ) -> None:
        """Show the streams of these nodes.

        Args:
            nodes: the nodes whose streams are shown.
            clock: the time.
            open_types: the types whose resources have nothing to hide, so that they are not
                examined.
        """
        self._nodes = nodes
        self._clock = clock
        self._open_types = open_types

    async def FetchClientStatus(
        self, request: csds_pb2.ClientStatusRequest, context: Context
    ) -> csds_pb2.ClientStatusResponse:
        """Show every client that a matcher selects; all clients if there is no matcher."""
        return await self._response(request)

    async def StreamClientStatus(
        self, requests: AsyncIterator[csds_pb2.ClientStatusRequest], context: Context
    ) -> AsyncIterator[csds_pb2.ClientStatusResponse]:
        """Answer each request of the stream with the state at that moment."""
        async for request in requests:
            yield await self._response(request)

    async def _response(
        self, request: csds_pb2.ClientStatusRequest
    ) -> csds_pb2.ClientStatusResponse:
        matchers = [node_matcher(each) for each in request.node_matchers]
        response, octets = csds_pb2.ClientStatusResponse(), 0
        async for live in unhurried(self._nodes.all_streams(), AT_ONCE):
            node = node_message(live.stream.node)
            # "The matchers are ORed; empty means all."
            if matchers and not any(each(node) for each in matchers):
                continue
            client = response.config.add(client_scope=f"stream {live.number}, {live.variant.value}")
            client.node.CopyFrom(node)
            snapshot = self._nodes.snapshot(live.node_id) or Snapshot()
            client.generic_xds_configs.extend(
                self._configs(live, snapshot, contents=not request.exclude_resource_contents)
            )
            octets += client.ByteSize()
            if octets > MOST_OCTETS:
                raise LimitExceeded(
                    f"an answer of more than {MOST_OCTETS} bytes: ask for some nodes "
                    "(node_matchers), or without contents (exclude_resource_contents)"
                )
        return response

    def _configs(
        self, live: LiveStream, snapshot: Snapshot, *, contents: bool
    ) -> Iterator[csds_pb2.ClientConfig.GenericXdsConfig]:
        for each in deliveries(live.stream, snapshot):
            config = csds_pb2.ClientConfig.GenericXdsConfig(
                type_url=each.type_url,
                name=each.name,
                version_info=each.accepted or "",
                config_status=_STATUS[each.status],
                client_status=_CLIENT_STATUS[each.status],
            )
            if each.since is not None:
                config.last_updated.FromDatetime(self._moment(each.since))
            content = live.stream.content(each.type_url, snapshot)
            wanted = content.resources.get(each.name)
            if contents and wanted is not None and each.accepted == wanted.version:
                self._tell_content(config, wanted)
            if each.refusal is not None:
                self._tell_refusal(config, each)
            yield config

    def _tell_content(
        self, config: csds_pb2.ClientConfig.GenericXdsConfig, resource: Resource
    ) -> None:
        url, body = resource.type_url, resource.body
        shown = body if url in self._open_types else redacted(url, body)
        if shown is not None:
            config.xds_config.type_url, config.xds_config.value = url, shown

    def _tell_refusal(
        self, config: csds_pb2.ClientConfig.GenericXdsConfig, delivery: Delivery
    ) -> None:
        refusal = delivery.refusal
        if refusal is None:
            return
        config.error_state.details = refusal.error.message
        config.error_state.version_info = refusal.version or ""
        config.error_state.last_update_attempt.FromDatetime(self._moment(refusal.at))

    def _moment(self, monotonic: float) -> datetime:
        ago = self._clock.monotonic() - monotonic
        return self._clock.now() - timedelta(seconds=ago)
