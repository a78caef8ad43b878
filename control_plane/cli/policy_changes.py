"""``add-network-policy`` and ``remove-network-policy``, as in ``cf``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import click

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    network_policy_pb2,
    network_policy_pb2_grpc,
)
from control_plane.cli import kinds
from control_plane.cli.client import Client, connect
from control_plane.cli.command import command
from control_plane.cli.globals import Target, connection_options, target
from control_plane.cli.name_completion import complete_app
from control_plane.cli.output import begin, named, ok, output_option, tell, waiting, wants_json
from control_plane.cli.progress import Wait, wait_options
from control_plane.cli.tables import print_records, record

Function = TypeVar("Function", bound=Callable[..., object])

_ENDS = "SOURCE_APP DESTINATION_APP [-s DESTINATION_SPACE [-o DESTINATION_ORG]]"
_WAIT = "[--wait committed|acked|served] [--timeout DURATION] [--output json]"


def _policy_options(function: Function) -> Function:
    """Give a command the options that name a policy, except protocol and ports."""
    for decorate in reversed(
        (
            click.argument(
                "source", metavar="SOURCE_APP", type=kinds.NAME, shell_complete=complete_app
            ),
            click.argument(
                "destination",
                metavar="DESTINATION_APP",
                type=kinds.NAME,
                shell_complete=complete_app,
                required=False,
            ),
            click.option(
                "--destination-app",
                "destination_flag",
                shell_complete=complete_app,
                help="The destination app, as a flag",
            ),
            click.option(
                "-s",
                "space",
                type=kinds.NAME,
                help="The space of the destination app (Default: source's)",
            ),
            click.option(
                "-o",
                "org",
                type=kinds.NAME,
                help="The org of the destination app (Default: source's)",
            ),
        )
    ):
        function = decorate(function)
    return function


@command(
    "add-network-policy",
    usage=[f"{_ENDS} [--protocol (tcp | udp) --port RANGE] {_WAIT}"],
    examples=[
        "frontend backend --protocol tcp --port 61443",
        "frontend backend --protocol tcp --port 8081",
        "frontend backend -s backend-space -o backend-org --protocol tcp --port 8080-8090",
    ],
    tip=["HTTPS between apps is on port 61443. Without a policy nobody may connect to anybody."],
    see_also=["apps", "network-policies", "remove-network-policy"],
)
@_policy_options
@click.option(
    "--protocol", type=kinds.PROTOCOL, help="Protocol to connect apps with (Default: tcp)"
)
@click.option(
    "--port",
    "ports",
    type=kinds.PORT_RANGE,
    help="Port or range of ports for connection to destination app (Default: 8080)",
)
@wait_options
@output_option
@connection_options
def add_network_policy(  # noqa: PLR0913 - one argument an option
    source: str,
    destination: str | None,
    *,
    destination_flag: str | None,
    space: str | None,
    org: str | None,
    protocol: str | None,
    ports: kinds.PortRange | None,
    wait: str,
    timeout: timedelta,
) -> None:
    """Create policy to allow direct network traffic from one app to another."""
    if (protocol is None) != (ports is None):
        raise click.UsageError("--protocol and --port flags must be specified together")
    policy = _policy(
        source,
        _destination(destination, destination_flag),
        _destination_target(space, org),
        protocol or "tcp",
        ports or kinds.PortRange(8080, 8080),
    )
    begin(f"Adding network policy {_between(policy)}")
    awaited = Wait(wait, timeout)
    request = network_policy_pb2.AddNetworkPoliciesRequest(
        policies=[policy], wait=awaited.stage, timeout=awaited.timeout
    )
    with connect() as client, waiting(f"until the policy is {wait}"):
        _require_apps(client, policy)
        answer = client.change(
            network_policy_pb2_grpc.NetworkPolicyServiceStub(client.channel).AddNetworkPolicies,
            request,
            target().command("network-policies", "--source", source),
            awaited.seconds,
        )
    _finish(answer, "the policy exists", awaited)


@command(
    "remove-network-policy",
    usage=[f"{_ENDS} --protocol (tcp | udp) --port RANGE {_WAIT}"],
    examples=[
        "frontend backend --protocol tcp --port 61443",
        "frontend backend -s backend-space -o backend-org --protocol tcp --port 8080-8090",
    ],
    tip=["Connections that only this policy allows are cut."],
    see_also=["add-network-policy", "apps", "network-policies"],
)
@_policy_options
@click.option(
    "--protocol", type=kinds.PROTOCOL, required=True, help="Protocol that apps are connected with"
)
@click.option(
    "--port",
    "ports",
    type=kinds.PORT_RANGE,
    required=True,
    help="Port or range of ports that destination app is connected with",
)
@wait_options
@output_option
@connection_options
def remove_network_policy(  # noqa: PLR0913 - one argument an option
    source: str,
    destination: str | None,
    *,
    destination_flag: str | None,
    space: str | None,
    org: str | None,
    protocol: str,
    ports: kinds.PortRange,
    wait: str,
    timeout: timedelta,
) -> None:
    """Remove network traffic policy of an app."""
    policy = _policy(
        source,
        _destination(destination, destination_flag),
        _destination_target(space, org),
        protocol,
        ports,
    )
    begin(f"Removing network policy {_between(policy)}")
    awaited = Wait(wait, timeout)
    request = network_policy_pb2.RemoveNetworkPoliciesRequest(
        policies=[policy], wait=awaited.stage, timeout=awaited.timeout
    )
    with connect() as client, waiting(f"until the removal is {wait}"):
        _require_apps(client, policy)
        answer = client.change(
            network_policy_pb2_grpc.NetworkPolicyServiceStub(client.channel).RemoveNetworkPolicies,
            request,
            target().command("network-policies", "--source", source),
            awaited.seconds,
        )
    if all(outcome.already for outcome in answer.outcomes):
        tell("Policy does not exist.")
    _finish(answer, "the policy is gone", awaited)


def _destination(positional: str | None, flag: str | None) -> str:
    """Return the destination app, which older versions of ``cf`` took as a flag."""
    if positional and flag:
        raise click.UsageError("DESTINATION_APP and --destination-app cannot be used together")
    destination = positional or flag
    if not destination:
        raise click.UsageError("the required argument `DESTINATION_APP` was not provided")
    return destination


def _destination_target(space: str | None, org: str | None) -> Target:
    if org and not space:
        raise click.UsageError(
            "A space must be provided when an org is provided, but the '-s' flag was not specified."
        )
    return Target(org or target().org, space or target().space)


def _policy(
    source: str, destination: str, to: Target, protocol: str, ports: kinds.PortRange
) -> network_policy_pb2.NetworkPolicy:
    where = target()
    return network_policy_pb2.NetworkPolicy(
        source=source,
        source_space=where.space,
        source_org=where.org,
        destination=destination,
        destination_space=to.space,
        destination_org=to.org,
        protocol=protocol,
        start_port=ports.start,
        end_port=ports.end,
    )


def _require_apps(client: Client, policy: network_policy_pb2.NetworkPolicy) -> None:
    """Ask the server for both apps, as ``cf`` does: then it is known which one does not exist."""
    get_app = app_pb2_grpc.AppServiceStub(client.channel).GetApp
    source, destination = _targets(policy)
    for app, where in ((policy.source, source), (policy.destination, destination)):
        client.call(get_app, app_pb2.GetAppRequest(app=app, space=where.space, org=where.org))


def _between(policy: network_policy_pb2.NetworkPolicy) -> str:
    """Return how a sentence names both apps, with their spaces if these are different."""
    source, destination = _targets(policy)
    first = f"from app {named(policy.source)}"
    second = f"to app {named(policy.destination)} in {destination}"
    return f"{first} {second}" if source == destination else f"{first} in {source} {second}"


def _targets(policy: network_policy_pb2.NetworkPolicy) -> tuple[Target, Target]:
    return (
        Target(policy.source_org, policy.source_space),
        Target(policy.destination_org, policy.destination_space),
    )


def _finish(
    answer: network_policy_pb2.AddNetworkPoliciesResponse
    | network_policy_pb2.RemoveNetworkPoliciesResponse,
    done: str,
    awaited: Wait,
) -> None:
    if wants_json():
        print_records(
            [
                {
                    **record(outcome.policy),
                    "already": outcome.already,
                    "note": outcome.note,
                    "revision": answer.revision,
                    "complete": answer.complete,
                    "behind": [each.instance_guid for each in answer.behind],
                }
                for outcome in answer.outcomes
            ]
        )
    for outcome in answer.outcomes:
        if outcome.note:
            tell(f"Note: {outcome.note}")
    awaited.require_complete(answer, done)
    ok()
