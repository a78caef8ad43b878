"""Operators over TCP: how they prove who they are, so that nobody else gets in.

The rule of this module: on a port with this interceptor, no method runs and nothing of a request is
awaited or parsed before the client has proved by its certificate to be an operator. This includes
reflection and health.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from control_plane import log_events
from control_plane.errors import ControlPlaneError
from control_plane.server.access.admission import Context
from control_plane.server.access.peers import caller
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.access.validity import Validity, require_operator
from control_plane.server.status import end_call


class OperatorsOnly(grpc.aio.ServerInterceptor):
    """Lets only operators call; stands outside all other interceptors, and ends calls.

    It does not wait for the request of a call that has only one: ``RequestTime`` does, inside it.
    """

    def __init__(self, validity: Validity, refusals: RefusalTally) -> None:
        """Accept operators' certificates as long as they are valid.

        Args:
            validity: tells which certificates are worthless.
            refusals: told of refusals that are too many for a line each.
        """
        self._validity = validity
        self._refusals = refusals
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Put the check before the method that a call is for."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if handler.response_streaming:
            make: Any = grpc.stream_stream_rpc_method_handler
            behaviour = self._streaming(handler.stream_stream, method)
        else:
            make = grpc.stream_unary_rpc_method_handler
            behaviour = self._unary(handler.stream_unary, method)
        guarded: grpc.RpcMethodHandler[Any, Any] = make(
            behaviour, handler.request_deserializer, handler.response_serializer
        )
        return guarded

    async def _check(self, context: Context, method: str) -> None:
        try:
            require_operator(context, self._validity)
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
            await self._check(context, method)
            return await behaviour(requests, context)

        return guarded

    def _streaming(self, behaviour: Callable[..., Any], method: str) -> Any:  # noqa: ANN401 - as grpc
        async def guarded(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            await self._check(context, method)
            async with aclosing(behaviour(requests, context)) as answers:
                async for message in answers:
                    # The certificate may have expired or been revoked, or its CA may have been
                    # retired, since the stream was opened.
                    await self._check(context, method)
                    yield message

        return guarded
