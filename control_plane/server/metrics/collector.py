"""What is counted only on a scrape: how much there is of everything at that moment.

The rule of this module: a scrape costs the same whatever the fleet is doing, namely one pass over
the instances, with some microseconds for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.nodes import Nodes, Variant
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.server.access.applicants import Applicants
from control_plane.server.discovery.services import DiscoveryService
from control_plane.server.observability.feed import Feed
from control_plane.server.observability.name_audit import NameAudit

_CODES = (
    grpc.StatusCode.OK,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
)
"""The status codes with which streams end."""

_REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
)
"""The status codes with which enrolments are refused."""


@dataclass(frozen=True, slots=True)
class FleetCollector(Collector):
    """Counts apps, instances, certificates and streams."""

    state: Callable[[], State]
    nodes: Nodes
    ledger: Ledger
    feed: Feed
    name_audit: NameAudit

    def collect(self) -> Iterable[Metric]:
        """Yield the current numbers."""
        state = self.state()
        instances = tuple(state.instances.values())
        yield from _of_state(state, instances)
        yield from self._certificates(instances)
        variants = Counter(each.variant for each in self.nodes.all_streams())
        yield _by_label(
            GaugeMetricFamily(
                "c2c_xds_streams", "Open streams, by protocol variant.", labels=["variant"]
            ),
            {variant.value: variants[variant] for variant in Variant},
        )
        yield _counter(
            "c2c_xds_denied_names_total",
            "Resource names that clients asked for and may not see, or that do not exist.",
            self.name_audit.denied,
        )
        yield _gauge("c2c_event_watchers", "Who watches events.", self.feed.watchers)
        yield _counter(
            "c2c_events_lost_total", "Events that watchers were too slow for.", self.feed.lost
        )

    def _certificates(self, instances: Iterable[Instance]) -> Iterable[Metric]:
        certificates = [
            entry
            for each in instances
            if each.status is not InstanceStatus.GONE
            for entry in self.ledger.of(each.guid)
        ]
        states = Counter(each.state for each in certificates)
        yield _by_label(
            GaugeMetricFamily(
                "c2c_certificates",
                "Certificates of instances that are not gone, by how far they are.",
                labels=["state"],
            ),
            {each.value: states[each] for each in CertificateState},
        )
        end = min((each.record.not_after for each in certificates), default=None)
        if end is not None:
            yield _gauge(
                "c2c_certificate_earliest_expiry_timestamp_seconds",
                "When the first of these certificates expires.",
                end.timestamp(),
            )


@dataclass(frozen=True, slots=True)
class DiscoveryCollector(Collector):
    """Counts how streams ended."""

    discovery: DiscoveryService

    def collect(self) -> Iterable[Metric]:
        """Yield what was counted."""
        yield _by_label(
            CounterMetricFamily(
                "c2c_xds_streams_ended_total",
                "Streams that ended, by gRPC status.",
                labels=["code"],
            ),
            _by_code(self.discovery.ended),
        )
        yield _by_label(
            CounterMetricFamily(
                "c2c_xds_streams_refused_total",
                "Streams whose client was not let in, by gRPC status.",
                labels=["code"],
            ),
            _by_code(self.discovery.refused),
        )
        yield _counter(
            "c2c_xds_streams_forced_total",
            "Streams that a shutdown cut, since they had not ended in time.",
            self.discovery.forced,
        )


@dataclass(frozen=True, slots=True)
class EnrollmentCollector(Collector):
    """Counts how enrolments were refused."""

    applicants: Applicants

    def collect(self) -> Iterable[Metric]:
        """Yield what was counted."""
        yield _by_label(
            CounterMetricFamily(
                "c2c_enrollments_refused_total",
                "Enrolments that were refused, by gRPC status; RESOURCE_EXHAUSTED if there were "
                "too many.",
                labels=["code"],
            ),
            _by_code(self.applicants.refused, _REFUSALS),
        )


def _of_state(state: State, instances: Iterable[Instance]) -> Iterable[Metric]:
    statuses = Counter(each.status for each in instances)
    yield _gauge("c2c_apps", "Apps.", len(state.apps))
    yield _gauge("c2c_routes", "Route mappings.", _members(state.hostnames_by_app.values()))
    policies = _members(state.policies_by_source.values())
    yield _gauge("c2c_network_policies", "Network policies.", policies)
    yield _by_label(
        GaugeMetricFamily(
            "c2c_instances", "Instances, by where they are in their life.", labels=["status"]
        ),
        {status.value: statuses[status] for status in InstanceStatus},
    )


def _by_code(
    counts: Mapping[grpc.StatusCode, int], known: Iterable[grpc.StatusCode] = _CODES
) -> dict[str, int]:
    """Return counts by the name of the code, including those that are zero."""
    return {code.name: counts.get(code, 0) for code in (*known, *counts)}


def _members(lists: Iterable[tuple[object, ...]]) -> int:
    return sum(map(len, lists))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _by_label(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]
) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family
