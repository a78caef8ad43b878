"""Operators over TCP: how they prove who they are, so that nobody else gets in.

The rule of this module: on a port with this interceptor, no method runs and nothing of a request is
awaited or parsed before the client has proved by its certificate to be an operator. This includes
reflection and health. A stream ends once its client would not be let in any more, whether or not
anything is said on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import structlog

from control_plane import log_events
from control_plane.errors import ControlPlaneError, Unavailable
from control_plane.model.change import Change
from control_plane.model.entities import OperatorCertificate
from control_plane.model.state import State
from control_plane.server.access.admission import Context
from control_plane.server.access.asking import let_in
from control_plane.server.access.certificate_end import CERTIFICATE_ENDS
from control_plane.server.access.peers import caller
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.access.validity import Validity, require_operator
from control_plane.server.access.wrapping import Continuation, reading_its_requests
from control_plane.server.status import end_call


class OperatorsOnly(grpc.aio.ServerInterceptor):
    """Lets only operators call; stands outside all other interceptors, and ends calls.

    It does not wait for the request of a call that has only one: ``RequestTime`` does, inside it,
    and then has the peer checked again.
    """

    def __init__(self, validity: Validity, refusals: RefusalTally) -> None:
        """Accept operators' certificates as long as they are valid.

        Args:
            validity: tells which certificates are worthless.
            refusals: told of refusals that are too many for a line each.
        """
        self._validity = validity
        self._refusals = refusals
        self._idle: dict[asyncio.Timeout, Context] = {}
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    def committed(self, _state: State, change: Change) -> None:
        """End the streams of operators whose certificates a transaction revoked."""
        if any(isinstance(each, OperatorCertificate) for each in change.puts):
            self.look_again()

    def look_again(self) -> None:
        """End the streams that would not be let in by now; set anew when the others end."""
        for until, context in self._idle.items():
            if not until.expired():
                until.reschedule(self._end(context))

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Put the check before the method that a call is for."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        guarded = (
            self._streaming(handler.stream_stream, method)
            if handler.response_streaming
            else self._unary(handler.stream_unary, method)
        )
        return reading_its_requests(handler, guarded)

    async def check(self, context: Context, method: str) -> None:
        """End a call of this method unless its peer is an operator, by now."""
        try:
            let_in(require_operator(context, self._validity).serial)
        except Exception as error:  # noqa: BLE001 - nobody outside makes an answer of it
            if isinstance(error, ControlPlaneError) and self._refusals.has_line(
                log_events.AUDIT_ACCESSES_LIMITED, caller(context)
            ):
                self._audit.warning(
                    log_events.AUDIT_ACCESS_DENIED,
                    method=method,
                    peer=context.peer(),
                    reason=str(error),
                )
            await end_call(context, method, error)

    def _unary(self, behaviour: Callable[..., Any], method: str) -> Any:  # noqa: ANN401 - as grpc
        async def guarded(requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: ANN401 - any message
            await self.check(context, method)
            return await behaviour(requests, context)

        return guarded

    def _streaming(self, behaviour: Callable[..., Any], method: str) -> Any:  # noqa: ANN401 - as grpc
        async def guarded(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            await self.check(context, method)
            async with aclosing(behaviour(requests, context)) as answers:
                while True:
                    async with self._while_let_in(context, method):
                        message = await anext(answers, None)
                    if message is None:
                        return
                    # The certificate may have become worthless while the message was made.
                    await self.check(context, method)
                    yield message

        return guarded

    @asynccontextmanager
    async def _while_let_in(self, context: Context, method: str) -> AsyncIterator[None]:
        """End a call if its peer's certificate becomes worthless before the end of a block."""
        until = asyncio.timeout_at(self._end(context))
        try:
            async with until:
                self._idle[until] = context
                yield
        except TimeoutError:
            if not until.expired():
                raise
            await self.check(context, method)
            # The clock is slower than that of the event loop, or was set back meanwhile.
            await end_call(context, method, Unavailable(f"{CERTIFICATE_ENDS}: come back"))
        finally:
            self._idle.pop(until, None)

    def _end(self, context: Context) -> float:
        """Return when the certificate of a call's peer is worthless, by the clock of the loop."""
        now = asyncio.get_running_loop().time()
        try:
            peer = require_operator(context, self._validity)
        except ControlPlaneError:
            return now
        return now + (peer.not_after - self._validity.clock.now()).total_seconds()
