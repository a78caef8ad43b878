"""``bootstrap``: the file that an instance's Envoy starts with.

The rule of this module: what is printed is what the server says of itself, unless the user says
otherwise. If a file that Envoy needs besides is missing, the user is told so; nothing is made up.
"""

from __future__ import annotations

from pathlib import Path

import click

from control_plane.api.v1 import trust_pb2, trust_pb2_grpc
from control_plane.ca.spiffe import TrustDomain, spiffe_id
from control_plane.cli import kinds
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.errors import Failed
from control_plane.cli.globals import connection_options, target_options
from control_plane.cli.instance_name import require_instance
from control_plane.cli.name_completion import complete_instance
from control_plane.cli.output import warn
from control_plane.cli.streams import require_output
from control_plane.envoy.bootstrap import XdsIdentity, render
from control_plane.names import shown
from control_plane.settings import SocketAddress
from control_plane.settings.conflicts import MAX_SOCKET_PATH_OCTETS
from control_plane.settings.values import read_server_address


@command(
    "bootstrap",
    usage=["INSTANCE [-s SPACE] [-o ORG] [--xds-server HOST:PORT] [--dir DIR]"],
    examples=["app-b/0 --dir /etc/envoy > envoy.yaml", "3f1d1a52-8c6e-4a4b-9b0e-0f9a53c3f5a1"],
    tip=[
        "INSTANCE is a GUID, or an app and an index. Envoy starts only if DIR has two files:",
        "identity.json, with the certificate and key that prove the instance, and trust.json, with",
        "the CA certificates by which Envoy verifies the control plane. 'c2c sidecar' makes these",
        "files and starts Envoy by itself. docs/deploy.md says how to make them for an instance",
        "that was registered.",
    ],
    see_also=["instances", "register-instance", "sidecar"],
)
@click.argument("instance", metavar="INSTANCE", type=kinds.NAME, shell_complete=complete_instance)
@click.option(
    "--xds-server",
    type=kinds.SERVER,
    help="Where Envoy finds the control plane (Default: what the server says)",
)
@click.option(
    "--dir",
    "directory",
    type=kinds.DIRECTORY,
    default=".",
    help="Where Envoy finds its identity, and puts its admin socket (Default: .)",
)
@target_options
@connection_options
def bootstrap(instance: str, *, xds_server: SocketAddress | None, directory: Path) -> None:
    """Print the bootstrap configuration of an instance's Envoy."""
    admin_socket = _admin_socket(directory)
    require_output()
    with connect() as client:
        found = require_instance(client, instance)
        trust = client.call(
            trust_pb2_grpc.TrustServiceStub(client.channel).GetTrustBundle,
            trust_pb2.GetTrustBundleRequest(),
        )
    server = xds_server or _server_named(trust.xds_server)
    identity = XdsIdentity(
        identity_file=directory / "identity.json",
        trust_file=directory / "trust.json",
        server_uri=spiffe_id(TrustDomain(trust.trust_domain), "control-plane"),
    )
    text = render(
        found.guid,
        xds_address=server.host,
        xds_port=server.port,
        admin_socket=admin_socket,
        tls=identity,
    )
    click.echo(text, nl=False)
    missing = [str(each) for each in (identity.identity_file, identity.trust_file) if _lacks(each)]
    if missing:
        warn(
            f"Envoy does not start before {' and '.join(missing)} "
            f"{'exist' if missing[1:] else 'exists'}: see 'c2c help bootstrap'"
        )


def _admin_socket(directory: Path) -> Path:
    """Return where Envoy puts its admin socket; it would not start if it could not."""
    path = directory / "admin.sock"
    octets = len(bytes(path))
    if octets > MAX_SOCKET_PATH_OCTETS:
        raise click.UsageError(
            f"--dir: Envoy's admin socket would have a path of {octets} octets and may have "
            f"{MAX_SOCKET_PATH_OCTETS}: {shown(str(directory))}"
        )
    return path


def _server_named(text: str) -> SocketAddress:
    """Return the address at which Envoys find the server, as it says itself."""
    say = "use --xds-server to say where Envoy finds the control plane"
    if not text:
        raise Failed(f"the server does not tell its xDS port, it may be older: {say}")
    server = read_server_address(text)
    if server.is_every:
        raise Failed(
            f"no Envoy can connect to {server}, where the server listens: {say}, or start the "
            "server with --server-name"
        )
    return server


def _lacks(path: Path) -> bool:
    try:
        return not path.exists()
    except OSError:  # no permission to look, so it may exist
        return False
