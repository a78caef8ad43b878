"""``serve`` and ``check``: the control plane itself.

The rule of this module: every setting is an option of both commands, derived from the setting's
only description, so no option can be forgotten and no help text can be wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

import click
import structlog

from control_plane import log_events
from control_plane.ca import NOT_STRICT, Authority, strict_problem
from control_plane.cli.command import command
from control_plane.cli.globals import DEFAULT_DATA_DIR, VARIABLES, connection
from control_plane.cli.misspelt import misspelt
from control_plane.cli.output import begin, may_color, ok, output_option, wants_json, warn
from control_plane.cli.tables import cell, print_records, print_table
from control_plane.clock import SystemClock
from control_plane.errors import ConfigurationError
from control_plane.event_loop import run
from control_plane.logs import configure_logging
from control_plane.settings import (
    Loaded,
    Setting,
    Settings,
    all_settings,
    cautions,
    load_settings,
)
from control_plane.settings.own_authority import read_named, read_router_ca
from control_plane.settings.retired import why_not_used
from control_plane.settings.values import format_duration

Function = TypeVar("Function", bound=Callable[..., object])

_TIP = [
    "Each option is also a variable (--xds-address: C2C_XDS_ADDRESS) and a key of the TOML file",
    "(xds_address); options win over variables, variables over the file.",
]


def _text(value: object) -> str:
    """Return a value as it is written in a setting."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case timedelta():
            return format_duration(value)
        case tuple():
            return ",".join(map(str, value))
        case _:
            return cell(value)


def _option(setting: Setting) -> Callable[[Function], Function]:
    is_data_dir = setting.name == "data_dir"
    default = DEFAULT_DATA_DIR if is_data_dir else _text(setting.default) or "none"
    # The variable of a list is shown, because its name differs from that of the option, which is
    # given once for each value.
    several = f"for several, repeat it; in {setting.variable}, use commas"
    variable = f" [{several}]" if setting.is_list else ""
    text = f"{setting.help.removesuffix('.')} (Default: {default}){variable}"
    if setting.is_switch:
        return click.option(setting.flag, setting.name, is_flag=True, default=None, help=text)
    return click.option(setting.flag, setting.name, multiple=setting.is_list, help=text)


def _settings_options(function: Function) -> Function:
    """Give a command one option for each setting, and ``--config``."""
    for setting in reversed(all_settings()):
        function = _option(setting)(function)
    return click.option("--config", help="TOML file with settings [C2C_CONFIG]")(function)


@command(
    "serve",
    usage=["[--data-dir DIR] [--config FILE] [options]"],
    examples=[
        "",
        "--data-dir /var/lib/c2c --xds-address 10.0.0.5:18000 --enroll-address 10.0.0.5:18001",
    ],
    tip=_TIP,
    see_also=["check", "demo"],
)
@_settings_options
def serve(**flags: object) -> None:
    """Run the control plane."""
    settings = _load(flags).settings
    configure_logging(settings.log_level, settings.log_format, colors=may_color())
    log = structlog.get_logger(__name__)
    for setting, reason in _warnings(settings):
        log.warning(log_events.SETTING_WARNED, setting=setting, reason=reason)
    _read_files(settings)  # the server reads one after the other, and would tell the first problem
    # This import loads the whole server, which `check` and the help do not need.
    from control_plane.app import serve as program  # noqa: PLC0415 - see above

    run(program(settings))


@command(
    "check",
    usage=["[--data-dir DIR] [--config FILE] [options] [--output json]"],
    examples=["", "--config /etc/c2c.toml"],
    tip=_TIP,
    see_also=["serve"],
)
@_settings_options
@output_option
def check(**flags: object) -> None:
    """Check the settings without running anything."""
    begin("Checking settings")
    settings, origins = _load(flags)
    if reason := why_not_used(settings.ca_cert, settings.data_dir):
        warn(f"ca_cert: {reason}")
    named = _read_files(settings)
    if named is not None and (problem := strict_problem(named)):
        warn(f"ca_cert: {NOT_STRICT}: {problem}")
    for setting, reason in _warnings(settings):
        warn(f"{setting}: {reason}")
    rows = [
        {
            "setting": setting.name,
            "value": _text(getattr(settings, setting.name)),
            "origin": origins[setting.name],
        }
        for setting in all_settings()
    ]
    if wants_json():
        print_records(rows)
        return
    columns = {title: [row[title] for row in rows] for title in ("setting", "value", "origin")}
    print_table(columns, empty="", cut=["value", "origin"])
    click.echo()
    ok()


def _read_files(settings: Settings) -> Authority | None:
    """Return the CA that the settings name, if it is used, once all files that they name are right.

    Raises:
        ConfigurationError: with every problem of every file.
    """
    problems: list[str] = []
    named = None
    try:
        named = read_named(settings, SystemClock().now())
    except ConfigurationError as error:
        problems += error.problems
    try:
        if settings.router_ca is not None:
            read_router_ca(settings.router_ca)
    except ConfigurationError as error:
        problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return named


def _warnings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what is hardly ever meant: values of settings, and variables with a misspelt name."""
    yield from cautions(settings)
    known = [*(setting.variable for setting in all_settings()), *VARIABLES]
    yield from misspelt(known, os.environ)


def _load(flags: dict[str, object]) -> Loaded:
    """Read the settings, including the options that stood before the command."""
    said = connection()
    before = {"data_dir": said.data_dir, "config": said.config}
    merged = {**before, **{name: value for name, value in flags.items() if value is not None}}
    return load_settings(merged, os.environ)
