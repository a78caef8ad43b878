"""What a shell completes the name of an app to.

The rule of this module: a person types while it looks, so it takes a moment at the most, and says
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
"""How long a server may take to answer."""


def complete_app(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the apps of the target space whose names begin so."""
    try:
        with ctx.scope(cleanup=False), connect() as client:
            where = target()
            hasty = client._replace(until=time.monotonic() + PATIENCE_SECONDS)
            found = hasty.call(
                app_pb2_grpc.AppServiceStub(client.channel).ListApps,
                app_pb2.ListAppsRequest(space=where.space, org=where.org),
            )
    except (click.ClickException, Failed, ControlPlaneError):
        return []
    return [CompletionItem(each.name) for each in found.apps if each.name.startswith(incomplete)]
