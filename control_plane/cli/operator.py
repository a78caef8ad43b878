"""``issue-operator-cert``: permission to use the operator's port from another machine.

The rule of this module: the private key is made here and never sent. Only its owner can read its
file, and no existing file is replaced unless the user asks for it; on a full disk, none is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import click

from control_plane.api.v1 import operator_pb2, operator_pb2_grpc
from control_plane.ca import make_csr, new_key_pair
from control_plane.cli import kinds
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.errors import Failed
from control_plane.cli.globals import connection_options
from control_plane.cli.output import begin, named, ok, output_option, tell, wants_json
from control_plane.cli.progress import duration_of
from control_plane.cli.tables import print_fields, print_records
from control_plane.names import shown
from control_plane.store.files import write_together


@command(
    "issue-operator-cert",
    usage=["NAME [--ttl DURATION] [--dir DIR] [-f] [--output json]"],
    examples=["alice", "alice --ttl 8h --dir ~/.c2c"],
    tip=[
        "Writes NAME.pem, NAME.key and NAME-ca.pem, for a server with --admin-address. Whoever has",
        "the key can do all that c2c can do.",
    ],
    see_also=["operator-certs", "revoke-operator-cert", "serve", "trust-bundle"],
)
@click.argument("name", metavar="NAME", type=kinds.NAME)
@click.option(
    "--ttl", type=kinds.OPERATOR_TIME, default="30d", help="How long it is valid (Default: 30d)"
)
@click.option(
    "--dir",
    "directory",
    type=kinds.DIRECTORY,
    default=".",
    help="Where to put the files (Default: .)",
)
@click.option("-f", "force", is_flag=True, help="Replace files that exist")
@output_option
@connection_options
def issue_operator_cert(name: str, *, ttl: timedelta, directory: Path, force: bool) -> None:
    """Issue a certificate for the operator's port."""
    if Path(name).name != name:
        raise click.UsageError(f"NAME must not have a '/', it names files: {shown(name)}")
    files = {
        "cert": directory / f"{name}.pem",
        "key": directory / f"{name}.key",
        "ca": directory / f"{name}-ca.pem",
    }
    begin(f"Issuing operator certificate for {named(name)}")
    existing = [str(path) for path in files.values() if os.path.lexists(path)]
    if existing and not force:
        exist, them = ("exists", "it") if len(existing) == 1 else ("exist", "them")
        raise Failed(f"{', '.join(existing)} {exist}: add -f to replace {them}")
    key = new_key_pair()
    request = operator_pb2.IssueOperatorCertificateRequest(
        name=name, csr=make_csr(key), ttl=duration_of(ttl)
    )
    with _directory(directory), connect() as client:
        answer = client.change(
            operator_pb2_grpc.OperatorServiceStub(client.channel).IssueOperatorCertificate,
            request,
            None,
        )
    # This replaces even a link or another user's file of that name.
    write_together(
        (files["key"], key.private_pem()),
        (files["cert"], answer.certificate),
        (files["ca"], answer.trust_bundle.encode()),
    )
    written = {what: str(path) for what, path in files.items()}
    if wants_json():
        print_records([{"name": name, **written}])
        return
    ok()
    print_fields(written)
    tell("")
    tell("TIP: From another machine, with these files, run")
    tell(f"   c2c --server HOST:PORT --cert {name}.pem --key {name}.key --ca {name}-ca.pem apps")


@contextmanager
def _directory(path: Path) -> Iterator[None]:
    """Make sure of a directory before it is needed; if the command fails, remove a new one."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
        raise
