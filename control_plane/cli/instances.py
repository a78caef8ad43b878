"""``instances``, ``register-instance`` and ``remove-instance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from control_plane.api.v1 import app_pb2, app_pb2_grpc, instance_pb2, instance_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.about_app import about_app, asked_for
from control_plane.cli.client import Client, connect
from control_plane.cli.command import command
from control_plane.cli.globals import (
    all_option,
    connection_options,
    target,
    target_options,
)
from control_plane.cli.instance_name import (
    asked_instance,
    find_instance,
    is_app_and_index,
    listed_by,
)
from control_plane.cli.name_completion import (
    complete_app,
    complete_app_or_instance,
    complete_instance,
)
from control_plane.cli.output import begin, named, ok, output_option, tell, wants_json
from control_plane.cli.tables import print_fields, print_records, print_table, record, with_spaces
from control_plane.names import shown


@command(
    "instances",
    usage=["[APP | APP/INDEX | --all] [-s SPACE] [-o ORG] [--output json]"],
    examples=["", "app-b", "app-b/0", "--all --output json"],
    see_also=["app", "join-token", "remove-instance"],
)
@about_app(complete=complete_app_or_instance)
@target_options
@all_option
@output_option
@connection_options
def instances(app_name: str | None) -> None:
    """List app instances."""
    where = target()
    if is_app_and_index(app_name):
        begin(f"Getting instance {named(app_name)} in {where}")
    else:
        begin(where.listing("Getting", "instances", app_name))
    with connect() as client:
        found = _found(client, app_name)
    if wants_json():
        print_records([record(each) for each in found])
        return
    columns: Mapping[str, Sequence[object]] = {
        "app": [each.app for each in found],
        "index": [each.index for each in found],
        "address": [each.address for each in found],
        "app address": [each.app_address for each in found],
        "status": [each.status.replace("_", " ") for each in found],
        "connected": [each.connected for each in found],
        "guid": [each.guid for each in found],
    }
    if where.is_all:
        columns = with_spaces(columns, found, cut=["guid"])
    print_table(columns, empty="No instances found.", cut=["guid"], below="where")


def _found(client: Client, app_name: str | None) -> list[instance_pb2.Instance]:
    """Return the instances of a space, of an app, or the one that is named."""
    if (only := asked_instance(client, app_name)) is not None:
        return [only]
    where = target()
    request = instance_pb2.ListInstancesRequest(
        app=app_name or "", space=where.space, org=where.org, in_space=not where.is_all
    )
    stub = instance_pb2_grpc.InstanceServiceStub(client.channel)
    return asked_for(client.call(stub.ListInstances, request).instances, app_name)


@command(
    "register-instance",
    usage=["APP --address IP [--app-address IP] [--guid GUID] [-s SPACE] [-o ORG] [--output json]"],
    examples=["app-b --address 127.0.1.1"],
    tip=[
        "A sidecar registers its instance by itself when it enrols with a join token. This is for",
        "platforms that know their instances, and make the identities of their Envoys themselves:",
        "see 'c2c help bootstrap'.",
    ],
    see_also=["bootstrap", "instances", "join-token"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@click.option("--address", required=True, help="Where other instances reach its Envoy")
@click.option("--app-address", help="Where its Envoy reaches the app (Default: 127.0.0.1)")
@click.option("--guid", help="The instance's GUID, if it has one already")
@target_options
@output_option
@connection_options
def register_instance(
    app_name: str, *, address: str, app_address: str | None, guid: str | None
) -> None:
    """Register an instance of an app."""
    where = target()
    begin(f"Registering instance of app {named(app_name)} at {named(address)} in {where}")
    request = instance_pb2.RegisterInstanceRequest(
        app=app_name,
        space=where.space,
        org=where.org,
        address=address,
        app_address=app_address or "",
        guid=guid or "",
    )
    with connect() as client:
        answer = client.change(
            instance_pb2_grpc.InstanceServiceStub(client.channel).RegisterInstance,
            request,
            where.command("instances", app_name),
        )
    if wants_json():
        outcome = {"already": answer.already, "revision": answer.revision}
        print_records([{**record(answer.instance), **outcome}])
        return
    if answer.already:
        tell(f"Instance '{answer.instance.guid}' is already registered. Nothing has been updated.")
    ok()
    print_fields({"guid": answer.instance.guid, "index": answer.instance.index})


@command(
    "remove-instance",
    usage=["INSTANCE [-s SPACE] [-o ORG] [--output json]"],
    examples=["app-b/0", "3f1d1a52-8c6e-4a4b-9b0e-0f9a53c3f5a1"],
    tip=[
        "INSTANCE is a GUID, or an app and an index. It loses its listeners, then its stream, and",
        "can never come back: whoever enrols at its place is another instance, with a new token.",
    ],
    see_also=["delete-app", "instances", "join-token"],
)
@click.argument("instance", metavar="INSTANCE", type=kinds.NAME, shell_complete=complete_instance)
@target_options
@output_option
@connection_options
def remove_instance(instance: str) -> None:
    """Remove an instance for good."""
    where = f" in {target()}" if is_app_and_index(instance) else ""
    begin(f"Removing instance {named(instance)}{where}")
    with connect() as client:
        guid = _guid(client, instance)
        answer = _removed(client, guid, listed_by(instance))
        if answer.already:
            tell(f"Instance {shown(instance)} does not exist.{_hint(client, instance)}")
    if wants_json():
        outcome = {"already": answer.already, "revision": answer.revision}
        print_records([{"instance": instance, "guid": guid or "", **outcome}])
    ok()


def _guid(client: Client, instance: str) -> str | None:
    """Return the GUID of the named instance; None if the app has no instance with this index."""
    if not is_app_and_index(instance):
        return instance
    found = find_instance(client, instance)
    return None if found is None else found.guid


def _removed(
    client: Client, guid: str | None, shown_by: str
) -> instance_pb2.RemoveInstanceResponse:
    """Remove an instance, or report that there is none."""
    if guid is None:
        return instance_pb2.RemoveInstanceResponse(already=True)
    stub = instance_pb2_grpc.InstanceServiceStub(client.channel)
    return client.change(
        stub.RemoveInstance, instance_pb2.RemoveInstanceRequest(guid=guid), shown_by
    )


def _hint(client: Client, instance: str) -> str:
    """Return a hint for a user who named an app instead of an instance; otherwise ""."""
    where = target()
    request = app_pb2.ListAppsRequest(space=where.space, org=where.org)
    apps = client.call(app_pb2_grpc.AppServiceStub(client.channel).ListApps, request).apps
    if all(each.name != instance for each in apps):
        return ""
    return f" There is an app of that name, whose instances are {instance}/0 and so on."
