"""``create-app``, ``update-app`` and ``delete-app``."""

from __future__ import annotations

import sys

import click

from control_plane.api.v1 import app_pb2, app_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.errors import Failed
from control_plane.cli.globals import connection_options, target, target_options
from control_plane.cli.name_completion import complete_app
from control_plane.cli.output import begin, named, ok, output_option, tell, wants_json
from control_plane.cli.tables import print_records, record
from control_plane.names import shown

_PORTS = "Port that the app listens on; for several, use commas or repeat the option"
_C2C_PORT = "Port of the app that 61443 leads to (Default: 8080 if it has that, else its first)"
_PROTOCOLS = click.Choice(["http1", "http2", "tcp"])
_HEALTH_CHECK_TYPES = click.Choice(["port", "process"])
_HEALTH_CHECK = (
    "What makes an instance healthy: port (its app accepts connections) or process (its app runs)"
)
_SYSTEMS = click.Choice(["linux", "windows"])


@command(
    "create-app",
    usage=[
        (
            "APP [-s SPACE] [-o ORG] [--port PORT]... [--protocol PROTOCOL] [--c2c-port PORT] "
            "[--ssh] [--os OS] [--health-check-type TYPE] [--guid GUID] [--output json]"
        )
    ],
    examples=[
        "app-b",
        "grpc-backend --protocol http2 --port 50051",
        "worker --health-check-type process",
    ],
    tip=[
        "If an app only calls others and listens on no port, give it --health-check-type process.",
        "Otherwise its instances never become ready.",
    ],
    see_also=["apps", "join-token", "map-route", "update-app"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME)
@click.option(
    "--port", "ports", type=kinds.APP_PORTS, multiple=True, help=f"{_PORTS} (Default: 8080)"
)
@click.option(
    "--protocol",
    type=_PROTOCOLS,
    help="Protocol that it speaks there: http1, http2 or tcp (Default: http1)",
)
@click.option("--c2c-port", type=kinds.APP_PORT, help=_C2C_PORT)
@click.option("--ssh", is_flag=True, help="An SSH server listens on 2222 beside the app")
@click.option(
    "--os",
    "system",
    type=_SYSTEMS,
    help="What its containers run: linux or windows (Default: linux)",
)
@click.option(
    "--health-check-type",
    "-u",
    type=_HEALTH_CHECK_TYPES,
    help=f"{_HEALTH_CHECK} (Default: port)",
)
@click.option("--guid", help="The app's GUID, if it has one already")
@target_options
@output_option
@connection_options
def create_app(  # noqa: PLR0913 - one argument an option
    app_name: str,
    *,
    ports: tuple[tuple[int, ...], ...],
    protocol: str | None,
    c2c_port: int | None,
    ssh: bool,
    system: str | None,
    health_check_type: str | None,
    guid: str | None,
) -> None:
    """Create an app."""
    where = target()
    begin(f"Creating app {named(app_name)} in {where}")
    request = app_pb2.CreateAppRequest(
        name=app_name,
        space=where.space,
        org=where.org,
        guid=guid or "",
        protocol=protocol or "",
        os=system or "",
        ports=_flat(ports),
        c2c_port=c2c_port or 0,
        ssh=ssh,
        health_check_type=health_check_type or "",
    )
    with connect() as client:
        answer = client.change(
            app_pb2_grpc.AppServiceStub(client.channel).CreateApp,
            request,
            where.command("app", app_name),
        )
    _check_known(health_check_type, answer.app)
    _finish(answer, f"App '{answer.app.name}' already exists. Nothing has been updated.")


@command(
    "update-app",
    usage=[
        (
            "APP [-s SPACE] [-o ORG] [--name NAME] [--port PORT]... [--protocol PROTOCOL] "
            "[--c2c-port PORT] [--ssh | --no-ssh] [--os OS] [--health-check-type TYPE] "
            "[--output json]"
        )
    ],
    examples=[
        "app-b --port 8080 --port 9090",
        "app-b --protocol http2",
        "worker --health-check-type process",
    ],
    tip=["The app's instances follow without a restart. What you do not name stays as it is."],
    see_also=["app", "create-app"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@click.option("--name", "new_name", help="A new name")
@click.option("--port", "ports", type=kinds.APP_PORTS, multiple=True, help=_PORTS)
@click.option(
    "--protocol", type=_PROTOCOLS, help="Protocol that it speaks there: http1, http2 or tcp"
)
@click.option("--c2c-port", type=kinds.APP_PORT, help=_C2C_PORT)
@click.option("--ssh/--no-ssh", default=None, help="Whether an SSH server listens on 2222")
@click.option("--os", "system", type=_SYSTEMS, help="What its containers run: linux or windows")
@click.option("--health-check-type", "-u", type=_HEALTH_CHECK_TYPES, help=_HEALTH_CHECK)
@target_options
@output_option
@connection_options
def update_app(  # noqa: PLR0913 - one argument an option
    app_name: str,
    *,
    new_name: str | None,
    ports: tuple[tuple[int, ...], ...],
    protocol: str | None,
    c2c_port: int | None,
    ssh: bool | None,
    system: str | None,
    health_check_type: str | None,
) -> None:
    """Change properties of an app."""
    where = target()
    begin(f"Updating app {named(app_name)} in {where}")
    request = app_pb2.UpdateAppRequest(
        app=app_name,
        space=where.space,
        org=where.org,
        ports=_flat(ports),
        c2c_port=c2c_port,
        protocol=protocol,
        os=system,
        ssh=ssh,
        health_check_type=health_check_type,
        name=new_name,
    )
    with connect() as client:
        answer = client.change(
            app_pb2_grpc.AppServiceStub(client.channel).UpdateApp,
            request,
            where.command("app", new_name or app_name),
        )
    _check_known(health_check_type, answer.app)
    _finish(answer, f"App '{answer.app.name}' is like that already. Nothing has been updated.")


@command(
    "delete-app",
    usage=["APP [-s SPACE] [-o ORG] [-f] [--output json]"],
    examples=["app-b", "app-b -f"],
    tip=[
        "Its instances lose their listeners and their identities; its routes, network policies",
        "and join tokens are deleted, too. At a terminal it asks first; elsewhere it needs -f.",
    ],
    see_also=["apps", "remove-instance", "unmap-route"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@click.option("-f", "force", is_flag=True, help="Do not ask for confirmation")
@target_options
@output_option
@connection_options
def delete_app(app_name: str, *, force: bool) -> None:
    """Delete an app and all that belongs to it."""
    where = target()
    if not force:
        _confirm(app_name)
    begin(f"Deleting app {named(app_name)} in {where}")
    with connect() as client:
        answer = client.change(
            app_pb2_grpc.AppServiceStub(client.channel).DeleteApp,
            app_pb2.DeleteAppRequest(app=app_name, space=where.space, org=where.org),
            where.command("app", app_name),
        )
    if wants_json():
        app = {"name": app_name, "space": where.space, "org": where.org}
        print_records([{**app, "already": answer.already, "revision": answer.revision}])
    if answer.already:
        tell(f"App {shown(app_name)} does not exist.")
    ok()


def _confirm(app_name: str) -> None:
    """Ask the user to confirm; an empty pipe does not count as a yes.

    Raises:
        Failed: there is no terminal to ask on.
        Abort: the answer is no.
    """
    # If the shell closed standard input (<&-), Python has none at all.
    if sys.stdin is None or not sys.stdin.isatty():
        raise Failed(
            f"nobody can be asked here whether to delete app {shown(app_name)}: add -f to delete "
            "it without a question"
        )
    if not click.confirm(f"Really delete the app {named(app_name)}?", err=wants_json()):
        tell("Delete cancelled")
        raise click.Abort


def _flat(ports: tuple[tuple[int, ...], ...]) -> list[int]:
    return [port for some in ports for port in some]


def _check_known(health_check_type: str | None, app: app_pb2.App) -> None:
    """Fail if the server ignored the type, as a server does that does not know health check types.

    Raises:
        Failed: it did; everything else was done as requested.
    """
    if health_check_type and not app.health_check_type:
        raise Failed(
            f"the server knows no health check types, it may be older: app {shown(app.name)} got "
            "everything that was asked for except its health check type"
        )


def _finish(answer: app_pb2.CreateAppResponse | app_pb2.UpdateAppResponse, already: str) -> None:
    if wants_json():
        print_records(
            [{**record(answer.app), "already": answer.already, "revision": answer.revision}]
        )
        return
    if answer.already:
        tell(already)
    ok()
