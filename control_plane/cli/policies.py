"""``network-policies``: which apps may connect to which."""

from __future__ import annotations

from collections.abc import Sequence

import click

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    network_policy_pb2,
    network_policy_pb2_grpc,
)
from control_plane.cli import kinds
from control_plane.cli.about_app import about_app, refuse_all
from control_plane.cli.client import Client, connect
from control_plane.cli.command import command
from control_plane.cli.errors import Failed
from control_plane.cli.globals import (
    all_option,
    connection_options,
    pasted,
    target,
    target_options,
)
from control_plane.cli.output import begin, named, output_option, wants_json
from control_plane.cli.tables import print_records, print_table, record, with_room


@command(
    "network-policies",
    usage=[
        "[SOURCE_APP | --source SOURCE_APP | --all] [-s SPACE] [-o ORG] [--output json]",
        "--destination DESTINATION_APP [-s SPACE] [-o ORG] [--output json]",
        (
            "SOURCE_APP --destination DESTINATION_APP [-s SOURCE_SPACE] [-o SOURCE_ORG] "
            "[--output json]"
        ),
    ],
    examples=["", "--source frontend", "--destination backend", "frontend --destination backend"],
    see_also=["add-network-policy", "apps", "remove-network-policy"],
)
@about_app("SOURCE_APP", "--source")
@click.option(
    "--destination",
    type=kinds.NAME,
    help="List those that let apps of any space call this app; with SOURCE_APP, those that let it "
    "call an app of this name, in any space",
)
@target_options
@all_option
@output_option
@connection_options
def network_policies(app_name: str | None, destination: str | None) -> None:
    """List direct network traffic policies."""
    where = target()
    if destination:
        refuse_all("--destination")
    begin(_title(app_name, destination))
    from_anywhere = where.is_all or (destination is not None and not app_name)
    with connect() as client:
        if app_name and destination:
            found = _between(client, app_name, destination)
        else:
            # An older server answers for every space.
            found = [
                each
                for each in _listed(client, app_name, destination, in_space=not from_anywhere)
                # A source that is named by its GUID may be in any space.
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


def _title(source: str | None, destination: str | None) -> str:
    """Return the sentence that says what is listed."""
    where = target()
    to = f" to app {named(destination)}" if destination else ""
    if source and destination:
        return where.listing("Listing", "network policies", source) + f"{to} of any space"
    return where.listing("Listing", f"network policies{to}", source)


def _listed(
    client: Client, source: str | None, destination: str | None = None, *, in_space: bool = False
) -> Sequence[network_policy_pb2.NetworkPolicy]:
    """Return the policies that the server lists from an app of the target space, or to one."""
    where = target()
    request = network_policy_pb2.ListNetworkPoliciesRequest(
        source=source or "",
        source_space=where.space,
        source_org=where.org,
        destination=destination or "",
        destination_space=where.space,
        destination_org=where.org,
        in_source_space=in_space,
    )
    stub = network_policy_pb2_grpc.NetworkPolicyServiceStub(client.channel)
    return client.call(stub.ListNetworkPolicies, request).policies


def _between(
    client: Client, source: str, destination: str
) -> list[network_policy_pb2.NetworkPolicy]:
    """Return the policies from an app of the target space to every app with a given name or GUID.

    The two apps may be in different spaces, and the command line can name only one space.

    Raises:
        Failed: no space has such an app.
    """
    policies = _listed(client, source)
    stub = app_pb2_grpc.AppServiceStub(client.channel)
    apps = client.call(stub.ListApps, app_pb2.ListAppsRequest()).apps
    keys = {
        (each.org, each.space, each.name) for each in apps if destination in (each.name, each.guid)
    }
    if not keys:
        raise Failed(
            f"app '{destination}' not found in any space: '{pasted('c2c apps --all')}' lists every "
            "app"
        )
    return [
        each
        for each in policies
        if (each.destination_org, each.destination_space, each.destination) in keys
    ]


def _ports(policy: network_policy_pb2.NetworkPolicy) -> str:
    if policy.start_port == policy.end_port:
        return str(policy.start_port)
    return f"{policy.start_port}-{policy.end_port}"
