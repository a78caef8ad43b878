"""Where settings come from: flags first, then C2C_* variables, then one TOML file, then defaults.

The rule of this module: all problems are reported at once, each with the source that it is in, and
settings are never loaded in part. An empty variable counts as not set, because that is what
``${NAME:-}`` in a compose file leaves.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from control_plane.errors import ConfigurationError, InvalidArgument
from control_plane.names import shown
from control_plane.settings.conflicts import conflicts
from control_plane.settings.fields import Setting, Settings, all_settings
from control_plane.settings.paths import read_path

CONFIG_VARIABLE = "C2C_CONFIG"

DEFAULT_ORIGIN = "default"


class Loaded(NamedTuple):
    """Settings, and for each of them where its value came from."""

    settings: Settings
    origins: Mapping[str, str]


class _Raw(NamedTuple):
    """A value as it is in its source."""

    value: object
    origin: str


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str]) -> Loaded:
    """Read every setting from the first source that sets it.

    Args:
        flags: values by the name of the setting, and ``config``, the TOML file; None or an empty
            tuple means that the flag was not given.
        environ: the process's environment variables.

    Raises:
        ConfigurationError: with every problem of every source.
    """
    table, problems = _read_config(flags.get("config"), environ)
    values = {setting.name: setting.default for setting in all_settings()}
    values["data_dir"] = Path("/")  # the only setting without a default that holds everywhere
    origins = dict.fromkeys(values, DEFAULT_ORIGIN)
    refused: set[str] = set()
    for setting in all_settings():
        raw = _find(setting, flags, environ, table)
        try:
            if raw is not None:
                origins[setting.name] = raw.origin
                values[setting.name] = setting.read(raw.value)
            elif setting.name == "data_dir":
                values[setting.name] = _default_data_dir(environ)
        except InvalidArgument as error:
            problems.append(f"{raw.origin}: {error}" if raw else str(error))
            refused.add(setting.name)
    # A refused value is missing here, which must not be reported as another contradiction.
    problems += [each.sentence for each in conflicts(values) if not each.names & refused]
    if problems:
        raise ConfigurationError(problems)
    return Loaded(Settings(**cast(dict[str, Any], values)), origins)


def find_data_dir(flag: str | None, config: str | None, environ: Mapping[str, str]) -> Path:
    """Return the data directory of the server that a command talks to.

    Only this setting is read. The TOML file is read only if a flag names it, or if neither flag nor
    variable sets the directory, so that a command works while some other setting is wrong.

    Raises:
        ConfigurationError: the TOML file is needed and cannot be read, or the path is not valid.
    """
    setting = next(each for each in all_settings() if each.name == "data_dir")
    raw = _find(setting, {"data_dir": flag}, environ, _NO_TABLE)
    if raw is None or config:
        table, problems = _read_config(config, environ, check_names=False)
        if problems:
            raise ConfigurationError(problems)
        raw = raw or _find(setting, {}, environ, table)
    try:
        return _default_data_dir(environ) if raw is None else read_path(raw.value)
    except InvalidArgument as error:
        raise ConfigurationError([f"{raw.origin}: {error}" if raw else str(error)]) from None


def _default_data_dir(environ: Mapping[str, str]) -> Path:
    """XDG base directory specification: state that outlives a restart, and is not configuration."""
    state = environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path("~/.local/state")
    try:
        return read_path(str(base / "c2c"))
    except InvalidArgument as error:
        raise InvalidArgument(
            f"C2C_DATA_DIR is not set, and its default cannot be: {error}"
        ) from None


def _find(
    setting: Setting, flags: Mapping[str, object], environ: Mapping[str, str], table: _Table
) -> _Raw | None:
    flag = flags.get(setting.name)
    if flag is not None and flag != ():
        return _Raw(flag, setting.flag)
    text = environ.get(setting.variable, "")
    if text:
        return _Raw(text, setting.variable)
    if setting.name in table.values:
        return _Raw(table.values[setting.name], f"{setting.name} in {table.path}")
    return None


class _Table(NamedTuple):
    """The content of the TOML file; without a path if there is no file."""

    values: Mapping[str, object]
    path: Path | None


_NO_TABLE = _Table({}, None)


def _read_config(
    flag: object, environ: Mapping[str, str], *, check_names: bool = True
) -> tuple[_Table, list[str]]:
    given = _Raw(flag, "--config")
    if flag is None:
        given = _Raw(environ.get(CONFIG_VARIABLE) or None, CONFIG_VARIABLE)
    if given.value is None:
        return _NO_TABLE, []
    try:
        path = read_path(given.value)
        # Some editors begin a file with a byte order mark, which TOML does not allow.
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return _NO_TABLE, [f"{given.origin}: cannot read {shown(given.value)}: {error.strerror}"]
    except InvalidArgument as error:
        return _NO_TABLE, [f"{given.origin}: {error}"]
    except ValueError as error:  # not UTF-8, not TOML, or an integer too long for Python to read
        return _NO_TABLE, [f"{given.origin}: {shown(given.value)} is not a TOML file: {error}"]
    unknown = [_unknown(name, path) for name in values] if check_names else []
    return _Table(values, path), [problem for problem in unknown if problem]


def _unknown(name: str, path: Path) -> str | None:
    """Return what is wrong with a key of the TOML file."""
    import difflib  # noqa: PLC0415 - 4 ms, and needed only when something is wrong

    known = [setting.name for setting in all_settings()]
    if name in known:
        return None
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
    return f"unknown setting {shown(name)} in {path}: {hint}"
