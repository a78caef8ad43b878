"""That coverage knows of what unit tests run, and of nothing that a search or another test does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests.conftest import pytest_runtest_protocol
"""

SUITE = """
import sys

import pytest
from hypothesis import given, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

FEW = settings(max_examples=1, database=None)


class Machine(RuleBasedStateMachine):
    @rule()
    def go(self):
        is_traced("machine")


def is_traced(name):
    print(f"{name} {sys.gettrace() is not None}")


@pytest.fixture
def fixture():
    is_traced("fixture")


def test_example(fixture):
    is_traced("example")


@FEW
@given(strategies.none())
def test_search(nothing):
    is_traced("search")


def test_walk():
    run_state_machine_as_test(Machine, settings=settings(FEW, stateful_step_count=1))
"""


def traced(suite: Path, directory: str) -> dict[str, bool]:
    """Return what of these tests is traced if they are in a directory."""
    (suite / "conftest.py").write_text(CONFTEST)
    (suite / directory).mkdir(parents=True)
    (suite / directory / "test_suite.py").write_text(SUITE)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--quiet", "--capture=no", f"--rootdir={suite}"),
            *("--cov", "--cov-report=", directory),
        ],
        cwd=suite,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COVERAGE_FILE": str(suite / "coverage")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    words = [line.lstrip(".").split() for line in done.stdout.splitlines()]
    return {each[0]: each[1] == "True" for each in words if each[1:] in (["True"], ["False"])}


def test_unit_tests_are_traced_but_no_search(tmp_path: Path) -> None:
    """Examples that somebody wrote prove rules; a search that is traced is three times as slow."""
    assert traced(tmp_path, "tests/unit/x") == {
        "fixture": True,
        "example": True,
        "search": False,
        "machine": False,
    }


def test_no_other_test_is_traced(tmp_path: Path) -> None:
    """Nor are its fixtures, which start servers in the same process."""
    assert set(traced(tmp_path, "tests/server").values()) == {False}
