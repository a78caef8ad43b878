"""``routes``, ``map-route`` and ``unmap-route``."""

from __future__ import annotations

from datetime import timedelta

import click

from control_plane.api.v1 import route_pb2, route_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.about_app import about_app, asked_for
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.globals import all_option, connection_options, target, target_options
from control_plane.cli.name_completion import complete_app
from control_plane.cli.output import begin, named, ok, output_option, tell, waiting, wants_json
from control_plane.cli.progress import Wait, wait_options
from control_plane.cli.tables import print_records, print_table, record

_CHANGE_USAGE = (
    "APP DOMAIN --hostname HOSTNAME [-s SPACE] [-o ORG] [--wait committed|acked|served] "
    "[--timeout DURATION] [--output json]"
)


@command(
    "routes",
    usage=["[APP | --all] [-s SPACE] [-o ORG] [--output json]"],
    examples=["", "app-b", "--all --output json"],
    see_also=["apps", "map-route", "unmap-route"],
)
@about_app()
@target_options
@all_option
@output_option
@connection_options
def routes(app_name: str | None) -> None:
    """List internal routes."""
    where = target()
    begin(where.listing("Getting", "routes", app_name, at="for"))
    request = route_pb2.ListRoutesRequest(
        app=app_name or "", space=where.space, org=where.org, in_space=not where.is_all
    )
    with connect() as client:
        answer = client.call(route_pb2_grpc.RouteServiceStub(client.channel).ListRoutes, request)
    found = asked_for(answer.routes, app_name)
    if wants_json():
        print_records([record(route) for route in found])
        return
    apps: dict[tuple[str, ...], list[str]] = {}
    for route in found:
        row = (route.route, route.hostname, route.domain, route.space, route.org)
        apps.setdefault(row, []).append(route.app)
    names, hosts, domains, spaces, orgs = zip(*apps, strict=True) if apps else ((),) * 5
    columns = {
        "route": names,
        "host": hosts,
        "domain": domains,
        "apps": [", ".join(each) for each in apps.values()],
    }
    if where.is_all:
        columns |= {"space": spaces, "org": orgs}
    print_table(columns, empty="No routes found.", cut=["route", "host", "apps"])


@command(
    "map-route",
    usage=[_CHANGE_USAGE],
    examples=[
        "app-b apps.internal --hostname app-b",
        "app-b apps.internal --hostname app-b --wait served --timeout 10s",
    ],
    tip=[
        "Every instance of the app gets a certificate with the name, with no restart and no",
        "connection lost; then the name resolves.",
    ],
    see_also=["add-network-policy", "routes", "unmap-route"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@click.argument("domain", metavar="DOMAIN", type=kinds.NAME)
@click.option("--hostname", "-n", required=True, help="First label of the internal route")
@wait_options
@target_options
@output_option
@connection_options
def map_route(app_name: str, domain: str, *, hostname: str, wait: str, timeout: timedelta) -> None:
    """Map an internal route to an app."""
    where = target()
    route = f"{hostname}.{domain}"
    begin(f"Mapping route {named(route)} to app {named(app_name)} in {where}")
    awaited = Wait(wait, timeout)
    request = route_pb2.MapRouteRequest(
        app=app_name,
        space=where.space,
        org=where.org,
        hostname=hostname,
        domain=domain,
        wait=awaited.stage,
        timeout=awaited.timeout,
    )
    with connect() as client, waiting(f"until {route} is {wait}"):
        answer = client.change(
            route_pb2_grpc.RouteServiceStub(client.channel).MapRoute,
            request,
            where.command("routes", app_name),
            awaited.seconds,
        )
    if answer.already:
        tell(
            f"App '{answer.route.app}' is already mapped to route '{answer.route.route}'. "
            "Nothing has been updated."
        )
    _finish(answer, "the route is mapped", awaited)


@command(
    "unmap-route",
    usage=[_CHANGE_USAGE],
    examples=["app-b apps.internal --hostname app-b"],
    tip=["The name stops resolving to the app first; then its certificates lose it."],
    see_also=["map-route", "routes"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@click.argument("domain", metavar="DOMAIN", type=kinds.NAME)
@click.option("--hostname", "-n", required=True, help="First label of the internal route")
@wait_options
@target_options
@output_option
@connection_options
def unmap_route(
    app_name: str, domain: str, *, hostname: str, wait: str, timeout: timedelta
) -> None:
    """Remove an internal route from an app."""
    where = target()
    route = f"{hostname}.{domain}"
    begin(f"Removing route {named(route)} from app {named(app_name)} in {where}")
    awaited = Wait(wait, timeout)
    request = route_pb2.UnmapRouteRequest(
        app=app_name,
        space=where.space,
        org=where.org,
        hostname=hostname,
        domain=domain,
        wait=awaited.stage,
        timeout=awaited.timeout,
    )
    with connect() as client, waiting(f"until the certificates without {route} are {wait}"):
        answer = client.change(
            route_pb2_grpc.RouteServiceStub(client.channel).UnmapRoute,
            request,
            where.command("routes", app_name),
            awaited.seconds,
        )
    if answer.already:
        tell("Route to be unmapped is not currently mapped to the application.")
    _finish(answer, "the route is unmapped", awaited)


def _finish(
    answer: route_pb2.MapRouteResponse | route_pb2.UnmapRouteResponse,
    done: str,
    awaited: Wait,
) -> None:
    if wants_json():
        outcome = {
            "already": answer.already,
            "revision": answer.revision,
            "complete": answer.complete,
            "behind": [each.instance_guid for each in answer.behind],
        }
        print_records([{**record(answer.route), **outcome}])
    awaited.require_complete(answer, done)
    ok()
