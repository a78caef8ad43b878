"""Which status an instance has, given what is known about it.

The rule of this module: an instance that says that it leaves is gone, whatever else is known. If no
sidecar ever reported for an instance, its status follows from what its Envoy ACKed. If the health
check of an app is its process, it does not matter whether the app listens. If the sidecar says that
its Envoy no longer serves, or drains, the instance is not ready at once; it gets no time to come
back, unlike an instance whose streams just broke. While it drains it may call others, since it may
have to before it can answer its last callers.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.model.entities import App, HealthCheckType, Instance, InstanceStatus


@dataclass(frozen=True, slots=True)
class Word:
    """What a sidecar last said about its instance.

    Attributes:
        listening: the app accepts connections.
        leaving: the instance has stopped, or is about to.
        not_serving: its Envoy has shown no certificate for a while, and should have.
        draining: the instance is about to stop, and answers its last callers.
    """

    listening: bool
    leaving: bool
    not_serving: bool = False
    draining: bool = False

    def says_healthy(self, app: App) -> bool:
        """Tell whether an instance of this app is healthy: it serves, and listens or need not."""
        app_is_well = self.listening or app.health_check_type is HealthCheckType.PROCESS
        return app_is_well and not self.takes_no_callers

    @property
    def takes_no_callers(self) -> bool:
        """Whether no name may lead to the instance, whatever its app does."""
        return self.not_serving or self.draining


@dataclass(frozen=True, slots=True)
class Sight:
    """What the control plane sees of an instance's Envoy.

    Attributes:
        connected: it has a stream.
        can_serve: on a stream that it still has, it ACKed all that it needs to serve.
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
    if word is not None and word.takes_no_callers and now.is_there:
        return InstanceStatus.NOT_READY
    if not sight.connected:
        return now
    if word is None and instance.has_sidecar:
        # What the sidecar said before the start led to this status, which holds until it speaks
        # again.
        return InstanceStatus.NOT_READY if now is InstanceStatus.REGISTERED else now
    if word is not None and not word.says_healthy(app):
        return InstanceStatus.NOT_READY
    if sight.can_serve:
        return InstanceStatus.READY
    return now if now.is_there else InstanceStatus.NOT_READY
