"""Operators over TCP: how they prove who they are, so that nobody else gets in.

The rule of this module: on a port with this interceptor, no method runs and nothing of a request is
parsed before the client has proved by its certificate to be an operator. This includes reflection
and health.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc
import structlog
from google.protobuf.duration_pb2 import Duration

from control_plane import log_events
from control_plane.api.v1 import operator_pb2, operator_pb2_grpc
from control_plane.ca import (
    Authority,
    OperatorRequest,
    Profile,
    TrustDomain,
    issue,
    parse_csr,
)
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError
from control_plane.server.access.admission import Context
from control_plane.server.access.peers import Validity, caller, require_operator
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.durations import parse_duration
from control_plane.server.status import end_call

DEFAULT_TTL = timedelta(days=30)
MIN_TTL = timedelta(minutes=1)
MAX_TTL = timedelta(days=90)
"""Nothing revokes an operator's certificate before it expires."""


class OperatorsOnly(grpc.aio.ServerInterceptor):
    """Lets only operators call; stands outside all other interceptors, and ends calls."""

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
        if not handler.response_streaming:
            make = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
            behaviour = self._unary(
                handler.stream_unary or handler.unary_unary, handler_call_details.method
            )
        else:
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            behaviour = self._streaming(
                handler.stream_stream or handler.unary_stream, handler_call_details.method
            )
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
        async def guarded(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            await self._check(context, method)
            return await behaviour(request, context)

        return guarded

    def _streaming(self, behaviour: Callable[..., Any], method: str) -> Any:  # noqa: ANN401 - as grpc
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - likewise
            await self._check(context, method)
            async with aclosing(behaviour(request, context)) as answers:
                async for message in answers:
                    # The certificate may have expired, or its CA may have been retired, since the
                    # stream was opened.
                    await self._check(context, method)
                    yield message

        return guarded


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Issues operators' certificates."""

    def __init__(
        self,
        authority: Callable[[], Authority],
        trust_domain: TrustDomain,
        *,
        new_serial: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Issue with the CA that ``authority`` returns at the moment of the call."""
        self._authority = authority
        self._trust_domain = trust_domain
        self._new_serial = new_serial
        self._clock = clock
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    async def IssueOperatorCertificate(
        self, request: operator_pb2.IssueOperatorCertificateRequest, context: Context
    ) -> operator_pb2.IssueOperatorCertificateResponse:
        """Issue a certificate for a key that the caller made."""
        ttl = _parse_ttl(request.ttl if request.HasField("ttl") else None)
        key = parse_csr(request.csr)
        authority = self._authority()
        leaf = issue(
            authority,
            Profile(lifetime=ttl),
            OperatorRequest(self._trust_domain, request.name),
            key=key,
            now=self._clock.now(),
            serial=self._new_serial(),
        )
        self._audit.info(
            log_events.AUDIT_OPERATOR_CERT_ISSUED,
            operator=request.name,
            serial=f"{leaf.serial:x}",
            not_after=leaf.not_after.isoformat(),
        )
        return operator_pb2.IssueOperatorCertificateResponse(
            certificate=leaf.certificate_chain_pem,
            trust_bundle=authority.trust_bundle_pem.decode("ascii"),
        )


def _parse_ttl(ttl: Duration | None) -> timedelta:
    if ttl is None:
        return DEFAULT_TTL
    return parse_duration(ttl, field="ttl", least=MIN_TTL, most=MAX_TTL)
