"""``operator-certs`` and ``revoke-operator-cert``: who may use the operator's port, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import click

from control_plane.api.v1 import operator_pb2, operator_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.globals import connection_options, pasted
from control_plane.cli.inspect_moments import ago, ahead
from control_plane.cli.name_completion import complete_operator
from control_plane.cli.output import begin, named, ok, output_option, tell, wants_json, warn
from control_plane.cli.tables import print_records, print_table, record


@command(
    "operator-certs",
    usage=["[--output json]"],
    examples=["", "--output json"],
    tip=[
        "Certificates are listed until they expire, also those that were revoked. Those that an",
        "older release issued, or that were issued after the backup from which the database was",
        "restored, are not listed. 'c2c revoke-operator-cert --serial' revokes these too.",
    ],
    see_also=["issue-operator-cert", "revoke-operator-cert"],
)
@output_option
@connection_options
def operator_certs() -> None:
    """List the certificates for the operator's port."""
    begin("Getting operator certificates")
    with connect() as client:
        found = client.call(
            operator_pb2_grpc.OperatorServiceStub(client.channel).ListOperatorCertificates,
            operator_pb2.ListOperatorCertificatesRequest(),
        ).certificates
    if wants_json():
        print_records([record(each) for each in found])
        return
    _print(found)


@command(
    "revoke-operator-cert",
    usage=["(NAME | --serial SERIAL) [--output json]"],
    examples=["alice", "--serial 3f1d1a528c6e4a4b9b0e0f9a53c3f5a1"],
    tip=[
        "The certificates of NAME, or the one with this serial, are worth nothing from then on.",
        "So is every certificate that was issued at the request of one of them.",
    ],
    see_also=["issue-operator-cert", "operator-certs"],
)
@click.argument(
    "name", metavar="NAME", required=False, type=kinds.NAME, shell_complete=complete_operator
)
@click.option(
    "--serial",
    type=kinds.NAME,
    help="Revoke only this certificate, see 'c2c operator-certs' (Default: all of NAME)",
)
@output_option
@connection_options
def revoke_operator_cert(name: str | None, *, serial: str | None) -> None:
    """Make certificates for the operator's port worthless."""
    if name and serial:
        raise click.UsageError("NAME and --serial cannot be used together")
    if not (name or serial):
        raise click.UsageError("either NAME or --serial is needed")
    what = f"certificate {named(serial)}" if serial else f"certificates of {named(name or '')}"
    begin(f"Revoking operator {what}")
    request = operator_pb2.RevokeOperatorCertificatesRequest(name=name or "", serial=serial or "")
    shows = pasted("c2c operator-certs")
    with connect() as client:
        stub = operator_pb2_grpc.OperatorServiceStub(client.channel)
        answer = client.change(stub.RevokeOperatorCertificates, request, shows)
    if any(not each.name for each in answer.revoked):
        warn(
            "The control plane knows no certificate with this serial, and will refuse it if "
            "somebody shows one"
        )
    if wants_json():
        outcome = {"already": not answer.revoked, "revision": answer.revision}
        # As its siblings do, the command prints an object even if it found nothing to revoke.
        asked = operator_pb2.OperatorCertificate(name=name or "", serial=serial or "")
        print_records([{**record(each), **outcome} for each in answer.revoked or [asked]])
        return
    if not answer.revoked:
        tell(f"No such certificate was valid: see '{shows}'.")
    ok()
    if answer.revoked:
        _print(answer.revoked)


def _print(found: Sequence[operator_pb2.OperatorCertificate]) -> None:
    now = datetime.now(UTC)
    columns: dict[str, Sequence[object]] = {
        "name": [each.name or "-" for each in found],
        "issued": [
            f"{ago(each.issued_at, now)} ago" if each.HasField("issued_at") else "-"
            for each in found
        ],
        "asked for by": [_asked_by(each) for each in found],
        "expires": [ahead(each.expires_at, now) for each in found],
        "revoked": [
            f"{ago(each.revoked_at, now)} ago" if each.HasField("revoked_at") else "no"
            for each in found
        ],
        # Never cut, because users pass it to 'c2c revoke-operator-cert'.
        "serial": [each.serial for each in found],
    }
    print_table(columns, empty="No operator certificates found.", below="serial")


def _asked_by(certificate: operator_pb2.OperatorCertificate) -> str:
    if not certificate.HasField("issued_at"):
        return "-"
    return certificate.issued_by or certificate.issued_by_serial or "local"
