"""Which certificate an instance shows, by the best witness that there is.

The rule of this module: the best witness is the sidecar beside the Envoy. The control plane
connects itself only where no sidecar reports, and only from an address that Envoy lets in: any
other handshake would fail and say nothing about the certificate.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.clock import Clock
from control_plane.model.state import State
from control_plane.names import C2C_PORT, InstanceGuid
from control_plane.reconciler.served.attestation import Attestation
from control_plane.reconciler.served.probe import Prober


class Sight:
    """Looks at the instances of the newest State."""

    def __init__(
        self,
        state: Callable[[], State],
        attestation: Attestation,
        clock: Clock,
        *,
        prober: Prober,
        source: str | None,
    ) -> None:
        """Look through these.

        Args:
            source: the address from which Envoys let the control plane connect; None if there is
                none.
        """
        self._state = state
        self._attestation = attestation
        self._clock = clock
        self._prober = prober
        self._source = source
        self._shown: dict[InstanceGuid, int | None] = {}

    def is_possible(self, instance: InstanceGuid) -> bool:
        """Tell whether anybody can look at an instance."""
        return self._attestation.witnessed(instance) or self._is_from_here(instance)

    def is_over(self, instance: InstanceGuid) -> bool:
        """Tell whether it means nothing what an instance shows, since it is about to stop."""
        return self._attestation.is_ending(instance)

    def last(self, instance: InstanceGuid) -> int | None:
        """Return the serial last seen, by the sidecar or the control plane; None if none was."""
        if self._attestation.witnessed(instance):
            return self._attestation.served(instance)
        return self._shown.get(instance)

    async def look(self, instance: InstanceGuid) -> int | str | None:
        """Return the serial that is shown, or why there is none; None if nobody can look."""
        if self._attestation.witnessed(instance):
            served = self._attestation.served(instance)
            nothing = f"its sidecar has no TLS handshake with port {C2C_PORT}"
            return served if served is not None else nothing
        known = self._state().instance(instance)
        if known is None or not self._is_from_here(instance):
            return None
        seen = await self._prober.served_serial(known.address, C2C_PORT, source=self._source)
        if self._state().instance(instance) is not None:
            self._shown[instance] = seen if isinstance(seen, int) else None
        return seen

    async def pause(self, instance: InstanceGuid, seconds: float, *, unheard: float) -> None:
        """Return when another look may be worth it.

        Args:
            instance: the instance.
            seconds: how long to wait if the control plane looks itself.
            unheard: how long to wait at most for the sidecar's next report, if it does not.
        """
        if self._attestation.witnessed(instance) or not self._is_from_here(instance):
            await self._attestation.news(instance, unheard)
        else:
            await self._clock.sleep(seconds)

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._shown.pop(instance, None)

    def _is_from_here(self, instance: InstanceGuid) -> bool:
        """Tell whether the control plane can look itself: both addresses are of the same family."""
        known = self._state().instance(instance)
        if self._source is None or known is None:
            return False
        return (":" in self._source) == (":" in known.address)
