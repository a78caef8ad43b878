"""Every recipe of docs/grpcurl.md, run by the real grpcurl in a real shell, from top to bottom."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.envoy.harness import DEADLINE, unique_address, until
from tests.inspection.world import APP, Operator, Scene, map_route
from tests.needs import need_command
from tests.security.world import control_plane, enrol
from tests.sidecar.platform import Platform
from tests.waiting import ended

DOCUMENT = Path(__file__).parents[2] / "docs" / "grpcurl.md"
_BLOCK = re.compile(
    r"^```(\w+) ?(\w*)\n(.*?)^```\n(?:\n```(json|text)\n(.*?)^```)?", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to type, and what is shown as the answer, if anything is."""

    mark: str
    script: str
    form: str
    shown: str


def recipes() -> list[Recipe]:
    """Return every recipe; the first is the preamble of all others."""
    found = _BLOCK.findall(DOCUMENT.read_text("utf-8"))
    assert {language for language, *_ in found} == {"sh"}
    return [Recipe(*parts) for _, *parts in found]


@asynccontextmanager
async def shell(
    cf: Platform, directory: Path, script: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a script as the document says, and end it with the block."""
    admin = cf.running.ports.admin_address
    variables = {
        "C2C_DATA_DIR": str(cf.settings.data_dir),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SERVER": str(admin),
    }
    process = await asyncio.create_subprocess_exec(
        need_command("bash", "bash"),
        "-euo",
        "pipefail",
        "-c",
        f"{recipes()[0].script}\n{script}",
        cwd=directory,
        env={**os.environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
        await ended(process, "the recipe")


def is_like(shown: object, answer: object) -> bool:
    """Tell whether an answer is what is shown; in a text ``...`` stands for anything."""
    match shown, answer:
        case dict(), dict():
            return shown.keys() == answer.keys() and all(
                is_like(value, answer[key]) for key, value in shown.items()
            )
        case list(), list():
            return len(shown) == len(answer) and all(map(is_like, shown, answer))
        case str(), str():
            pattern = ".*".join(map(re.escape, shown.split("...")))
            return re.fullmatch(pattern, answer, re.DOTALL) is not None
        case _:
            return shown == answer


async def test_every_recipe_works_and_answers_what_is_shown(tmp_path: Path) -> None:
    """In the order of the document, each in a shell of its own after the preamble.

    The server is new; once there is a token there is an instance.
    """
    async with AsyncExitStack() as stack:
        cf = await stack.enter_async_context(control_plane(tmp_path))
        operator = Operator(await stack.enter_async_context(cf.operator()))
        for recipe in recipes()[1:]:
            if recipe.mark == "endless":
                await _watch(cf, tmp_path, recipe)
            else:
                await _run(cf, tmp_path, recipe)
            if "CreateJoinToken" in recipe.script:
                address = unique_address()
                holder = await enrol(cf, APP, address)
                here = Scene(cf, holder, address, operator, tmp_path)
                await stack.enter_async_context(here.envoy())
                await here.until_served()


def test_the_document_shows_what_it_promises() -> None:
    """No recipe is without a script, and there is one for each thing that operators look at."""
    text = "\n".join(recipe.script for recipe in recipes())

    assert len(recipes()) > 15
    for called in (
        "InspectionService/GetStatus",
        "InspectionService/ListCertificates",
        "InspectionService/Explain",
        "InspectionService/WatchEvents",
        "ClientStatusDiscoveryService/FetchClientStatus",
        "RouteService/MapRoute",
        "grpc.health.v1.Health/Check",
    ):
        assert called in text


def test_the_comparison_finds_differences() -> None:
    """Else whatever is shown would be right."""
    shown = {"a": [{"b": "x..."}], "c": True}

    assert is_like(shown, {"a": [{"b": "xyz"}], "c": True})
    for answer in (
        {"a": [{"b": "yx"}], "c": True},
        {"a": [{"b": "x"}], "c": False},
        {"a": [{"b": "x"}]},
        {"a": [{"b": "x"}], "c": True, "d": 1},
        {"a": [], "c": True},
        {"a": "x", "c": True},
    ):
        assert not is_like(shown, answer)


async def _run(cf: Platform, directory: Path, recipe: Recipe) -> None:
    async with shell(cf, directory, recipe.script) as process, asyncio.timeout(DEADLINE):
        out, err = (text.decode() for text in await process.communicate())
    assert (process.returncode == 0) == (recipe.mark != "fails"), f"{recipe.script}\n{err}"
    match recipe.form:
        case "json":
            shown, answer = json.loads(recipe.shown), json.loads(out)
            assert is_like(shown, answer), f"{recipe.script}\n{json.dumps(answer, indent=1)}"
        case "text":
            assert recipe.shown == err
        case _:
            assert out or not recipe.script.startswith(("call", "grpcurl")), recipe.script


async def _watch(cf: Platform, directory: Path, recipe: Recipe) -> None:
    """Let something happen until the recipe tells of it."""
    async with shell(cf, directory, recipe.script) as process:
        assert process.stdout is not None
        reading = asyncio.create_task(process.stdout.readuntil(b"\n}\n"))

        async def probe() -> bool:
            if not reading.done():
                await map_route(cf, f"event-{os.urandom(4).hex()}")
            return reading.done()

        await until(probe, what=f"an event of {recipe.script}")
        event = json.loads(reading.result())
        assert event["sentence"]
        assert event["app"] == APP
