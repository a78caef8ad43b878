"""Calls of a newer release: a change is made as it was meant, or not at all."""

from __future__ import annotations

from pathlib import Path

import grpc
from google.protobuf.message import Message
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import join_token_pb2, network_policy_pb2
from tests.security.world import called, control_plane, facts, refused, ticket, told

NEW_FIELD = b"\xa2\x06\x03new"
"""Field 100, a text; this release has none with that number."""


def of_a_newer_release(request: Message) -> bytes:
    """Return a request with a field more."""
    return request.SerializeToString() + NEW_FIELD


async def test_a_change_that_is_known_in_part_is_refused(tmp_path: Path) -> None:
    """Else one token was to be revoked, and all of them are; the audit log tells of it."""
    method = "/c2c.v1.JoinTokenService/RevokeJoinTokens"
    request = of_a_newer_release(join_token_pb2.RevokeJoinTokensRequest(app="app-b"))
    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        await cf.create_app("app-b")
        await ticket(cf, "app-b", "127.0.0.0/8")
        before = facts(cf)
        with capture_logs() as lines:
            code, reason = await refused(called(channel, method, request))

        assert facts(cf) == before
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert reason == (
        "this server does not know field 100 of RevokeJoinTokensRequest, it may be older than its "
        "caller: nothing was changed, so upgrade it or leave that out"
    )
    assert [each["outcome"] for each in told(lines, log_events.AUDIT_COMMAND)] == [reason]


async def test_so_is_one_of_several_things_to_change(tmp_path: Path) -> None:
    """A policy that is meant for less than it seems lets nobody in."""
    method = "/c2c.v1.NetworkPolicyService/AddNetworkPolicies"
    policy = network_policy_pb2.NetworkPolicy(
        source="app-a", destination="app-b", protocol="tcp", start_port=61443, end_port=61443
    )
    newer = network_policy_pb2.NetworkPolicy.FromString(of_a_newer_release(policy))
    request = network_policy_pb2.AddNetworkPoliciesRequest(policies=[policy, newer])
    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        for app in ("app-a", "app-b"):
            await cf.create_app(app)
        code, reason = await refused(called(channel, method, request.SerializeToString()))

        assert list(cf.running.core.registry.state.all_policies()) == []
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "does not know field 100 of NetworkPolicy, " in reason


async def test_what_only_reads_is_answered(tmp_path: Path) -> None:
    """A newer caller looks through what an older server shows."""
    method = "/c2c.v1.JoinTokenService/ListJoinTokens"
    request = of_a_newer_release(join_token_pb2.ListJoinTokensRequest(app="app-b"))
    async with control_plane(tmp_path) as cf, cf.operator() as channel:
        await cf.create_app("app-b")
        await ticket(cf, "app-b", "127.0.0.0/8")
        answer = await called(channel, method, request)

    assert len(join_token_pb2.ListJoinTokensResponse.FromString(answer).tokens) == 1
