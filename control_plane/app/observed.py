"""The observers: the ledger of certificates, the proof of serving, the feed and the metrics.

The rule of this module: it is only wiring. The observers are notified, and look, and have no part
in what an instance gets. Without all of them, every Envoy would be served the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.clock import Clock
from control_plane.model.change import Change, departed
from control_plane.model.state import State
from control_plane.nodes import Nodes
from control_plane.reconciler.certificates.ledger import Ledger
from control_plane.reconciler.changes import ChangeTrace
from control_plane.reconciler.convergence import Convergence
from control_plane.reconciler.served.attestation import Attestation
from control_plane.reconciler.served.proof import Proof
from control_plane.reconciler.served.sight import Sight
from control_plane.registry import Registry
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.metrics.collector import FleetCollector
from control_plane.server.metrics.instruments import Metrics
from control_plane.server.metrics.observers import ChangeMetrics, StreamMetrics, measure_lag
from control_plane.server.observability.certificate_log import CertificateLog
from control_plane.server.observability.change_log import ChangeLog
from control_plane.server.observability.feed import Feed
from control_plane.server.observability.name_audit import NameAudit
from control_plane.server.observability.stream_facts import StreamFacts


@dataclass(frozen=True, slots=True)
class Watched:
    """The objects that are observed."""

    registry: Registry
    nodes: Nodes
    convergence: Convergence
    attestation: Attestation
    ledger: Ledger
    metrics: Metrics
    refusals: RefusalTally
    clock: Clock


@dataclass(frozen=True, slots=True)
class Observed:
    """The observers."""

    ledger: Ledger
    proof: Proof
    feed: Feed
    changes: ChangeTrace
    name_audit: NameAudit
    metrics: Metrics

    async def run(self) -> None:
        """Observe until cancelled."""
        try:
            await measure_lag(self.metrics)
        finally:
            await self.changes.close()
            await self.proof.close()

    def committed(self, state: State, change: Change) -> None:
        """Stop waiting for instances that are gone; a subscriber of the registry."""
        for guid in departed(state, change):
            self.proof.gone(guid)


def observe(watched: Watched, sight: Sight) -> Observed:
    """Set up all observers; the reconciler has to be subscribed to the registry before.

    Args:
        watched: what is observed.
        sight: looks at certificates in the background.
    """
    registry, nodes, clock = watched.registry, watched.nodes, watched.clock
    ledger, attestation = watched.ledger, watched.attestation

    def state() -> State:
        return registry.state

    def revision() -> int:
        return registry.revision

    proof = Proof(ledger, state, nodes, attestation, sight, clock)
    nodes.observe(proof)
    attestation.observe(proof.reported)
    feed = Feed(clock)
    facts = StreamFacts(state, feed)
    nodes.observe(facts)
    ledger.observe(CertificateLog(watched.refusals).certified)
    ledger.observe(facts.certified)
    name_audit = NameAudit(nodes, watched.refusals, facts.denied)
    nodes.observe(name_audit)
    change_log = ChangeLog(registry.state, revision, feed)
    registry.subscribe(change_log.committed)
    changes = ChangeTrace(registry.state, revision, watched.convergence, proof, clock)
    changes.observe(change_log.reached)
    registry.subscribe(changes.committed)
    observed = Observed(ledger, proof, feed, changes, name_audit, watched.metrics)
    _measure(watched, observed)
    return observed


def _measure(watched: Watched, observed: Observed) -> None:
    metrics, registry = watched.metrics, watched.registry
    watched.nodes.observe(StreamMetrics(metrics.streams, watched.clock))
    change_metrics = ChangeMetrics(metrics)
    observed.changes.observe(change_metrics.reached)
    watched.ledger.observe(change_metrics.certified)
    fleet = FleetCollector(
        lambda: registry.state,
        watched.nodes,
        watched.ledger,
        observed.feed,
        observed.name_audit,
    )
    metrics.registry.register(fleet)
