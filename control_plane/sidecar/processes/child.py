"""A process that the sidecar started and is responsible for.

The rule of this module: a child leads a process group of its own, so that Ctrl-C on a terminal
reaches only the sidecar. Nothing in this group outlives ``stop``; a process that moved to a group
or session of its own may. The exit code of a child is what a shell would report.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from control_plane.errors import ConfigurationError
from control_plane.names import shown
from control_plane.sidecar.processes.group import running
from control_plane.sidecar.race import within

_SIGNALLED = 128
"""To the number of the signal that ended a process, a shell adds this."""

_STDIN = 0

_POLL_SECONDS = 0.05
"""How often to check whether a group whose leader has ended still runs; no event reports its
end."""


def check_program(program: str) -> None:
    """Return if a program exists and may be run; only starting it shows whether it works.

    Raises:
        ConfigurationError: it does not exist, or may not be run.
    """
    if shutil.which(program) is None:
        number = errno.EACCES if os.path.lexists(program) else errno.ENOENT
        raise _cannot_run(program, os.strerror(number))


class Child:
    """A process that runs or has ended.

    Attributes:
        is_told: whether ``stop`` was called.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take responsibility for a process that leads its own group."""
        self.is_told = False
        self._process = process
        self._is_over = False

    @classmethod
    async def start(
        cls,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        is_read: bool = False,
        inherited: Collection[int] = (),
    ) -> Self:
        """Start a command.

        Args:
            command: program and arguments.
            environment: the complete environment of the process.
            is_read: whether its output goes to ``output`` instead of where ours goes; it has no
                input then.
            inherited: file descriptors that it inherits, with the same numbers.

        Raises:
            ConfigurationError: there is no such program, or it cannot be run.
        """
        pipe = asyncio.subprocess.PIPE if is_read else None
        merged = asyncio.subprocess.STDOUT if is_read else None
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                # In a group of its own the child is a background process of a terminal. If it read
                # the terminal, it would be stopped for ever; so its standard input is empty
                # instead.
                stdin=asyncio.subprocess.DEVNULL if is_read or os.isatty(_STDIN) else None,
                stdout=pipe,
                stderr=merged,
                process_group=0,
                pass_fds=inherited,
            )
        except OSError as error:
            raise _cannot_run(str(command[0]), error.strerror) from error
        return cls(process)

    @property
    def pid(self) -> int:
        """The number of the process and of its process group."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    @property
    def output(self) -> asyncio.StreamReader:
        """What it writes to standard output and standard error.

        Raises:
            LookupError: it was started to write where we do.
        """
        if self._process.stdout is None:
            raise LookupError("the output of this process is not read")
        return self._process.stdout

    async def ended(self) -> int:
        """Return its exit code once it has ended; for a signal, 128 plus its number."""
        code = await self._process.wait()
        return code if code >= 0 else _SIGNALLED - code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, unless it has ended."""
        if not self.has_ended:
            with suppress(ProcessLookupError):
                # Popen, which asyncio uses for this, would first look whether the process has ended
                # and take its exit code, of which asyncio is then told nothing (Python before
                # 3.13.2).
                os.kill(self.pid, number)

    async def stop(self, seconds: float, hurry: asyncio.Event) -> int:
        """End the process and its group, and return its exit code.

        The whole group gets SIGTERM, as it would get a signal from a terminal, because a script
        that waits for its server does not pass SIGTERM on. The script may also end before that
        server does; the server then has its time all the same. If the process ended by itself, the
        rest of its group is killed at once. The group gets SIGTERM only once, however often this is
        called.

        Args:
            seconds: how long the group may take to end by itself.
            hurry: cuts this time short once it is set.
        """
        is_told, self.is_told = self.is_told, True
        if not self.has_ended:
            if not is_told:  # else it is already ending, and a second SIGTERM may cut that off
                self._send_group(signal.SIGTERM)
            await within(seconds, hurry, self._group_ended())
        if not self._is_over:
            # Only once: by the next call, the number may belong to a group of another program.
            self._send_group(signal.SIGKILL)
            self._is_over = True
        return await self.ended()

    async def _group_ended(self) -> None:
        await self.ended()
        while running(self.pid):  # noqa: ASYNC110 - no event tells of other processes
            await asyncio.sleep(_POLL_SECONDS)

    def _send_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _cannot_run(program: str, why: str | None) -> ConfigurationError:
    return ConfigurationError([f"program {shown(program)} cannot be run: {why}"])
