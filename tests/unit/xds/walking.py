"""How random walks end, and how far they go: seconds in a run, half an hour by ``make fuzz``."""

from __future__ import annotations

import sys

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule

from control_plane.xds.complete import CompleteState
from control_plane.xds.delta import DeltaMachine
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.sotw import SotwMachine
from control_plane.xds.stream import Stream
from tests.fuzz.budget import FUZZ

WALK = settings(
    max_examples=8_000 if FUZZ else 300,
    stateful_step_count=100 if FUZZ else 50,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

SCRIPT = settings(WALK, max_examples=100_000 if FUZZ else 300)

SHORT_WALK = settings(WALK, max_examples=5_000 if FUZZ else 100)


def overlooked(stream: Stream, snapshot: Snapshot) -> set[str]:
    """Return the names that a stream does not look at, though it should, or looks at in vain."""
    found: set[str] = set()
    for url, machine in stream.machines.items():
        state = machine._responses if isinstance(machine, SotwMachine) else machine._state
        if isinstance(state, CompleteState):
            continue
        content, exchange = stream.content(url, snapshot), machine.exchange
        names = {*content.resources, *content.aliases, *content.pending, *content.recorded, "*"}
        names |= {*content.collections, *machine.subscription.names}
        names |= {*exchange.accepted, *exchange.owed}
        if isinstance(machine, DeltaMachine):
            names |= machine._meaning._not_given
        found |= {name for name in names if state._is_unsettled(name, content)} ^ {
            *state._unsettled(content)
        }
    return found


class WalkToRest(RuleBasedStateMachine):
    """A walk that settles in the end, unless it failed or did not begin."""

    stream: Stream
    snapshot: Snapshot

    @rule()
    def look(self) -> None:
        """A stream looks at what changed, and at all of that."""
        assert overlooked(self.stream, self.snapshot) == set()

    def settle(self) -> None:
        """Deliver and answer everything, and compare what there is with what should be."""
        raise NotImplementedError

    def teardown(self) -> None:
        """End every walk at rest."""
        if hasattr(self, "stream") and sys.exc_info()[0] is None:
            self.settle()
