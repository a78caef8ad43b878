"""JoinTokenService: leave to enrol (protos/c2c/v1/join_token.proto).

The rule of this module: a token leaves in one answer, and only its hash is kept. The address and
fingerprint beside it let a sidecar recognise the server before it sends the token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.v1 import join_token_pb2, join_token_pb2_grpc
from control_plane.clock import Clock
from control_plane.model.apps import find_app
from control_plane.model.change import Decision
from control_plane.model.entities import JoinToken
from control_plane.model.state import State
from control_plane.model.tokens import add_token, drop_expired_tokens, revoke_tokens
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.durations import parse_duration

DEFAULT_TTL = timedelta(minutes=10)
"""Long enough to start a container with it, short for whoever finds it in a log of the platform."""

MIN_TTL = timedelta(seconds=1)

MAX_TTL = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class EnrollmentServer:
    """Where a sidecar enrols, and how it knows that it is there.

    Attributes:
        address: host and port.
        fingerprint: SHA-256 of the CA's certificate, by which the server's is verified.
    """

    address: str
    fingerprint: str


def token_digest(token: str) -> str:
    """Return what is kept of a join token: its SHA-256 in hexadecimal.

    A token is random and long, so nobody finds it by trying, and it needs neither salt nor a slow
    hash.
    """
    return hashlib.sha256(token.encode()).hexdigest()


class JoinTokenService(join_token_pb2_grpc.JoinTokenServiceServicer):
    """Makes join tokens, and takes them back."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        new_token: Callable[[], str],
        server: Callable[[], EnrollmentServer],
    ) -> None:
        """Make tokens for the apps of a registry.

        Args:
            registry: the one writer.
            clock: tells when a token expires.
            new_token: makes a token; at least 128 bits of chance.
            server: tells where to enrol, at the moment of the call.
        """
        self._registry = registry
        self._clock = clock
        self._new_token = new_token
        self._server = server

    async def CreateJoinToken(
        self, request: join_token_pb2.CreateJoinTokenRequest, context: Context
    ) -> join_token_pb2.CreateJoinTokenResponse:
        """Make a token for one app; those that expired are forgotten on the way."""
        now = self._clock.now()
        expires_at = now + _parse_ttl(request.ttl if request.HasField("ttl") else None)
        token = self._new_token()
        await self._registry.execute(
            lambda state: drop_expired_tokens(state, now).then(
                lambda rest, _: _add(rest, request, token, now, expires_at)
            )
        )
        server = self._server()
        expires = Timestamp()
        expires.FromDatetime(expires_at)
        return join_token_pb2.CreateJoinTokenResponse(
            token=token,
            server=server.address,
            fingerprint=server.fingerprint,
            expires_at=expires,
        )

    async def RevokeJoinTokens(
        self, request: join_token_pb2.RevokeJoinTokensRequest, context: Context
    ) -> join_token_pb2.RevokeJoinTokensResponse:
        """Make every token of an app worthless: nobody can tell which one it was that got out."""
        now = self._clock.now()

        def revoke(state: State) -> Decision[int]:
            app = find_app(state, request.app, request.org, request.space)
            return revoke_tokens(state, app.guid, now)

        committed = await self._registry.execute(revoke)
        return join_token_pb2.RevokeJoinTokensResponse(
            revoked=committed.result, revision=committed.revision
        )


def _add(
    state: State,
    request: join_token_pb2.CreateJoinTokenRequest,
    token: str,
    now: datetime,
    expires_at: datetime,
) -> Decision[JoinToken]:
    app = find_app(state, request.app, request.org, request.space)
    digest, uses = token_digest(token), request.uses or 1
    return add_token(state, digest, app.guid, now, expires_at, uses, request.address_range)


def _parse_ttl(ttl: Duration | None) -> timedelta:
    if ttl is None:
        return DEFAULT_TTL
    return parse_duration(ttl, field="ttl", least=MIN_TTL, most=MAX_TTL)
