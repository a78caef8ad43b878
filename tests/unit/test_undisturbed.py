"""Work that is done to its end although whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from control_plane.undisturbed import undisturbed


class Work:
    """Work that ends when it may."""

    def __init__(self, error: Exception | None = None) -> None:
        """Raise this in the end, if anything."""
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.is_done = False
        self._error = error

    async def do(self) -> str:
        """Work."""
        self.begun.set()
        await self.may_end.wait()
        self.is_done = True
        if self._error is not None:
            raise self._error
        return "done"


async def test_it_is_as_if_the_work_were_awaited() -> None:
    """What it returns is returned, and what it raises is raised."""
    work, bad = Work(), Work(OSError("no room"))
    for each in (work, bad):
        each.may_end.set()

    assert await undisturbed(work.do()) == "done"
    with pytest.raises(OSError, match="no room"):
        await undisturbed(bad.do())


@pytest.mark.parametrize("error", [None, OSError("no room")], ids=["ends well", "fails"])
async def test_a_cancellation_is_passed_on_once_the_work_is_done(error: Exception | None) -> None:
    """Not before, so that nothing is left half done; and nobody complains of an error unheard."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    work = Work(error)
    waiting = asyncio.create_task(undisturbed(work.do()))
    await work.begun.wait()
    waiting.cancel()
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    work.may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.is_done
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
