"""``demo``: the whole story on this machine."""

from __future__ import annotations

import click

from control_plane.cli.command import command, later


@command(
    "demo",
    usage=["[--keep]"],
    examples=["", "--keep"],
    tip=[
        "Starts a control plane and three real Envoys in a temporary directory, maps and unmaps",
        "routes while requests run, and shows what happened. Needs neither root nor Docker.",
    ],
    see_also=["serve", "map-route"],
)
@click.option("--keep", is_flag=True, help="Leave it running, and print commands to try")
def demo(*, keep: bool) -> None:
    """Show a certificate follow its routes on three real Envoys."""
    raise click.exceptions.Exit(later("control_plane.demo", "run")(keep=keep))
