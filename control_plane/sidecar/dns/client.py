"""The name table as the control plane delivers it: a delta xDS client of one resource.

The rules of this module:

- An ACK means that queries are answered from the new table, also after a restart of the sidecar. If
  the table could not be saved, no query is answered after a restart until the control plane sends a
  table. The control plane waits for the ACK before it takes a name out of certificates, or
  publishes one.
- A table that is refused changes nothing, and neither does an outage of the control plane.
- Whatever goes wrong on a stream ends only this stream. The next one is opened after a pause, which
  is drawn at random from a growing range, and on a new connection, so that it shows the newest
  identity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, NoReturn

import grpc
import structlog
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from control_plane import log_events
from control_plane.api.v1 import name_table_pb2
from control_plane.clock import Clock
from control_plane.errors import InvalidArgument
from control_plane.names import InstanceGuid, shown
from control_plane.sidecar.dns.saved import SavedTable
from control_plane.sidecar.dns.table import NameTable, text_of
from control_plane.sidecar.retry import delays
from control_plane.sidecar.seldom import Seldom

TYPE_URL = "type.googleapis.com/c2c.v1.NameTable"
"""The resource type.

It is the same as the planner's; a test compares them. If it were imported from there, each sidecar
would load all the code that makes plans.
"""

RESOURCE_NAME = "name-table"
"""The only resource of that type that an instance has."""

ChannelFactory = Callable[[], grpc.aio.Channel]
"""Opens a channel of its own to the control plane, with the identity that is current then."""

_COME_BACK = f"{grpc.StatusCode.UNAVAILABLE.name}: "
"""The beginning of the reason for the end of a stream that need mean nothing: the control plane
ends the streams that show an identity which has been renewed. If the control plane is gone, the
next stream fails and says so."""

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"


class NameTableClient:
    """Keeps the table of one instance up to date.

    Attributes:
        table: the table in force; None as long as there was none.
        connected: whether the control plane has sent anything on the present stream.
    """

    def __init__(
        self,
        instance: InstanceGuid,
        connect: ChannelFactory,
        *,
        apply: Callable[[NameTable], None],
        saved: SavedTable,
        clock: Clock,
        random: Random,
    ) -> None:
        """Describe a client; `run` runs it.

        Args:
            instance: the instance whose table it is; its GUID is the node id.
            connect: opens a connection, a new one for each stream.
            apply: puts a table into force, so that every later query is answered from it.
            saved: stores the table beyond the end of this process.
            clock: times pauses.
            random: draws pauses.
        """
        self.table: NameTable | None = None
        self.connected = False
        self._instance = instance
        self._connect = connect
        self._put_into_force = apply
        self._saved = saved
        self._clock = clock
        self._random = random
        self._log = structlog.get_logger(__name__)

    async def run(self) -> NoReturn:
        """Answer from the saved table, and follow the control plane without end."""
        self._restore()
        pauses, seldom = delays(self._random.random), Seldom(self._clock)
        while True:
            reason = await self._stream()
            was_heard, self.connected = self.connected, False
            if was_heard:
                pauses = delays(self._random.random)
                seldom.forget()
            pause = next(pauses)
            log = self._log.debug
            if was_heard and reason.startswith(_COME_BACK):
                log = self._log.info
            elif seldom.is_news(reason):
                log = self._log.warning
            log(
                log_events.SIDECAR_RETRYING,
                what="following the name table",
                reason=reason,
                again_in=round(pause, 1),
            )
            await self._clock.sleep(pause)

    def _restore(self) -> None:
        try:
            saved = self._saved.load()
            if saved is not None:
                resource = discovery_pb2.Resource.FromString(saved)
                self._use(_read(resource))
                self._log.info(log_events.NAME_TABLE_LOADED, version=resource.version)
        except (OSError, DecodeError, InvalidArgument) as error:
            self._log.warning(log_events.NAME_TABLE_LOST, reason=str(error))

    async def _stream(self) -> str:
        """Follow one stream to its end; return why it ended."""
        try:
            channel = self._connect()
            try:
                await self._follow(channel.stream_stream(_METHOD)())
            finally:
                await channel.close()
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this stream only
            return f"{type(error).__name__}: {error}"
        return "the control plane ended the stream"

    async def _follow(self, stream: Any) -> None:  # noqa: ANN401 - gRPC has no type for it
        await stream.write(self._first_request())
        while (raw := await stream.read()) is not grpc.aio.EOF:
            self.connected = True
            await stream.write(await self._answer(raw))

    def _first_request(self) -> bytes:
        version = self.table.version if self.table is not None else ""
        request = discovery_pb2.DeltaDiscoveryRequest(
            node={"id": self._instance, "user_agent_name": "c2c-sidecar"},
            type_url=TYPE_URL,
            resource_names_subscribe=[RESOURCE_NAME],
            initial_resource_versions={RESOURCE_NAME: version} if version else {},
        )
        serialised: bytes = request.SerializeToString()
        return serialised

    async def _answer(self, raw: bytes) -> bytes:
        """Return the ACK or NACK of a response, once everything is done that an ACK promises."""
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(raw)
        answer = discovery_pb2.DeltaDiscoveryRequest(
            type_url=TYPE_URL, response_nonce=response.nonce
        )
        try:
            await self._take(response)
        except InvalidArgument as error:
            self._log.warning(log_events.NAME_TABLE_REFUSED, reason=error.rule)
            answer.error_detail.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
            answer.error_detail.message = error.rule
        serialised: bytes = answer.SerializeToString()
        return serialised

    async def _take(self, response: Any) -> None:  # noqa: ANN401 - made at run time, without stubs
        """Apply what a response says of the name table, and ignore whatever else it contains."""
        for resource in response.resources:
            if resource.name == RESOURCE_NAME:
                await self._apply(resource)
        if RESOURCE_NAME in response.removed_resources and self.table is not None:
            await self._apply(_emptied(self.table))

    async def _apply(self, resource: Any) -> None:  # noqa: ANN401 - likewise
        # Both in a thread, because thousands of names, or a slow disk, would hold up queries.
        self._use(await asyncio.to_thread(_read, resource))
        try:
            await asyncio.to_thread(self._saved.save, resource.SerializeToString())
        except OSError as error:
            self._log.warning(log_events.NAME_TABLE_UNSAVED, reason=str(error))

    def _use(self, table: NameTable) -> None:
        self._put_into_force(table)
        self.table = table
        self._log.info(log_events.NAME_TABLE_APPLIED, version=table.version, names=len(table.names))


def _read(resource: Any) -> NameTable:  # noqa: ANN401 - made at run time, without stubs
    """Return the table in a resource.

    Raises:
        InvalidArgument: it contains none, or a bad one.
    """
    if resource.resource.type_url != TYPE_URL:
        raise InvalidArgument(f"not a {TYPE_URL}: {shown(resource.resource.type_url)}")
    try:
        message = name_table_pb2.NameTable.FromString(resource.resource.value)
    except DecodeError as error:
        raise InvalidArgument(f"not a {TYPE_URL}: {error}") from error
    return NameTable.of(message, resource.version)


def _emptied(table: NameTable) -> Any:  # noqa: ANN401 - likewise
    """Return a resource with an empty table of the same domains, so that these stay internal."""
    message = name_table_pb2.NameTable(domains=[text_of(each) for each in sorted(table.domains)])
    resource = discovery_pb2.Resource(name=RESOURCE_NAME)
    resource.resource.Pack(message)
    return resource
