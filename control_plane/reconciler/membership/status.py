"""Which status an instance has, by what is known of it.

The rule of this module: an instance that says that it leaves is gone, whatever else is known. If no
sidecar ever reported for an instance, its status follows from what its Envoy ACKed. Where the
health check of an app is its process, it does not matter whether the app listens. If the sidecar
says that its Envoy no longer serves, the instance is not ready at once; it gets no time to come
back, as an instance does whose streams just broke.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.model.entities import App, HealthCheckType, Instance, InstanceStatus


@dataclass(frozen=True, slots=True)
class Word:
    """What a sidecar said last of its instance.

    Attributes:
        listening: the app accepts connections.
        leaving: the instance is about to stop.
        not_serving: its Envoy has shown no certificate for a while, and did before.
    """

    listening: bool
    leaving: bool
    not_serving: bool = False

    def says_healthy(self, app: App) -> bool:
        """Tell whether an instance of this app is healthy: it serves, and listens or need not."""
        app_is_well = self.listening or app.health_check_type is HealthCheckType.PROCESS
        return app_is_well and not self.not_serving


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of the Envoy of an instance.

    Attributes:
        connected: it has a stream.
        can_serve: it ACKed, on one that it still has, all that it needs to serve.
        overdue: it has been away for too long.
    """

    connected: bool
    can_serve: bool
    overdue: bool


def status_of(instance: Instance, app: App, word: Word | None, sight: Sight) -> InstanceStatus:
    """Return the status that an instance of an app should have.

    Args:
        word: what its sidecar said since the control plane started; None if it said nothing.
    """
    now = instance.status
    if word is not None and word.leaving:
        return InstanceStatus.GONE
    if not sight.connected and sight.overdue and now.is_there:
        return InstanceStatus.GONE
    if word is not None and word.not_serving and now.is_there:
        return InstanceStatus.NOT_READY
    if not sight.connected:
        return now
    if word is None and instance.has_sidecar:
        # What it said before the start, which led to this status, holds until it speaks again.
        return InstanceStatus.NOT_READY if now is InstanceStatus.REGISTERED else now
    if word is not None and not word.says_healthy(app):
        return InstanceStatus.NOT_READY
    if sight.can_serve:
        return InstanceStatus.READY
    return now if now.is_there else InstanceStatus.NOT_READY
