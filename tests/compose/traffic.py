"""Requests from app-a to app-b that go on while something else happens.

The rule of this module: nothing is left out. Each request is counted with its outcome, and a client
that cannot tell what it saw fails the test.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.compose.stack import CLIENTS, ROUTE, Container

END_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that was not answered.

    Attributes:
        at: when it was begun, in seconds since 1970.
        address: whom it went to; "" if the name did not resolve.
    """

    at: float
    address: str
    why: str


@dataclass(slots=True)
class Traffic:
    """What a client saw; complete once it has ended.

    Attributes:
        answered: how many requests each address answered.
        serials: when each address first showed each of its certificates.
    """

    answered: Mapping[str, int] = field(default_factory=dict)
    serials: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def sent(self) -> int:
        """How many requests there were."""
        return sum(self.answered.values()) + len(self.failures)


@contextmanager
def requests_from(app: Container, host: str = ROUTE) -> Iterator[Traffic]:
    """Send some 30 requests a second until the block ends; then the outcome is there."""
    program = (CLIENTS / "requests.py").read_text()
    seen = Traffic()
    with subprocess.Popen(
        ["docker", "exec", "--interactive", app.id, "python3", "-c", program, host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        try:
            yield seen
        finally:
            output, _ = client.communicate("", timeout=END_SECONDS)
    assert client.returncode == 0, "the client that sends requests ended by itself"
    told = json.loads(output)
    seen.answered, seen.serials = told["answered"], told["serials"]
    seen.failures.extend(Failure(**each) for each in told["failures"])
