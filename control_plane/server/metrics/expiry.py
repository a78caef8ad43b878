"""How many certificates expire soon, for alerts.

The rule of this module: each kind is there from the start, so that an alert can be written for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.reconciler.certificates.expiry import Expiry, Kind


@dataclass(frozen=True, slots=True)
class ExpiryCollector(Collector):
    """Counts the alarms that the last look at all certificates found."""

    expiry: Expiry

    def collect(self) -> Iterable[Metric]:
        """Yield the count of each kind."""
        counts = Counter(each.kind for each in self.expiry.alarms)
        family = GaugeMetricFamily(
            "c2c_certificates_expiring",
            "Certificates in use that end soon and were not replaced in time, by kind.",
            labels=["kind"],
        )
        for kind in Kind:
            family.add_metric([kind.value], counts[kind])
        yield family
