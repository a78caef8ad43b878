"""``network-policies``: who may connect to whom."""

from __future__ import annotations

from collections.abc import Sequence

import click

from control_plane.api.v1 import network_policy_pb2, network_policy_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.about_app import about_app, refuse_all
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.globals import all_option, connection_options, target, target_options
from control_plane.cli.output import begin, named, output_option, wants_json
from control_plane.cli.tables import print_records, print_table, record, with_room


@command(
    "network-policies",
    usage=[
        "[SOURCE_APP | --source SOURCE_APP | --all] [-s SPACE] [-o ORG] [--output json]",
        "--destination DESTINATION_APP [-s SPACE] [-o ORG] [--output json]",
    ],
    examples=["", "--source frontend", "--destination backend"],
    see_also=["add-network-policy", "apps", "remove-network-policy"],
)
@about_app("SOURCE_APP", "--source")
@click.option("--destination", type=kinds.NAME, help="Who may call this app, from any space")
@target_options
@all_option
@output_option
@connection_options
def network_policies(app_name: str | None, destination: str | None) -> None:
    """List direct network traffic policies."""
    where = target()
    if destination:
        refuse_all("--destination")
    to = f" to app {named(destination)}" if destination else ""
    begin(where.listing("Listing", f"network policies{to}", app_name))
    from_anywhere = where.is_all or (destination is not None and not app_name)
    request = network_policy_pb2.ListNetworkPoliciesRequest(
        source=app_name or "",
        source_space=where.space,
        source_org=where.org,
        destination=destination or "",
        destination_space=where.space,
        destination_org=where.org,
        in_source_space=not from_anywhere,
    )
    with connect() as client:
        answer = client.call(
            network_policy_pb2_grpc.NetworkPolicyServiceStub(client.channel).ListNetworkPolicies,
            request,
        )
    # An older server answers for every space; a source that is named by its GUID may be anywhere.
    found = [
        each
        for each in answer.policies
        if from_anywhere or app_name or where.has(each.source_org, each.source_space)
    ]
    if wants_json():
        print_records([record(each) for each in found])
        return
    columns: dict[str, Sequence[object]] = {
        "source": [each.source for each in found],
        "destination": [each.destination for each in found],
        "protocol": [each.protocol for each in found],
        "ports": [_ports(each) for each in found],
    }
    spaces: dict[str, Sequence[object]] = {
        "destination space": [each.destination_space for each in found],
        "destination org": [each.destination_org for each in found],
    }
    places = [f"to org {each.destination_org} / space {each.destination_space}" for each in found]
    if from_anywhere:
        spaces |= {
            "source space": [each.source_space for each in found],
            "source org": [each.source_org for each in found],
        }
        places = [
            f"from org {each.source_org} / space {each.source_space} {place}"
            for each, place in zip(found, places, strict=True)
        ]
    print_table(
        with_room(columns, spaces, {"where": places}),
        empty="No network policies found.",
        below="where",
    )


def _ports(policy: network_policy_pb2.NetworkPolicy) -> str:
    if policy.start_port == policy.end_port:
        return str(policy.start_port)
    return f"{policy.start_port}-{policy.end_port}"
