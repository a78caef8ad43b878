"""The names to which a shell completes a word: those of apps, instances and operators.

The rule of this module: the user is typing meanwhile, so this takes a moment at most, and prints
nothing, whatever is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    instance_pb2,
    instance_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)
from control_plane.cli.client import Client, connect
from control_plane.cli.errors import Failed
from control_plane.cli.globals import target
from control_plane.cli.instance_name import name_of
from control_plane.errors import ControlPlaneError

PATIENCE_SECONDS = 1.0
"""How long a server may take to answer, and for each step before that."""

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete_app(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the apps of the target space whose names begin like this."""
    return _completed(ctx, _apps, incomplete)


def complete_instance(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the instances of the target space whose names, app and index, begin like this."""
    app = incomplete.rpartition("/")[0]
    return _completed(ctx, lambda client: _instances(client, app), incomplete)


def complete_app_or_instance(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return apps, or instances if an app and a slash are typed already."""
    complete = complete_instance if "/" in incomplete else complete_app
    return complete(ctx, parameter, incomplete)


def complete_operator(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the operators with a certificate to revoke, if their names begin like this."""
    return _completed(ctx, _operators, incomplete)


def _completed(
    ctx: click.Context, ask: Callable[[Client], Iterable[str]], incomplete: str
) -> list[CompletionItem]:
    try:
        with ctx.scope(cleanup=False), connect(PATIENCE_SECONDS) as client:
            found = ask(client._replace(until=time.monotonic() + PATIENCE_SECONDS))
    except (click.ClickException, Failed, ControlPlaneError):
        return []
    return [CompletionItem(each) for each in found if each.startswith(incomplete)]


def _apps(client: Client) -> list[str]:
    where = target()
    answer = client.call(
        app_pb2_grpc.AppServiceStub(client.channel).ListApps,
        app_pb2.ListAppsRequest(space=where.space, org=where.org),
    )
    return [each.name for each in answer.apps]


def _instances(client: Client, app: str) -> list[str]:
    where = target()
    request = instance_pb2.ListInstancesRequest(
        app=app, space=where.space, org=where.org, in_space=True
    )
    stub = instance_pb2_grpc.InstanceServiceStub(client.channel)
    return [name_of(each) for each in client.call(stub.ListInstances, request).instances]


def _operators(client: Client) -> Iterable[str]:
    stub = operator_pb2_grpc.OperatorServiceStub(client.channel)
    request = operator_pb2.ListOperatorCertificatesRequest()
    found = client.call(stub.ListOperatorCertificates, request).certificates
    valid = (each.name for each in found if each.name and not each.HasField("revoked_at"))
    return dict.fromkeys(valid)
