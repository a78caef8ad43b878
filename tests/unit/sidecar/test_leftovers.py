"""What a sidecar that was killed left running."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import structlog

from control_plane.clock import SystemClock
from control_plane.errors import ConfigurationError
from control_plane.sidecar import leftovers as module
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.envoy_admin import EnvoyAdmin
from control_plane.sidecar.leftovers import Leftovers


def _leftovers(path: Path) -> Leftovers:
    directory = SidecarDirectory(path)
    return Leftovers(directory, EnvoyAdmin(directory.admin_socket), SystemClock(), 0.1)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "one", "began": ""}'])
async def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    """Nothing is ended by guess, and nothing is kept from starting."""
    leftovers = _leftovers(tmp_path)
    file = tmp_path / module.APP_FILE
    file.write_text(content)
    file.chmod(0o600)
    with structlog.testing.capture_logs() as logs:
        await leftovers.end()

    assert logs == []


async def test_an_app_that_may_not_be_ended_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the port, and belongs to somebody else: the sentence says which process to kill."""

    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError

    leftovers = _leftovers(tmp_path)
    app = await asyncio.create_subprocess_exec("sleep", "60", process_group=0)
    leftovers.note_app(app.pid)
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", refuse)
        patch.setattr(module, "LEFTOVER_SECONDS", 0.1)
        with pytest.raises(ConfigurationError, match=f"does not end: kill process {app.pid}"):
            await leftovers.end()
    await leftovers.end()

    assert await app.wait() < 0
