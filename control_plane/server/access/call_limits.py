"""How many calls one client may have open, and how often it may make another.

The rule of this module: a client is known by its certificate, so its calls are counted before it
has sent anything. A call whose first message never comes costs memory like any other call, and it
is not counted as a stream of a node, because it has not named one yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.errors import PeerLimitExceeded, Unavailable
from control_plane.server.access.admission import Context
from control_plane.server.access.peers import caller
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.access.wrapping import (
    Behaviour,
    Continuation,
    leaving_nothing,
    reading_its_requests,
)
from control_plane.server.limits import ServerLimits
from control_plane.server.rates import TokenBuckets
from control_plane.server.status import end_call


class CallLimits(grpc.aio.ServerInterceptor):
    """Bounds the calls of each client; stands outside all other interceptors and ends calls.

    It is for ports whose methods either read and write their streams themselves, or have one
    request, for which ``RequestTime`` waits, and one response.
    """

    def __init__(self, limits: ServerLimits, refusals: RefusalTally, clock: Clock) -> None:
        """Start with no call.

        Args:
            limits: how many calls there may be.
            refusals: told of calls that are too many.
            clock: tells how long ago earlier calls were made.
        """
        self._most = limits.calls_per_client
        per_minute = limits.new_calls_per_client_and_minute
        self._new = TokenBuckets.per_minute(per_minute, clock)
        self._refusals = refusals
        self._open: Counter[str] = Counter()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Count each call before the method that it is for runs."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        behaviour = handler.stream_stream if handler.response_streaming else handler.stream_unary
        bounded = self._bounded(behaviour, handler_call_details.method)
        return reading_its_requests(handler, bounded)

    def _bounded(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def bounded(requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: ANN401 - any message
            who = await self._enter(context, method)
            try:
                return await behaviour(requests, context)
            finally:
                self._leave(who)

        return leaving_nothing(bounded)

    async def _enter(self, context: Context, method: str) -> str:
        """Count a call and return its client; end the call if the client has made too many."""
        who = caller(context)
        if reason := self._why_too_many(who):
            self._refusals.count(log_events.AUDIT_STREAMS_LIMITED, who)
            await end_call(context, method, reason)
        self._open[who] += 1
        return who

    def _leave(self, who: str) -> None:
        self._open[who] -= 1
        if not self._open[who]:
            del self._open[who]

    def _why_too_many(self, who: str) -> Exception | None:
        if self._open[who] >= self._most:
            return PeerLimitExceeded(f"more than {self._most} calls of one client at a time")
        if not self._new.take(who):
            return Unavailable("more calls of one client than it may make; come again in a minute")
        return None
