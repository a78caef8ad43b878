"""What is wrong with an instance and does not mend itself, so that an operator has to look at it.

The rule of this module: it records nothing. The status of an instance shows the sentence of an
alarm, and the metrics count alarms by kind. Both come from here, so neither can know of an alarm
that the other does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from control_plane.model.entities import Instance, InstanceStatus
from control_plane.names import InstanceGuid
from control_plane.nodes import Nodes
from control_plane.reconciler.membership.status import Word
from control_plane.reconciler.served.attestation import Attestation

_SILENT = "its sidecar reports no more, and renews no identity: restart it, unless it is cut off"

_ENVOYLESS = (
    "it counts as gone, because its Envoy is not connected, although its sidecar reports: the "
    "sidecar's log says why (envoy.logged); if it does not, Envoy hangs, so restart it"
)


class AlarmKind(Enum):
    """What an alarm of an instance is about."""

    PLAN_FAILED = "plan_failed"
    """The resources that the instance should have cannot be made."""

    SIDECAR_SILENT = "sidecar_silent"
    """The instance's Envoy goes on serving without its sidecar."""

    ENVOY_AWAY = "envoy_away"
    """The instance's sidecar reports, but its Envoy is not connected."""


@dataclass(frozen=True, slots=True)
class InstanceAlarms:
    """Tells the alarms of an instance, except those on expiring certificates (see ``Expiry``).

    Attributes:
        plan_failure: says why an instance keeps an old plan; "" if it does not.
        word: returns what a sidecar said last about its instance; None if it said nothing.
    """

    plan_failure: Callable[[InstanceGuid], str]
    word: Callable[[InstanceGuid], Word | None]
    nodes: Nodes
    attestation: Attestation

    def of(self, instance: Instance) -> Iterator[tuple[AlarmKind, str]]:
        """Yield each alarm of an instance, with the sentence that describes it."""
        if failure := self.plan_failure(instance.guid):
            yield AlarmKind.PLAN_FAILED, f"it goes on with what it had: {failure}"
        is_here = instance.status.is_there and self.nodes.streams(instance.guid)
        if is_here and self.attestation.fell_silent(instance.guid):
            yield AlarmKind.SIDECAR_SILENT, _SILENT
        if instance.status is InstanceStatus.GONE and self._speaks(instance.guid):
            yield AlarmKind.ENVOY_AWAY, _ENVOYLESS

    def _speaks(self, instance: InstanceGuid) -> bool:
        """Tell whether a sidecar reports and is not about to end."""
        word = self.word(instance)
        is_ending = word is not None and (word.leaving or word.draining)
        return self.attestation.witnessed(instance) and not is_ending
