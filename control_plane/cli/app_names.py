"""The apps to which a shell completes a name.

The rule of this module: the user is typing meanwhile, so this takes a moment at most, and prints
nothing, whatever is wrong.
"""

from __future__ import annotations

import time

import click
from click.shell_completion import CompletionItem

from control_plane.api.v1 import app_pb2, app_pb2_grpc
from control_plane.cli.client import connect
from control_plane.cli.errors import Failed
from control_plane.cli.globals import target
from control_plane.errors import ControlPlaneError

PATIENCE_SECONDS = 1.0
"""How long a server may take to answer, and for each step before that."""


def complete_app(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the apps of the target space whose names begin like this."""
    try:
        with ctx.scope(cleanup=False), connect(PATIENCE_SECONDS) as client:
            where = target()
            hasty = client._replace(until=time.monotonic() + PATIENCE_SECONDS)
            found = hasty.call(
                app_pb2_grpc.AppServiceStub(client.channel).ListApps,
                app_pb2.ListAppsRequest(space=where.space, org=where.org),
            )
    except (click.ClickException, Failed, ControlPlaneError):
        return []
    return [CompletionItem(each.name) for each in found.apps if each.name.startswith(incomplete)]
