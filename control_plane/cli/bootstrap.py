"""``bootstrap``: what an instance's Envoy starts with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from control_plane.api.v1 import trust_pb2, trust_pb2_grpc
from control_plane.ca.spiffe import TrustDomain, spiffe_id
from control_plane.cli import kinds
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.errors import Failed
from control_plane.cli.globals import connection, connection_options, target_options
from control_plane.cli.instance_name import find_instance
from control_plane.envoy.bootstrap import XdsIdentity, render
from control_plane.settings import SocketAddress, load_settings

_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - what no client can connect to


@command(
    "bootstrap",
    usage=["INSTANCE [-s SPACE] [-o ORG] [--xds-server HOST:PORT] [--dir DIR]"],
    examples=["app-b/0 --dir /etc/envoy > envoy.yaml", "3f1d1a52-8c6e-4a4b-9b0e-0f9a53c3f5a1"],
    tip=[
        "INSTANCE is a GUID, or an app and an index. Envoy also needs identity.json and",
        "trust.json in DIR; 'c2c sidecar' makes all of them and starts Envoy.",
    ],
    see_also=["instances", "register-instance", "sidecar"],
)
@click.argument("instance", metavar="INSTANCE")
@click.option(
    "--xds-server",
    type=kinds.SERVER,
    help="Where Envoy finds the control plane (Default: as C2C_XDS_ADDRESS or the file says)",
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
    """Print what an instance's Envoy starts with."""
    server = xds_server or _configured_server()
    with connect() as client:
        found = find_instance(client, instance)
        if found is None:
            raise Failed(f"instance '{instance}' not found: 'c2c instances --all' lists them")
        trust = client.call(
            trust_pb2_grpc.TrustServiceStub(client.channel).GetTrustBundle,
            trust_pb2.GetTrustBundleRequest(),
        )
    text = render(
        found.guid,
        xds_address=server.host,
        xds_port=server.port,
        admin_socket=directory / "admin.sock",
        tls=XdsIdentity(
            identity_file=directory / "identity.json",
            trust_file=directory / "trust.json",
            server_uri=spiffe_id(TrustDomain(trust.trust_domain), "control-plane"),
        ),
    )
    click.echo(text, nl=False)


def _configured_server() -> SocketAddress:
    said = connection()
    settings = load_settings(
        {"data_dir": said.data_dir, "config": said.config}, os.environ
    ).settings
    server = settings.xds_address
    if server.host in _UNSPECIFIED or server.port == 0:
        raise Failed(
            f"no Envoy can connect to xds_address {server}: say with --xds-server where it finds "
            "the control plane"
        )
    return server
