"""``ca list``, ``ca prepare``, ``ca activate`` and ``ca retire``: one CA replaces another.

The rule of this module: the server refuses a step as long as an instance is not ready for it, and
names that instance. ``--wait`` waits until all instances are ready, and shows on a terminal which
ones are not; ``--undo`` takes a step back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import click

from control_plane.api.v1 import certificate_authority_pb2 as messages
from control_plane.cli import kinds
from control_plane.cli.authority_progress import (
    Authorities,
    finish,
    listed,
    show_authorities,
    stub,
    until_ready,
    until_unused,
)
from control_plane.cli.client import connect
from control_plane.cli.command import command
from control_plane.cli.globals import connection, connection_options, pasted
from control_plane.cli.output import begin, output_option, warn
from control_plane.cli.progress import needing_wait
from control_plane.settings.paths import read_path

_Function = Callable[..., object]


@command(
    "ca list",
    usage=["[--output json]"],
    examples=["", "--output json"],
    tip=[
        "The active CA signs. A prepared CA is trusted already, and is to sign next. A retiring CA",
        "signed before, and is still trusted. Live certificates are those that the CA signed and",
        "that may be in use.",
    ],
    see_also=["ca prepare", "ca activate", "ca retire", "trust-bundle"],
)
@output_option
@connection_options
def ca_list() -> None:
    """List the CA that signs, and the one that follows or came before."""
    begin("Getting CAs")
    with connect() as client:
        found = listed(client)
    show_authorities(found)


def _wait_options(what: str) -> Callable[[_Function], _Function]:
    """Return a decorator that gives a command ``--wait`` and ``--timeout``.

    Args:
        what: what ``--wait`` does, for the help.
    """

    def give(function: _Function) -> _Function:
        timeout = click.option(
            "--timeout",
            type=kinds.WAIT_TIME,
            default="5m",
            help="How long to wait at the most (Default: 5m)",
        )
        wait = click.option("--wait", "is_waiting", is_flag=True, help=what)
        return wait(timeout(needing_wait("is_waiting", function)))

    return give


_force_option = click.option(
    "--force",
    is_flag=True,
    help="Take the step even if not everybody is ready for it; with --wait, once --timeout is over",
)


@command(
    "ca prepare",
    usage=[
        (
            "[--ca-cert FILE --ca-key FILE [--allow-uncrossed]] [--wait] [--timeout DURATION] "
            "[--output json]"
        ),
        "--undo [--force] [--wait] [--timeout DURATION] [--output json]",
    ],
    examples=["--wait", "--ca-cert /etc/c2c/new.pem --ca-key /etc/c2c/new.key", "--undo"],
    tip=[
        "From then on everybody trusts both CAs, but nothing is signed with the new one yet. The",
        "server reads and copies the files on its own machine, where nobody else may be able to",
        "read the key.",
    ],
    see_also=["ca activate", "ca list"],
)
@click.option(
    "--ca-cert",
    help="Certificate of your own CA, and those above it up to the root, PEM (Default: a new CA)",
)
@click.option("--ca-key", help="Its private key, PEM")
@click.option(
    "--allow-uncrossed",
    is_flag=True,
    help="Go ahead even if the active CA cannot cross-sign it, so that programs fail that read "
    "their trust bundle only once",
)
@click.option("--undo", is_flag=True, help="Forget the prepared CA")
@_force_option
@_wait_options(
    "Afterwards wait until every instance trusts it; with --undo, first wait until nothing that it "
    "signed is in use"
)
@output_option
@connection_options
def ca_prepare(
    *,
    ca_cert: str | None,
    ca_key: str | None,
    allow_uncrossed: bool,
    undo: bool,
    force: bool,
    is_waiting: bool,
    timeout: timedelta,
) -> None:
    """Have another CA trusted everywhere."""
    if undo:
        _refuse_beside("--undo", {"--ca-cert": ca_cert, "--ca-key": ca_key})
        _undo_prepare(force=force, timeout=timeout if is_waiting else None)
        return
    if bool(ca_cert) != bool(ca_key):
        raise click.UsageError("--ca-cert and --ca-key must be used together")
    _refuse_beside("a new CA", {"--force": force})
    request = messages.PrepareCertificateAuthorityRequest(
        ca_cert=_on_the_server(ca_cert),
        ca_key=_on_the_server(ca_key),
        allow_uncrossed=allow_uncrossed,
    )
    begin("Preparing a CA")
    with connect() as client:
        found: Authorities = client.change(
            stub(client).PrepareCertificateAuthority, request, _shown_by()
        ).authorities
        if is_waiting:
            try:
                found = until_ready(client, timeout, "the CA is prepared, but ")
            except KeyboardInterrupt:
                shows = f"'{_shown_by()}' shows for whom it was waited"
                warn(f"Interrupted: the CA is prepared, and {shows}")
                raise
    finish(
        found,
        f"Nothing is signed with it yet. When everybody trusts it: {pasted('c2c ca activate')}",
    )


def _undo_prepare(*, force: bool, timeout: timedelta | None) -> None:
    begin("Forgetting the prepared CA")
    with connect() as client:
        if timeout is not None:
            until_unused(client, timeout)
        found = client.change(
            stub(client).UndoPrepareCertificateAuthority,
            messages.UndoPrepareCertificateAuthorityRequest(force=force),
            _shown_by(),
        ).authorities
    finish(found, "")


@command(
    "ca activate",
    usage=[
        "[--wait] [--timeout DURATION] [--force] [--output json]",
        "--undo [--force] [--output json]",
    ],
    examples=["--wait", "--undo"],
    tip=[
        "Every certificate is issued anew within a minute or so. Clients that trust either CA can",
        "verify the new certificates. The command is refused until the sidecar of every live",
        "instance has reported that it trusts the new CA.",
    ],
    see_also=["ca list", "ca prepare", "ca retire"],
)
@click.option("--undo", is_flag=True, help="Have the CA sign again that signed before")
@_force_option
@_wait_options("First wait until every instance trusts the prepared CA")
@output_option
@connection_options
def ca_activate(*, undo: bool, force: bool, is_waiting: bool, timeout: timedelta) -> None:
    """Have the prepared CA sign."""
    if undo:
        _refuse_beside("--undo", {"--wait": is_waiting})
        begin("Going back to the CA that signed before")
        with connect() as client:
            found = client.change(
                stub(client).UndoActivateCertificateAuthority,
                messages.UndoActivateCertificateAuthorityRequest(force=force),
                _shown_by(),
            ).authorities
        finish(
            found,
            f"The other is trusted as before. To forget it: {pasted('c2c ca prepare --undo')}",
        )
        return
    begin("Activating the prepared CA")
    with connect() as client:
        if is_waiting:
            until_ready(client, timeout, force=force)
        found = client.change(
            stub(client).ActivateCertificateAuthority,
            messages.ActivateCertificateAuthorityRequest(force=force),
            _shown_by(),
        ).authorities
    finish(found, f"When nothing of the old CA is in use any more: {pasted('c2c ca retire')}")


@command(
    "ca retire",
    usage=["[--wait] [--timeout DURATION] [--force] [--output json]"],
    examples=["--wait --timeout 1h"],
    tip=[
        "There is no way back: the key of the old CA is destroyed, and nobody trusts it any more.",
        "Programs that read their trust bundle before 'ca prepare' have to be restarted first.",
    ],
    see_also=["ca activate", "ca list"],
)
@_force_option
@_wait_options("First wait until nothing that the old CA signed is in use")
@output_option
@connection_options
def ca_retire(*, force: bool, is_waiting: bool, timeout: timedelta) -> None:
    """Forget the CA that signed before."""
    begin("Retiring the old CA")
    with connect() as client:
        if is_waiting:
            until_ready(client, timeout, force=force)
        found = client.change(
            stub(client).RetireCertificateAuthority,
            messages.RetireCertificateAuthorityRequest(force=force),
            _shown_by(),
        ).authorities
    finish(found, "")


def _shown_by() -> str:
    """Return the command that shows whether a step was taken."""
    return pasted("c2c ca list")


def _on_the_server(path: str | None) -> str:
    """Return a path as the server can use it: with its socket, the server is on this machine."""
    if path is None or connection().server is not None:
        return path or ""
    return str(read_path(path))


def _refuse_beside(what: str, options: dict[str, object]) -> None:
    for flag, value in options.items():
        if value:
            raise click.UsageError(f"{flag} cannot be used with {what}")
