"""That a test in which a call failed has no second chance, and another has one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests.conftest import pytest_configure, pytest_runtest_makereport, pytest_runtest_setup
"""

SUITE = """
from pathlib import Path
from types import SimpleNamespace

from tests.promises import CallFailed, none_failed


def is_second_run(name):
    ran = Path(name).exists()
    Path(name).touch()
    return ran


def test_calls():
    none_failed(SimpleNamespace(failures=[] if is_second_run("calls") else ["refused"]))


def test_calls_of_tasks():
    if not is_second_run("tasks"):
        raise ExceptionGroup("tasks", [CallFailed("refused")])


def test_time():
    assert is_second_run("time")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A directory of three tests that fail once, two of them for calls and one for time."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_suite.py").write_text(SUITE)
    return tmp_path


def run(suite: Path, *arguments: str, again: bool = False) -> str:
    """Run the tests there and return the last line of what pytest says."""
    environment = (
        os.environ | {"PYTHONPATH": str(ROOT)} | ({"C2C_TEST_AGAIN": "1"} if again else {})
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", *arguments],
        cwd=suite,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_call_that_failed_is_not_forgotten(suite: Path, processes: str) -> None:
    """What failed is run once more, and passes; but not a test in which a call failed."""
    assert run(suite, "--numprocesses", processes).startswith("3 failed")
    assert run(suite, "--last-failed", again=True).startswith("1 passed, 2 errors")


def test_a_run_of_all_tests_starts_afresh(suite: Path) -> None:
    """A new run is no second chance: it owes nothing to what failed before."""
    assert run(suite).startswith("3 failed")
    assert run(suite).startswith("3 passed")
