"""How many instances an operator has to look at, for as long as that is so.

The rule of this module: these metrics are no counters. A counter tells that something happened, but
not whether it is still so. These go back once all is well, so an alert on them ends then and not
before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from control_plane.model.entities import InstanceStatus
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.server.observability.alarms import AlarmKind, InstanceAlarms


@dataclass(frozen=True, slots=True)
class AlarmCollector(Collector):
    """Counts instances that have an alarm, that are behind, or that are exposed.

    Attributes:
        is_current: tells whether an instance ACKed all that it should have, or is not connected.
        is_exposed: tells whether a sidecar reached its app past Envoy.
    """

    state: Callable[[], State]
    alarms: InstanceAlarms
    is_current: Callable[[InstanceGuid], bool]
    is_exposed: Callable[[InstanceGuid], bool]

    def collect(self) -> Iterable[Metric]:
        """Yield the current numbers."""
        counts: Counter[AlarmKind] = Counter()
        behind = exposed = 0
        for instance in self.state().instances.values():
            counts.update(kind for kind, _ in self.alarms.of(instance))
            behind += not self.is_current(instance.guid)
            is_gone = instance.status is InstanceStatus.GONE
            exposed += not is_gone and self.is_exposed(instance.guid)
        family = GaugeMetricFamily(
            "c2c_instance_alarms",
            "Instances with an alarm in their status, by what it is about.",
            labels=["kind"],
        )
        for kind in AlarmKind:
            family.add_metric([kind.value], counts[kind])
        yield family
        yield GaugeMetricFamily(
            "c2c_instances_behind",
            "Connected instances that have not ACKed all that they should have.",
            value=behind,
        )
        yield GaugeMetricFamily(
            "c2c_instances_exposed",
            "Instances whose app is reached past Envoy, where no policy holds.",
            value=exposed,
        )
