"""The CAs as metrics: when they expire, and how far a rotation has got.

The rule of this module: roles are the only labels, and there are three of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.ca import Stage
from control_plane.server.ca_rotation.steps import CaRotation


@dataclass(frozen=True, slots=True)
class AuthorityCollector(Collector):
    """Tells when each CA expires, and for how many instances a rotation waits."""

    rotation: CaRotation

    def collect(self) -> Iterable[Metric]:
        """Yield the current values."""
        rotation = self.rotation.rotation
        ends = GaugeMetricFamily(
            "c2c_ca_expiry_timestamp_seconds", "When each CA ends, by its role.", labels=["role"]
        )
        ends.add_metric(["active"], rotation.active.not_after.timestamp())
        if rotation.other is not None:
            role = "prepared" if rotation.stage is Stage.PREPARED else "retiring"
            ends.add_metric([role], rotation.other.not_after.timestamp())
        yield ends
        look = self.rotation.look()
        yield GaugeMetricFamily(
            "c2c_ca_rotation_waiting_instances",
            "Instances that are not ready for the next step of a CA rotation.",
            value=len(look.at_once().waiting) if look is not None else 0,
        )
