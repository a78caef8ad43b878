"""One stack for all of these tests; what its containers say is kept when a test fails.

They take minutes and need a Docker engine, so they run where they are named: ``make test-compose``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.compose.stack import ROOT, ROUTE, Stack, need_engine

ARTIFACTS = ROOT / "test-artifacts" / "compose"

STACKS = pytest.StashKey[list[Stack]]()


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave these tests out unless they are what was asked for."""
    named = [Path(each.partition("::")[0]).absolute() for each in config.args]
    here = Path(__file__).parent
    return None if any(each.is_relative_to(here) for each in named) else True


@pytest.fixture(scope="session")
def built(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Build the images, and remove whatever ran of them in the end."""
    made = Stack(f"c2c-test-{os.getpid()}", need_engine())
    request.config.stash[STACKS] = [made]
    made.build()
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def stack(built: Stack) -> Stack:
    """Return a stack in which app-a can call two replicas of app-b."""
    if len(built.containers("app-b")) != 2 or len(built.resolve(ROUTE)) != 2:
        built.up("--scale", "app-b=2")
    built.until_ready()
    return built


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what the containers of a failed test said, as it was right then."""
    report = yield
    stacks = item.config.stash.get(STACKS, [])
    if report.failed and stacks:
        where = ARTIFACTS / item.name
        shutil.rmtree(where, ignore_errors=True)
        for each in stacks:
            each.keep_evidence(where)
        report.sections.append(("containers", f"logs and statistics are in {where}"))
    return report
