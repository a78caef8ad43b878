"""JoinTokenService: tokens that allow an instance to enrol (protos/c2c/v1/join_token.proto).

The rule of this module: a token is sent in one answer only. Only its hash is kept, and that is
never sent: a token is called by a GUID that has nothing to do with it. The address and fingerprint
in the same answer let a sidecar recognise the server before it sends the token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.v1 import join_token_pb2, join_token_pb2_grpc
from control_plane.clock import Clock
from control_plane.model.apps import find_app
from control_plane.model.change import Decision
from control_plane.model.entities import JoinToken
from control_plane.model.state import State
from control_plane.model.tokens import (
    add_token,
    drop_expired_tokens,
    good_tokens,
    revoke_tokens,
)
from control_plane.names import parse_guid
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.api.messages import AT_ONCE, token_message
from control_plane.server.api.selection import asked_apps
from control_plane.server.durations import parse_duration
from control_plane.server.rates import TokenBucket
from control_plane.server.turns import unhurried

DEFAULT_TTL = timedelta(minutes=10)
"""Long enough to start a container with the token, and short for anybody who finds it in a log of
the platform."""

MIN_TTL = timedelta(seconds=1)

MAX_TTL = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class EnrollmentServer:
    """Where a sidecar enrols, and how it verifies that it has reached that server.

    Attributes:
        address: host and port.
        fingerprint: the SHA-256 of the CA's certificate, by which the server's certificate is
            verified.
    """

    address: str
    fingerprint: str


def token_digest(token: str) -> str:
    """Return what is kept of a join token: its SHA-256 in hexadecimal.

    A token is random and long, so nobody finds it by trial, and it needs neither a salt nor a slow
    hash.
    """
    return hashlib.sha256(token.encode()).hexdigest()


class JoinTokenService(join_token_pb2_grpc.JoinTokenServiceServicer):
    """Creates join tokens, shows them, and revokes them."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        new_token: Callable[[], str],
        new_guid: Callable[[], str],
        server: Callable[[], EnrollmentServer],
    ) -> None:
        """Make tokens for the apps of a registry.

        Args:
            registry: the one writer.
            clock: tells when a token expires.
            new_token: makes a token, with at least 128 bits of randomness.
            new_guid: makes the GUID by which a token is called.
            server: returns where to enrol, at the moment of the call.
        """
        self._registry = registry
        self._clock = clock
        self._new_token = new_token
        self._new_guid = new_guid
        self._server = server
        self._looks = TokenBucket.per_minute(1, clock)

    async def CreateJoinToken(
        self, request: join_token_pb2.CreateJoinTokenRequest, context: Context
    ) -> join_token_pb2.CreateJoinTokenResponse:
        """Create a token for one app; expired tokens are dropped on this occasion, now and then.

        To find them means to look at every token, and a platform may create one for each container.
        """
        now = self._clock.now()
        expires_at = now + _parse_ttl(request.ttl if request.HasField("ttl") else None)
        token, guid = self._new_token(), self._new_guid()

        def add(state: State) -> Decision[JoinToken]:
            uses = request.uses or 1
            kept = JoinToken(
                digest=token_digest(token),
                app_guid=find_app(state, request.app, request.org, request.space).guid,
                expires_at=expires_at,
                uses_left=uses,
                address_range=request.address_range,
                guid=guid,
                created_at=now,
                uses=uses,
            )
            return add_token(state, kept, now)

        def drop_and_add(state: State) -> Decision[JoinToken]:
            return drop_expired_tokens(state, now).then(lambda rest, _: add(rest))

        await self._registry.execute(drop_and_add if self._looks.take() else add)
        server = self._server()
        expires = Timestamp()
        expires.FromDatetime(expires_at)
        return join_token_pb2.CreateJoinTokenResponse(
            token=token,
            server=server.address,
            fingerprint=server.fingerprint,
            expires_at=expires,
            guid=guid,
        )

    async def ListJoinTokens(
        self, request: join_token_pb2.ListJoinTokensRequest, context: Context
    ) -> join_token_pb2.ListJoinTokensResponse:
        """Show the tokens that are still good: all, or those of a space or an app."""
        state = self._registry.state
        found = good_tokens(state, asked_apps(state, request), self._clock.now())
        return join_token_pb2.ListJoinTokensResponse(
            tokens=[token_message(state, each) async for each in unhurried(found, AT_ONCE)]
        )

    async def RevokeJoinTokens(
        self, request: join_token_pb2.RevokeJoinTokensRequest, context: Context
    ) -> join_token_pb2.RevokeJoinTokensResponse:
        """Revoke one token of an app, or all of them if it is not known which one it was."""
        now = self._clock.now()
        guid = parse_guid(request.guid, field="guid") if request.guid else ""

        def revoke(state: State) -> Decision[int]:
            app = find_app(state, request.app, request.org, request.space)
            return revoke_tokens(state, app.guid, now, guid)

        committed = await self._registry.execute(revoke)
        return join_token_pb2.RevokeJoinTokensResponse(
            revoked=committed.result, revision=committed.revision
        )


def _parse_ttl(ttl: Duration | None) -> timedelta:
    if ttl is None:
        return DEFAULT_TTL
    return parse_duration(ttl, field="ttl", least=MIN_TTL, most=MAX_TTL)
