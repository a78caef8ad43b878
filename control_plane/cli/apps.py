"""``apps`` and ``app``: which apps there are."""

from __future__ import annotations

import click

from control_plane.api.v1 import app_pb2, app_pb2_grpc, instance_pb2, instance_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.globals import all_option, connection_options, target, target_options
from control_plane.cli.name_completion import complete_app
from control_plane.cli.output import begin, named, output_option, wants_json
from control_plane.cli.tables import print_fields, print_records, print_table, record, spaces_of


@command(
    "apps",
    usage=["[-s SPACE] [-o ORG] [--all] [--output json]"],
    examples=["", "--all --output json"],
    see_also=["app", "create-app", "instances", "routes"],
)
@target_options
@all_option
@output_option
@connection_options
def apps() -> None:
    """List apps."""
    where = target()
    begin(where.listing("Getting", "apps"))
    restricted = app_pb2.ListAppsRequest(space=where.space, org=where.org)
    request = app_pb2.ListAppsRequest() if where.is_all else restricted
    with connect() as client:
        found = client.call(app_pb2_grpc.AppServiceStub(client.channel).ListApps, request).apps
    if wants_json():
        print_records([record(app) for app in found])
        return
    columns: dict[str, list[object]] = {
        "name": [app.name for app in found],
        "instances": [f"{app.ready_instances}/{app.instances}" for app in found],
        "protocol": [app.protocol for app in found],
        "ports": [list(app.ports) for app in found],
        **(spaces_of(found) if where.is_all else {}),
        # Last, so that an app with hundreds of them does not lengthen the rows of others.
        "routes": [list(app.routes) for app in found],
    }
    print_table(columns, empty="No apps found", cut=["routes"])


@command(
    "app",
    usage=["APP [-s SPACE] [-o ORG] [--output json]"],
    examples=["app-b"],
    see_also=["apps", "instances", "update-app"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@target_options
@output_option
@connection_options
def app(app_name: str) -> None:
    """Show an app and its instances."""
    where = target()
    begin(f"Showing app {named(app_name)} in {where}")
    with connect() as client:
        found = client.call(
            app_pb2_grpc.AppServiceStub(client.channel).GetApp,
            app_pb2.GetAppRequest(app=app_name, space=where.space, org=where.org),
        ).app
        instances = client.call(
            instance_pb2_grpc.InstanceServiceStub(client.channel).ListInstances,
            instance_pb2.ListInstancesRequest(app=found.guid),
        ).instances
    if wants_json():
        # Its field `instances` counts the instances that are not gone, as in `c2c apps`.
        print_records([{**record(found), "instance_list": [record(each) for each in instances]}])
        return
    print_fields(
        {
            "name": found.name,
            "guid": found.guid,
            "space": found.space,
            "org": found.org,
            "protocol": found.protocol,
            "os": found.os,
            "ports": list(found.ports),
            "61443 leads to": found.c2c_port or "nowhere",
            "ssh": found.ssh,
            "health check": found.health_check_type,
            "routes": list(found.routes),
        }
    )
    print_table(
        {
            "index": [each.index for each in instances],
            "address": [each.address for each in instances],
            "status": [each.status.replace("_", " ") for each in instances],
            "connected": [each.connected for each in instances],
            "guid": [each.guid for each in instances],
        },
        empty="There are no instances of this app.",
        cut=["guid"],
    )
