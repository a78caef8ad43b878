"""The discovery services: which call becomes which stream, and with which status it ends.

The rule of this module: an exception ends only the stream in which it was raised, and is logged and
counted; neither the process nor any other stream notices it. If the client half-closes a stream, it
still gets what it is owed at that moment, and the stream ends with OK. A polled call is a stream of
one request and one response.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import grpc
import structlog
from grpc_status import rpc_status

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError, Unavailable
from control_plane.nodes import LiveStream, Nodes, Variant
from control_plane.server.access.admission import Admission, Context, Everybody, PeerContext
from control_plane.server.access.arrivals import Arrivals
from control_plane.server.access.peers import caller, identities_in
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.access.wrapping import leaving_nothing
from control_plane.server.discovery.methods import SERVICES, DiscoveryMethods
from control_plane.server.discovery.polling import Polling
from control_plane.server.discovery.serving import ServedBy, Serving
from control_plane.server.discovery.wire import encode, parse_sotw
from control_plane.server.limits import ServerLimits
from control_plane.server.status import code_of, let_go, status_of
from control_plane.xds.messages import Reply, SotwRequest
from control_plane.xds.resource import TypeUrl
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.stream import Stream


class DiscoveryService:
    """ADS, CDS, EDS, LDS, RDS, SRDS, SDS, ECDS and RTDS, SotW and delta; VHDS and LEDS, delta.

    All of them that have SotW can be polled too, except ADS.

    Attributes:
        ended: how many streams ended with each status. A client that went away without a word is
            counted as ``CANCELLED``, or as ``OK`` if its stream looked as if the client had
            finished.
        refused: how many of these streams ended before their client was let in.
        forced: how many streams were still open when the time that a shutdown gives them was over.
    """

    def __init__(
        self,
        nodes: Nodes,
        *,
        clock: Clock,
        admission: Admission | None = None,
        types: ResourceTypes | None = None,
        limits: ServerLimits | None = None,
        refusals: RefusalTally | None = None,
        identifier: str = "c2c-control-plane",
    ) -> None:
        """Serve what nodes should have.

        Args:
            nodes: the snapshots of the nodes; told of every stream.
            clock: the time for back-off and limits.
            admission: who may open a stream; everybody by default.
            types: what is known of each resource type; by default Envoy's types.
            limits: how much clients may ask for.
            refusals: told of refused streams when they are too many for a log line each; without it
                every refused stream has a line.
            identifier: the server's name for itself, in every response.
        """
        self._limits = limits or ServerLimits()
        arrivals = Arrivals(self._limits, clock)
        self._by = ServedBy(
            nodes, admission or Everybody(), arrivals, self._limits, clock, identifier
        )
        self._refusals = refusals
        self._types = types or ResourceTypes.of()
        self._numbers = itertools.count(1)
        self._open: dict[LiveStream, None] = {}
        self._empty = asyncio.Event()
        self._is_closing = False
        self._log = structlog.get_logger(__name__)
        self.ended: Counter[grpc.StatusCode] = Counter()
        self.refused: Counter[grpc.StatusCode] = Counter()
        self.forced = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register every method with a server that was not started yet."""
        server.add_generic_rpc_handlers([self._handlers(each) for each in SERVICES])

    def shut_down(self) -> None:
        """End every stream with UNAVAILABLE, and let no new stream in."""
        self.turn_away()
        for live in self._open:
            self.end(live)

    def turn_away(self) -> None:
        """Let no new stream in from now on."""
        self._is_closing = True

    def end(self, live: LiveStream) -> None:
        """End one stream with UNAVAILABLE, so that its client looks for another server."""
        live.end(Unavailable("the server is shutting down"))

    def open_streams(self) -> tuple[LiveStream, ...]:
        """Return the streams whose clients were not told yet that they are over, oldest first."""
        return tuple(self._open)

    async def all_gone(self, timeout: float) -> None:
        """Return once no stream is open, or after that many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._open:
                    self._empty.clear()
                    await self._empty.wait()

    def count_forced(self) -> int:
        """Count the streams that are still open as forced to end; return how many there are."""
        self.forced += len(self._open)
        return len(self._open)

    def _handlers(self, methods: DiscoveryMethods) -> grpc.GenericRpcHandler:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: self._streaming(methods.only, variant)
            for name, variant in methods.streaming.items()
        }
        if methods.polled is not None:
            handlers[methods.polled] = self._polled(methods.only)
        return grpc.method_handlers_generic_handler(methods.service, handlers)

    async def poll(
        self,
        only: TypeUrl,
        read: Callable[[], SotwRequest],
        write: Callable[[Reply], bytes],
        context: PeerContext,
    ) -> bytes | None:
        """Answer a request that did not arrive over gRPC, without waiting; None if nothing is new.

        Args:
            only: the type that the request is for.
            read: returns the request, or raises PeerProtocolError.
            write: returns the bytes of a response.
            context: tells who makes the request.

        Raises:
            Exception: the reason why the request is refused, or a defect.
        """
        polling = Polling(read, write, context, self._by)
        with self._opened(only, Variant.SOTW, context) as live:
            await self._run(live, context, partial(polling.run, live))
            if live.ended_by is not None:
                raise live.ended_by
        return polling.response

    def _streaming(
        self, only: TypeUrl | None, variant: Variant
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def serve(_: AsyncIterator[bytes], context: Context) -> None:
            with self._opened(only, variant, context) as live:
                await self._run(live, context, Serving(live, context, self._by).run)
                await _abort(live, context)

        return grpc.stream_stream_rpc_method_handler(leaving_nothing(serve))

    def _polled(self, only: TypeUrl | None) -> grpc.RpcMethodHandler[bytes, bytes]:
        sotw, name, seconds = Variant.SOTW, self._by.identifier, self._limits.poll_seconds
        # gRPC has no "not modified", and an empty response would mean that all resources are gone.
        nothing = Unavailable(
            f"nothing within {seconds:g} seconds that the client does not have: ask again"
        )

        async def fetch(raw: bytes, context: Context) -> bytes:
            await self._by.arrivals.turn_to_read(caller(context), len(raw))
            read = partial(parse_sotw, raw, self._limits.stream)
            write = partial(encode, variant=sotw, identifier=name)
            polling = Polling(read, write, context, self._by, seconds=seconds, otherwise=nothing)
            with self._opened(only, sotw, context) as live:
                await self._run(live, context, partial(polling.run, live))
                await _abort(live, context)
            return polling.response or b""

        return grpc.unary_unary_rpc_method_handler(fetch)

    @contextmanager
    def _opened(
        self, only: TypeUrl | None, variant: Variant, context: PeerContext
    ) -> Iterator[LiveStream]:
        live = LiveStream(
            next(self._numbers),
            Stream(
                self._types,
                only=only,
                limits=self._limits.stream,
                nonces=f"{secrets.token_hex(4)}-",
            ),
            variant,
            context.peer(),
            identities_in(context),
            self._by.clock.now(),
        )
        self._open[live] = None
        try:
            yield live
        finally:
            del self._open[live]
            if not self._open:
                self._empty.set()

    async def _run(
        self, live: LiveStream, context: PeerContext, serve: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            if self._is_closing:
                raise Unavailable("the server is shutting down")
            await serve()
        except asyncio.CancelledError:
            self.ended[grpc.StatusCode.CANCELLED] += 1
            raise
        except ControlPlaneError as error:
            live.end(error)
        finally:
            self._close(live)
        self._count(live, context)

    def _close(self, live: LiveStream) -> None:
        try:
            self._by.nodes.closed(live)
        except Exception as error:  # noqa: BLE001 - the stream is over, and nobody could be told
            self._log.error(log_events.STREAM_FAILED, **_where(live), exc_info=error)

    def _count(self, live: LiveStream, context: PeerContext) -> None:
        """Count how a stream ended, and log it if an operator has to know of it."""
        error = live.ended_by
        if error is None:
            self.ended[grpc.StatusCode.OK] += 1
            return
        self.ended[code_of(error)] += 1
        if not isinstance(error, ControlPlaneError):
            self._log.error(log_events.STREAM_FAILED, **_where(live), exc_info=error)
        elif not live.admitted:
            self.refused[code_of(error)] += 1
            if self._has_line(context):
                self._log.warning(log_events.STREAM_REFUSED, **_where(live), reason=str(error))

    def _has_line(self, context: PeerContext) -> bool:
        """Tell whether the refusal of a stream may have a log line of its own."""
        refusals, limited = self._refusals, log_events.AUDIT_STREAMS_LIMITED
        return refusals is None or refusals.has_line(limited, caller(context))


async def _abort(live: LiveStream, context: Context) -> None:
    """Tell the client why its stream ended; if it does not read, this waits until it is gone."""
    if live.ended_by is not None:
        let_go(live.ended_by)
        await context.abort_with_status(rpc_status.to_status(status_of(live.ended_by)))


def _where(live: LiveStream) -> dict[str, object]:
    return {"stream": live.number, "node": live.node_id, "peer": live.peer}
