"""How a process ends that the sidecar started."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from control_plane.sidecar.child import Child


async def test_a_group_is_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the second time its number may be that of a group of somebody else."""
    child = await Child.start(["sleep", "60"], os.environ)
    code = await child.stop(60, asyncio.Event())
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda _group, number: sent.append(number))

    assert code == 128 + signal.SIGTERM
    assert await child.stop(60, asyncio.Event()) == code
    assert sent == []
