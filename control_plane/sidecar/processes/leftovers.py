"""What a killed sidecar left running: its Envoy and its app.

The rule of this module: both hold ports that their successors need, so they are ended before those
start. An Envoy is found by its admin socket. An app is found by its process number, which is noted
with the start time when the app starts: the kernel reuses numbers, so a process with this number is
the app only if it started at that time. If the app itself has ended, the processes that it left in
its group are found by the instance's GUID in their environment.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.errors import ConfigurationError, StorageError
from control_plane.names import shown
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.processes.environment import INSTANCE_VARIABLE
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.processes.group import running
from control_plane.store.files import read_private, write_private

APP_FILE = "app.json"

LEFTOVER_SECONDS = 5.0
"""How long a process may take to end after it was told to end at once."""

_POLL_SECONDS = 0.1
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Finds and ends the Envoy and the app that an earlier sidecar left.

    Attributes:
        stop_seconds: how long an app may take to end by itself.
    """

    directory: SidecarDirectory
    admin: EnvoyAdmin
    clock: Clock
    stop_seconds: float

    def note_app(self, pid: int, instance: str) -> None:
        """Note the process of an instance's app, so that the next sidecar can end it."""
        noted = {"pid": pid, "began": _began(pid), "directory": self._inode(), "instance": instance}
        try:
            write_private(self.directory.path / APP_FILE, json.dumps(noted).encode())
        except StorageError as error:
            structlog.get_logger(__name__).error(log_events.APP_NOT_NOTED, reason=str(error))

    async def end(self) -> None:
        """End what is left.

        Raises:
            ConfigurationError: a process does not end.
        """
        await self._end_envoy()
        await self._end_app()

    async def _end_envoy(self) -> None:
        deadline = self.clock.monotonic() + LEFTOVER_SECONDS
        while await self.admin.quit():
            if self.clock.monotonic() > deadline:
                raise self._in_the_way("an Envoy", self._whom())
            await self.clock.sleep(_POLL_SECONDS)

    def _whom(self) -> str:
        """Name the process of the Envoy; in another container its number means nothing here."""
        with suppress(OSError):
            if pid := self.admin.pid():
                return f"process {pid}"
        return "it"

    async def _end_app(self) -> None:
        pid = self._left_over()
        if not pid:
            return
        structlog.get_logger(__name__).warning(log_events.APP_LEFT_OVER, pid=pid)
        # The whole group is ended, as the sidecar that started it would have done: a script may end
        # before the server that it started does.
        for number, seconds in (
            (signal.SIGTERM, self.stop_seconds),
            (signal.SIGKILL, LEFTOVER_SECONDS),
        ):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)
            deadline = self.clock.monotonic() + seconds
            while self.clock.monotonic() < deadline:
                if not running(pid):
                    return
                await self.clock.sleep(_POLL_SECONDS)
        if left := ", ".join(map(str, running(pid))):
            raise self._in_the_way("an app", f"process {left}")

    def _left_over(self) -> int:
        """Return the group of the noted app if any process of it runs, else 0."""
        with suppress(ConfigurationError, OSError, ValueError, TypeError, LookupError):
            noted = json.loads(read_private(self.directory.path / APP_FILE))
            pid, began, inode = int(noted["pid"]), str(noted["began"]), self._inode()
            # In a copy of the directory, made for another instance, the noted app is that of the
            # sidecar of the original.
            if not began or noted.get("directory", inode) != inode:
                return 0
            if _began(pid) == began or _is_left_by(pid, began, str(noted["instance"])):
                return pid
        return 0

    def _inode(self) -> int:
        """Return what tells a directory from a copy of it, even if it was renamed."""
        return self.directory.path.stat().st_ino

    def _in_the_way(self, what: str, whom: str) -> ConfigurationError:
        where = shown(str(self.directory.path))
        problem = f"{what} that an earlier sidecar started in {where} does not end: kill {whom}"
        return ConfigurationError([problem])


def _is_left_by(leader: int, began: str, instance: str) -> bool:
    """Tell whether a process that has ended left other processes of an instance in its group.

    The group may also be that of a later process, which had the same number and has ended, too. So
    the processes in it must show by their environment that they belong to the instance.
    """
    if _began(leader) or began.partition(" ")[0] != _boot():
        return False
    ours = f"{INSTANCE_VARIABLE}={instance}".encode()
    return any(ours in _variables(each) for each in running(leader))


def _variables(pid: int) -> list[bytes]:
    """Return the environment that a process was started with; empty if it cannot be read."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def _boot() -> str:
    return _BOOT.read_text(encoding="ascii").strip()


def _began(pid: int) -> str:
    """Return when a process began, as a text unlike that of any other; "" if it does not run."""
    with suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # proc_pid_stat(5): the name, in parentheses, may have anything in it.
        fields = stat.rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return f"{_boot()} {fields[19]}"
    return ""
