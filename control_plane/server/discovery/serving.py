"""One stream being served: bytes in, bytes out, and nothing decided here.

The rules of this module:

- One task reads, another writes, and neither waits for the other. A request is taken as soon as it
  arrives, so every response made after that takes it into account. A client that stops reading
  blocks only its own writer. What waits for such a client is bounded: one response for each type.
- Between reading the state and recording what was made of it, nothing is awaited.
- Whatever goes wrong ends this stream only, with a status that says whose fault it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from control_plane.clock import Clock
from control_plane.errors import PeerLimitExceeded, PeerProtocolError
from control_plane.names import shown
from control_plane.nodes import LiveStream, Nodes
from control_plane.server.access.admission import Admission, Context, PeerContext, admitted
from control_plane.server.access.arrivals import Arrivals
from control_plane.server.access.peers import caller
from control_plane.server.discovery.wire import encode, parse
from control_plane.server.limits import ServerLimits
from control_plane.xds.events import Event
from control_plane.xds.messages import Reply, Request


@dataclass(frozen=True, slots=True)
class ServedBy:
    """What all streams of a server share.

    Attributes:
        identifier: the server's name for itself, in every response (``ControlPlane.identifier``).
    """

    nodes: Nodes
    admission: Admission
    arrivals: Arrivals
    limits: ServerLimits
    clock: Clock
    identifier: str

    def meet(self, live: LiveStream, request: Request, context: PeerContext) -> tuple[Event, ...]:
        """Let in the client of a stream if this is its first request; return the events of that.

        Raises:
            ControlPlaneError: the client does not say which node it is, may not come in, or there
                is no room for it.
        """
        connected = live.stream.identify(request)
        if connected is None:
            return ()
        node = connected.node
        live.credential = admitted(self.admission, node, context)
        most = self.limits.streams_per_node
        if len(self.nodes.streams(node.id)) >= most:
            raise PeerLimitExceeded(f"more than {most} streams of one node: {shown(node.id)}")
        self.arrivals.let_in(node.id)
        self.nodes.opened(live)
        return (connected,)


class Serving:
    """Serves one stream."""

    __slots__ = ("_by", "_context", "_live", "_looked_at", "_who")

    def __init__(self, live: LiveStream, context: Context, by: ServedBy) -> None:
        """Serve a stream over a call."""
        self._live = live
        self._context = context
        self._by = by
        self._who = caller(context)
        self._looked_at = by.clock.monotonic()

    async def run(self) -> None:
        """Serve until the client is gone, the client is done, or the stream was ended."""
        await self._send_headers()
        tasks = [asyncio.create_task(each) for each in (self._read(), self._write())]
        try:
            await self._live.ended()
        finally:
            for task in tasks:
                task.cancel()

    async def _send_headers(self) -> None:
        """Send the initial metadata, which gRPC would otherwise send with the first response.

        While that response waits for a client that does not read, no status could be sent.
        """
        try:
            await self._context.send_initial_metadata(())
        except grpc.aio.BaseError:
            self._live.end(None)

    async def _read(self) -> None:
        try:
            raw = await self._first()
            while raw is not grpc.aio.EOF:
                await self._by.arrivals.turn_to_read(self._who, len(raw))
                self._take(raw)
                raw = await self._context.read()
            self._live.half_closed = True
            self._live.wake()
        except grpc.aio.BaseError:
            self._live.end(None)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this stream only
            self._live.end(error)

    async def _first(self) -> Any:  # noqa: ANN401 - bytes, or gRPC's sign that there are no more
        seconds = self._by.limits.first_request_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._context.read()
        except TimeoutError:
            raise PeerProtocolError(
                f"no request within {seconds:g} seconds of opening the stream"
            ) from None

    async def _write(self) -> None:
        try:
            is_last = False
            while not is_last:
                await self._live.woken(self._until_due())
                is_last = self._live.half_closed
                for reply in self._replies():
                    if not reply.is_heartbeat:
                        self._by.nodes.sent(self._live, reply)
                    await self._context.write(
                        encode(reply, self._live.variant, self._by.identifier)
                    )
            self._live.end(None)
        except grpc.aio.BaseError:
            self._live.end(None)
        except Exception as error:  # noqa: BLE001 - likewise
            self._live.end(error)

    def _take(self, raw: bytes) -> None:
        live, now = self._live, self._by.clock.monotonic()
        request = parse(raw, live.variant, self._by.limits.stream)
        connected = self._by.meet(live, request, self._context)
        events = (*connected, *live.stream.receive(request, now))
        self._by.nodes.told(live, events)
        snapshot = self._by.nodes.sendable(live.node_id)
        # Most requests ACK the last response that was owed, and some say nothing at all.
        if snapshot is not None and live.stream.has_said_all(snapshot):
            return
        if snapshot is None or not live.stream.rests(snapshot):
            live.wake()

    def _replies(self) -> Sequence[Reply]:
        self._looked_at = self._by.clock.monotonic()
        snapshot = self._by.nodes.sendable(self._live.node_id)
        if snapshot is None or self._live.has_ended:
            return ()
        return self._live.stream.replies(snapshot, self._looked_at)

    def _until_due(self) -> float | None:
        """Return the seconds until something is due; 0 if it became due since the last look.

        What was due at the last look but could not be sent then needs no timer: whatever held it up
        wakes the stream.
        """
        at = self._live.stream.next_due(self._looked_at)
        return None if at is None else max(0.0, at - self._by.clock.monotonic())
