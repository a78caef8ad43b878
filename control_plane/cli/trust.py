"""``trust-bundle`` and join tokens: how server and clients come to trust each other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import click

from control_plane.api.v1 import join_token_pb2, join_token_pb2_grpc, trust_pb2, trust_pb2_grpc
from control_plane.cli import kinds
from control_plane.cli.about_app import about_app
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.errors import Failed
from control_plane.cli.globals import all_option, connection_options, target, target_options
from control_plane.cli.inspect_moments import ago, ahead
from control_plane.cli.name_completion import complete_app
from control_plane.cli.output import begin, named, ok, output_option, tell, wants_json, warn
from control_plane.cli.progress import duration_of
from control_plane.cli.streams import require_output
from control_plane.cli.tables import print_fields, print_records, print_table, record, spaces_of
from control_plane.settings import UNKNOWN_HOST


@command(
    "trust-bundle",
    usage=["[--output json]"],
    examples=["", "> ca.pem"],
    tip=["Clients that verify app instances need it: curl --cacert ca.pem https://..."],
    see_also=["issue-operator-cert", "join-token"],
)
@output_option
@connection_options
def trust_bundle() -> None:
    """Print the CA certificates that clients have to trust."""
    require_output()
    with connect() as client:
        answer = client.call(
            trust_pb2_grpc.TrustServiceStub(client.channel).GetTrustBundle,
            trust_pb2.GetTrustBundleRequest(),
        )
    if wants_json():
        print_records([record(answer)])
        return
    click.echo(answer.trust_bundle, nl=False)


@command(
    "join-token",
    usage=[
        (
            "APP [--ttl DURATION] [--uses NUMBER] [--address-range CIDR] [-s SPACE] [-o ORG] "
            "[--output json]"
        )
    ],
    examples=["app-b", "app-b --ttl 1h --uses 10 --address-range 10.255.0.0/16 --output json"],
    tip=["The token is shown only this once. Whoever has it can enrol as an instance of the app."],
    see_also=["instances", "join-tokens", "revoke-join-tokens", "sidecar", "trust-bundle"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@click.option(
    "--ttl", type=kinds.TOKEN_TIME, default="10m", help="How long it is valid (Default: 10m)"
)
@click.option(
    "--uses",
    type=kinds.NUMBER,
    default="1",
    help="How many instances can enrol with it (Default: 1)",
)
@click.option(
    "--address-range",
    help="Addresses that they may have besides the one that they connect from, in CIDR notation "
    "(Default: none)",
)
@target_options
@output_option
@connection_options
def join_token(app_name: str, *, ttl: timedelta, uses: int, address_range: str | None) -> None:
    """Create a token with which an instance can enrol."""
    where = target()
    begin(f"Creating join token for app {named(app_name)} in {where}")
    require_output()
    request = join_token_pb2.CreateJoinTokenRequest(
        app=app_name,
        space=where.space,
        org=where.org,
        ttl=duration_of(ttl),
        uses=uses,
        address_range=address_range or "",
    )
    with connect() as client:
        stub = join_token_pb2_grpc.JoinTokenServiceStub(client.channel)
        made = client.change(stub.CreateJoinToken, request, None)
        try:
            _show(made, address_range)
            sys.stdout.flush()
        except OSError:
            # Nobody has the token, so it should not remain good for whoever finds it. (Without a
            # GUID, from an older server, all tokens of the app would be revoked.)
            if made.guid:
                revocation = join_token_pb2.RevokeJoinTokensRequest(
                    app=app_name, space=where.space, org=where.org, guid=made.guid
                )
                with suppress(Failed):  # then it ends by itself
                    client.change(stub.RevokeJoinTokens, revocation, None)
            raise


def _show(made: join_token_pb2.CreateJoinTokenResponse, address_range: str | None) -> None:
    if made.server.startswith(f"{UNKNOWN_HOST}:"):
        warn(
            f"{UNKNOWN_HOST} stands for a name or an address of the server: start 'c2c serve' "
            "with --server-name, and it is printed here"
        )
    if wants_json():
        print_records([record(made)])
        return
    ok()
    fields = record(made) | {"expires_at": f"{made.expires_at.ToDatetime():%Y-%m-%dT%H:%M:%SZ}"}
    print_fields({name.replace("_", " "): value for name, value in fields.items()})
    tell("")
    address = "auto"
    if address_range:
        # Clients that connect from one address cannot all have that address.
        address = "IP"
        tell(f"TIP: Next to an instance of the app, with an IP of {address_range}, run")
    else:
        tell("TIP: Next to an instance of the app, run")
    tell(
        f"   c2c sidecar --server {made.server} --token {made.token} "
        f"--fingerprint {made.fingerprint} --address {address}"
    )


@command(
    "join-tokens",
    usage=["[APP | --all] [-s SPACE] [-o ORG] [--output json]"],
    examples=["", "app-b", "--all --output json"],
    tip=[
        "Tokens that have expired or are used up are not listed. A GUID names a token, but nobody",
        "can enrol with it: only 'c2c join-token' shows the token itself.",
    ],
    see_also=["join-token", "revoke-join-tokens"],
)
@about_app()
@target_options
@all_option
@output_option
@connection_options
def join_tokens(app_name: str | None) -> None:
    """List the join tokens that can still be used."""
    where = target()
    begin(where.listing("Getting", "join tokens", app_name))
    request = join_token_pb2.ListJoinTokensRequest(
        app=app_name or "", space=where.space, org=where.org, in_space=not where.is_all
    )
    with connect() as client:
        found = client.call(
            join_token_pb2_grpc.JoinTokenServiceStub(client.channel).ListJoinTokens, request
        ).tokens
    if wants_json():
        print_records([record(each) for each in found])
        return
    now = datetime.now(UTC)
    columns: dict[str, Sequence[object]] = {
        "app": [each.app for each in found],
        "created": [
            f"{ago(each.created_at, now)} ago" if each.HasField("created_at") else "-"
            for each in found
        ],
        "expires": [ahead(each.expires_at, now) for each in found],
        "uses left": [
            f"{each.uses_left} of {each.uses}" if each.HasField("uses") else each.uses_left
            for each in found
        ],
        "address range": [each.address_range or "-" for each in found],
        **(spaces_of(found) if where.is_all else {}),
        # Never cut, because users pass it to 'c2c revoke-join-tokens'.
        "guid": [each.guid for each in found],
    }
    print_table(columns, empty="No join tokens found.", below="guid")


@command(
    "revoke-join-tokens",
    usage=["APP [--guid GUID] [-s SPACE] [-o ORG] [--output json]"],
    examples=["app-b", "app-b --guid 3f1d1a52-8c6e-4a4b-9b0e-0f9a53c3f5a1"],
    tip=[
        "Nobody can enrol any more with any token of the app, or with the one that --guid names.",
        "Instances that have enrolled already stay.",
    ],
    see_also=["join-token", "join-tokens", "remove-instance"],
)
@click.argument("app_name", metavar="APP", type=kinds.NAME, shell_complete=complete_app)
@click.option(
    "--guid", type=kinds.NAME, help="Revoke only this token, see 'c2c join-tokens' (Default: all)"
)
@target_options
@output_option
@connection_options
def revoke_join_tokens(app_name: str, *, guid: str | None) -> None:
    """Make the join tokens of an app worthless."""
    where = target()
    what = f"join token {named(guid)}" if guid else "join tokens"
    begin(f"Revoking {what} of app {named(app_name)} in {where}")
    request = join_token_pb2.RevokeJoinTokensRequest(
        app=app_name, space=where.space, org=where.org, guid=guid or ""
    )
    shows = where.command("join-tokens", app_name)
    with connect() as client:
        stub = join_token_pb2_grpc.JoinTokenServiceStub(client.channel)
        answer = client.change(stub.RevokeJoinTokens, request, shows)
    if wants_json():
        outcome = {"already": not answer.revoked, "revision": answer.revision}
        print_records([{"revoked": answer.revoked, **outcome}])
        return
    if answer.revoked:
        tell(f"Join tokens revoked: {answer.revoked}")
    elif guid:
        tell(f"No join token of the app that could be used has this GUID: see '{shows}'.")
    else:
        tell("No join token of the app could be used.")
    ok()
