"""NetworkPolicyService: which app may connect to which (protos/c2c/v1/network_policy.proto).

The rule of this module: a request is accepted as a whole or refused as a whole, and a policy that
opens nothing is accepted with a note that says so.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.api.v1 import network_policy_pb2, network_policy_pb2_grpc
from control_plane.model.apps import apps_in, find_app
from control_plane.model.entities import NetworkPolicy
from control_plane.model.policies import (
    DEFAULT_POLICY_LIMIT,
    PolicyOutcome,
    PolicySpec,
    add_policies,
    remove_policies,
)
from control_plane.model.state import State
from control_plane.names import AppGuid
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.api.messages import AT_ONCE, policy_message
from control_plane.server.api.policy_notes import Opening, policy_note
from control_plane.server.api.waiting import Progress, laggards, parse_wait
from control_plane.server.turns import unhurried


class NetworkPolicyService(network_policy_pb2_grpc.NetworkPolicyServiceServicer):
    """Adds, removes and shows network policies."""

    def __init__(
        self,
        registry: Registry,
        progress: Progress,
        *,
        opening: Opening,
        limit: int = DEFAULT_POLICY_LIMIT,
    ) -> None:
        """Serve the network policies of a registry.

        Args:
            registry: the one writer.
            progress: knows how far a change got.
            opening: what policies can open.
            limit: how many policies a source app may have.
        """
        self._registry = registry
        self._progress = progress
        self._opening = opening
        self._limit = limit

    async def AddNetworkPolicies(
        self, request: network_policy_pb2.AddNetworkPoliciesRequest, context: Context
    ) -> network_policy_pb2.AddNetworkPoliciesResponse:
        """Allow apps to connect to apps, or find that they already may."""
        wait = parse_wait(request.wait, request.timeout if request.HasField("timeout") else None)
        specs = [_spec(each) for each in request.policies]
        committed = await self._registry.execute(
            lambda state: add_policies(state, specs, self._limit)
        )
        state = committed.state
        behind = await laggards(self._progress, state, _ends(committed.result), wait, context)
        return network_policy_pb2.AddNetworkPoliciesResponse(
            outcomes=[
                _outcome(state, each, self._note(state, each.policy)) for each in committed.result
            ],
            revision=committed.revision,
            complete=not behind,
            behind=behind,
        )

    async def RemoveNetworkPolicies(
        self, request: network_policy_pb2.RemoveNetworkPoliciesRequest, context: Context
    ) -> network_policy_pb2.RemoveNetworkPoliciesResponse:
        """Withdraw the permission to connect, or find that there is none."""
        wait = parse_wait(request.wait, request.timeout if request.HasField("timeout") else None)
        specs = [_spec(each) for each in request.policies]
        committed = await self._registry.execute(lambda state: remove_policies(state, specs))
        state = committed.state
        behind = await laggards(self._progress, state, _ends(committed.result), wait, context)
        return network_policy_pb2.RemoveNetworkPoliciesResponse(
            outcomes=[_outcome(state, each) for each in committed.result],
            revision=committed.revision,
            complete=not behind,
            behind=behind,
        )

    async def ListNetworkPolicies(
        self, request: network_policy_pb2.ListNetworkPoliciesRequest, context: Context
    ) -> network_policy_pb2.ListNetworkPoliciesResponse:
        """Show every policy, or those from an app or a space, to an app, or from one to another."""
        state = self._registry.state
        policies = state.all_policies()
        if request.source:
            source = find_app(
                state, request.source, request.source_org, request.source_space, field="source"
            )
            policies = tuple(each for each in policies if each.source == source.guid)
        elif request.in_source_space:
            apps = apps_in(state, request.source_org, request.source_space)
            guids = {app.guid for app in apps}
            policies = tuple(each for each in policies if each.source in guids)
        if request.destination:
            destination = find_app(
                state,
                request.destination,
                request.destination_org,
                request.destination_space,
                field="destination",
            )
            policies = tuple(each for each in policies if each.destination == destination.guid)
        messages = [policy_message(state, each) async for each in unhurried(policies, AT_ONCE)]
        return network_policy_pb2.ListNetworkPoliciesResponse(
            policies=sorted(messages, key=_by_name)
        )

    def _note(self, state: State, policy: NetworkPolicy) -> str:
        return policy_note(policy, state.apps[policy.destination], self._opening)


def _spec(policy: network_policy_pb2.NetworkPolicy) -> PolicySpec:
    return PolicySpec(
        source=policy.source,
        destination=policy.destination,
        protocol=policy.protocol,
        start_port=policy.start_port,
        end_port=policy.end_port,
        source_org=policy.source_org,
        source_space=policy.source_space,
        destination_org=policy.destination_org,
        destination_space=policy.destination_space,
    )


def _outcome(
    state: State, outcome: PolicyOutcome, note: str = ""
) -> network_policy_pb2.PolicyOutcome:
    return network_policy_pb2.PolicyOutcome(
        policy=policy_message(state, outcome.policy), already=outcome.already, note=note
    )


def _ends(outcomes: Iterable[PolicyOutcome]) -> frozenset[AppGuid]:
    """Return the apps that policies concern: those that may connect, and those they connect to."""
    return frozenset(
        app for each in outcomes for app in (each.policy.source, each.policy.destination)
    )


def _by_name(policy: network_policy_pb2.NetworkPolicy) -> tuple[str | int, ...]:
    return (
        policy.source_org,
        policy.source_space,
        policy.source,
        policy.destination_org,
        policy.destination_space,
        policy.destination,
        policy.protocol,
        policy.start_port,
        policy.end_port,
    )
