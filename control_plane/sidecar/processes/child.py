"""A process that the sidecar started and is answerable for.

The rule of this module: a child leads a process group of its own, so that Ctrl-C on a terminal
reaches the sidecar alone, and nothing in its group outlives ``stop``; what made itself a group or
session of its own may. Its exit code is what a shell would report.
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
"""A shell adds the number of the signal that ended a process to this."""

_STDIN = 0

_POLL_SECONDS = 0.05
"""How often to look whether a group still runs whose leader has ended: nobody tells of that."""


def check_program(program: str) -> None:
    """Return if a program is there and may be run; whether it starts is seen when it is started.

    Raises:
        ConfigurationError: it is not.
    """
    if shutil.which(program) is None:
        number = errno.EACCES if os.path.lexists(program) else errno.ENOENT
        raise _cannot_run(program, os.strerror(number))


class Child:
    """A process that runs, or has ended.

    Attributes:
        is_told: whether it was told to end.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Answer for a process that leads its own group."""
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
            environment: all of its variables.
            is_read: whether its output goes to ``output`` instead of where ours goes, and it has no
                input.
            inherited: open files that it has too, by the same numbers.

        Raises:
            ConfigurationError: there is no such program, or it cannot be run.
        """
        pipe = asyncio.subprocess.PIPE if is_read else None
        merged = asyncio.subprocess.STDOUT if is_read else None
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                # In a group of its own it is in the background of a terminal, which stops for ever
                # whoever reads it there: it finds the end of its input instead.
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
        """Its process, and its process group."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
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
        """Return its exit code once it is gone; 128 and the number for one that a signal ended."""
        code = await self._process.wait()
        return code if code >= 0 else _SIGNALLED - code

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; one that is gone gets none."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self, seconds: float, hurry: asyncio.Event) -> int:
        """End the process and its group, and return its exit code.

        The whole group is told, as a terminal would tell it: a script that waits for its server
        does not pass SIGTERM on. And it may end before that server does, which then has its time
        all the same. What is left of a process that ended by itself has none. A group is told
        once, however often this is called.

        Args:
            seconds: how long the group may take to end by itself.
            hurry: ends this time early once it is set.
        """
        is_told, self.is_told = self.is_told, True
        if not self.has_ended:
            if not is_told:  # else it ends already, and may be cut off by a second one
                self._send_group(signal.SIGTERM)
            await within(seconds, hurry, self._group_ended())
        if not self._is_over:
            # Once only: by the next time the number may be that of a group of somebody else.
            self._send_group(signal.SIGKILL)
            self._is_over = True
        return await self.ended()

    async def _group_ended(self) -> None:
        await self.ended()
        while running(self.pid):  # noqa: ASYNC110 - it is about other processes
            await asyncio.sleep(_POLL_SECONDS)

    def _send_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _cannot_run(program: str, why: str | None) -> ConfigurationError:
    return ConfigurationError([f"program {shown(program)} cannot be run: {why}"])
