"""How long a client may take to send the request of a call, or the first of several.

The rule of this module: a call whose request never comes ends in time, and what stands outside this
interceptor is run as soon as there is a call. gRPC itself would wait for the request for ever, and
would only then tell anybody of the call; until then, neither would it be known who makes it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

from control_plane.errors import PeerProtocolError
from control_plane.server.access.admission import Context
from control_plane.server.access.wrapping import Continuation, reading_its_requests
from control_plane.server.limits import ServerLimits
from control_plane.server.status import end_call

Check = Callable[[Context, str], Awaitable[None]]
"""Ends a call of this method if its peer may not make it."""


class RequestTime(grpc.aio.ServerInterceptor):
    """Ends calls whose request does not come; stands outside those that need the request.

    A streaming method that is no generator has to see to its first request itself.
    """

    def __init__(self, limits: ServerLimits, check: Check | None = None) -> None:
        """Give each request as much time as the first request of a stream has.

        Args:
            limits: the limits of the server.
            check: judges the peer once the only request of a call is there; what it was when the
                call began may have changed since.
        """
        self._seconds = limits.first_request_seconds
        self._check = check

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Have the method that a call is for wait for its request only for so long."""
        handler: Any = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        if handler.unary_unary is not None:
            timed = self._unary_unary(handler.unary_unary, method)
        elif handler.unary_stream is not None:
            timed = self._unary_stream(handler.unary_stream, method)
        elif inspect.isasyncgenfunction(handler.stream_stream):
            timed = self._stream_stream(handler.stream_stream, method)
        else:
            return handler  # type: ignore[no-any-return]
        return reading_its_requests(handler, timed)

    def _unary_unary(self, behaviour: Callable[..., Any], method: str) -> Any:  # noqa: ANN401 - as grpc
        async def timed(_: AsyncIterator[Any], context: Context) -> Any:  # noqa: ANN401 - any message
            return await behaviour(await self._request(context, method), context)

        return timed

    def _unary_stream(self, behaviour: Callable[..., Any], method: str) -> Any:  # noqa: ANN401 - as grpc
        async def timed(_: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            request = await self._request(context, method)
            async with aclosing(behaviour(request, context)) as answers:
                async for message in answers:
                    yield message

        return timed

    def _stream_stream(self, behaviour: Callable[..., Any], method: str) -> Any:  # noqa: ANN401 - as grpc
        async def timed(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            first = await self._in_time(anext(requests, grpc.aio.EOF), context, method)
            if first is grpc.aio.EOF:
                return
            async with aclosing(behaviour(_followed(first, requests), context)) as answers:
                async for message in answers:
                    yield message

        return timed

    async def _request(self, context: Context, method: str) -> Any:  # noqa: ANN401 - any message
        request = await self._in_time(context.read(), context, method)
        if request is grpc.aio.EOF:
            await end_call(context, method, PeerProtocolError("the call has no request"))
        if self._check is not None:
            await self._check(context, method)
        return request

    async def _in_time(self, read: Awaitable[Any], context: Context, method: str) -> Any:  # noqa: ANN401 - any message
        try:
            async with asyncio.timeout(self._seconds):
                return await read
        except TimeoutError:
            late = f"no request within {self._seconds:g} seconds of the call"
            await end_call(context, method, PeerProtocolError(late))


async def _followed(first: Any, others: AsyncIterator[Any]) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
    yield first
    async for each in others:
        yield each
