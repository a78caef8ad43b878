"""What is measured: every instrument with its name, its unit and its meaning.

The rule of this module: names and units are those that Prometheus recommends (base units, counters
end in ``_total``). Each series whose labels are known exists from the start. No label grows with
what operators create: facts about one instance, app or route are in the API. Each control plane has
a registry of its own, so that two in one process do not count for each other.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.errors import ControlPlaneError
from control_plane.nodes import Variant
from control_plane.reconciler.progress import Stage
from control_plane.server.observability.type_names import PLANNED_TYPES, short_name

_MILLISECOND = 0.001

LATENCIES = tuple(
    each * _MILLISECOND
    for each in (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)
)
"""Upper bounds, in seconds, for what takes milliseconds when all is well, and half a minute when a
client is away."""

ISSUE_LATENCIES = tuple(each * _MILLISECOND for each in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 100, 1000))
"""The same for issuing a certificate, which takes a fraction of a millisecond."""

ISSUE_REASONS = ("first", "changed", "renewed")
"""Why certificates are issued."""


@dataclass(frozen=True, slots=True)
class OfType:
    """The series for responses of one type."""

    pushes: Counter
    pushed_bytes: Counter
    acks: Counter
    nacks: Counter
    push_to_ack: Histogram


class StreamInstruments:
    """What is measured about xDS streams."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start with nothing measured; the series of all known labels exist."""
        self.opened = Counter(
            "c2c_xds_streams_opened_total",
            "Streams whose client was let in, by protocol variant.",
            ["variant"],
            registry=registry,
        )
        self.pushes = _by_type(registry, "c2c_xds_pushes_total", "Responses sent")
        self.pushed_bytes = _by_type(
            registry, "c2c_xds_pushed_bytes_total", "Size of the resources sent"
        )
        self.acks = _by_type(registry, "c2c_xds_acks_total", "Responses ACKed")
        self.nacks = _by_type(registry, "c2c_xds_nacks_total", "Responses NACKed")
        self.push_to_ack = Histogram(
            "c2c_xds_push_to_ack_seconds",
            "Time from a response to its ACK or NACK, by resource type.",
            ["type"],
            buckets=LATENCIES,
            registry=registry,
        )
        self._of_type: dict[str, OfType] = {}
        for url in PLANNED_TYPES.values():
            self.of_type(url)
        for variant in Variant:
            self.opened.labels(variant.value)

    def of_type(self, type_url: str) -> OfType:
        """Return the series of a type, which are looked up by their labels only once."""
        short = short_name(type_url)
        found = self._of_type.get(short)
        if found is None:
            found = self._of_type[short] = OfType(
                self.pushes.labels(short),
                self.pushed_bytes.labels(short),
                self.acks.labels(short),
                self.nacks.labels(short),
                self.push_to_ack.labels(short),
            )
        return found


class ChangeInstruments:
    """What is measured about changes on their way to all instances."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start with nothing measured; the series of all known labels exist."""
        self.to_ack = _latency(
            registry,
            "c2c_change_to_ack_seconds",
            "Time from the commit of a change until every connected instance that it concerns "
            "ACKed what follows from it.",
        )
        self.to_served = _latency(
            registry,
            "c2c_change_to_served_seconds",
            "Time from the commit of a change until a TLS handshake with each of these instances "
            "showed its newest certificate.",
        )
        self.behind = Counter(
            "c2c_changes_behind_total",
            "Changes that some connected instance had not followed a minute later, by what was "
            "missing: acked or served.",
            ["stage"],
            registry=registry,
        )
        for stage in (Stage.ACKED, Stage.SERVED):
            self.behind.labels(stage.value)


class CertificateInstruments:
    """What is measured about issuing certificates."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start with nothing measured; the series of all known labels exist."""
        self.issued = Counter(
            "c2c_certificates_issued_total",
            "Certificates issued, by reason: first of an instance, changed names, or renewed.",
            ["reason"],
            registry=registry,
        )
        self.issue_duration = Histogram(
            "c2c_certificate_issue_duration_seconds",
            "Time to make a key and issue a certificate for it.",
            buckets=ISSUE_LATENCIES,
            registry=registry,
        )
        self.issue_failures = Counter(
            "c2c_certificate_issue_failures_total",
            "Certificates that could not be issued, so that the old one stays in use.",
            registry=registry,
        )
        for reason in ISSUE_REASONS:
            self.issued.labels(reason)

    @contextmanager
    def issuing(self) -> Iterator[None]:
        """Measure the issuing of one certificate."""
        try:
            with self.issue_duration.time():
                yield
        except ControlPlaneError:
            self.issue_failures.inc()
            raise


class Metrics:
    """The instruments of one control plane."""

    def __init__(self) -> None:
        """Start with nothing measured."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        build = Info("c2c_build", "Version of this control plane.", registry=registry)
        build.info({"version": _version(), "python": platform.python_version()})
        self.streams = StreamInstruments(registry)
        self.changes = ChangeInstruments(registry)
        self.certificates = CertificateInstruments(registry)
        self.commit_duration = _latency(
            registry,
            "c2c_store_commit_duration_seconds",
            "Time of a transaction until it is on the disk.",
        )
        self.store_failures = Counter(
            "c2c_store_failures_total", "Transactions that were not written.", registry=registry
        )
        self.loop_lag = _latency(
            registry,
            "c2c_event_loop_lag_seconds",
            "How much later than it should a timer of the event loop ran.",
        )

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics, in the format that an ``Accept`` header prefers, and its type."""
        encode, media_type = choose_encoder(accept)
        return encode(_Scraped(self.registry)), media_type


class _Scraped(Collector):
    """The metrics that are exposed, without the series that tell when each counter was created."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric


def _by_type(registry: CollectorRegistry, name: str, what: str) -> Counter:
    return Counter(name, f"{what}, by resource type.", ["type"], registry=registry)


def _latency(registry: CollectorRegistry, name: str, text: str) -> Histogram:
    return Histogram(name, text, buckets=LATENCIES, registry=registry)


def _version() -> str:
    try:
        return version("c2c-control-plane")
    except PackageNotFoundError:
        return "unknown"
