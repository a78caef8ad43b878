"""What the services ask of the rest of the server, as narrow as they need it.

The rule of this module: a service knows the registry, and of the data plane only what stands here.
"""

from __future__ import annotations

from typing import Protocol

from control_plane.names import AppGuid
from control_plane.reconciler.progress import Behind, Stage


class Progress(Protocol):
    """Knows how far a change got."""

    async def wait(
        self, apps: frozenset[AppGuid], stage: Stage, timeout: float
    ) -> tuple[Behind, ...]:
        """Wait until every connected instance of some apps has reached a stage.

        Args:
            apps: whose instances to wait for.
            stage: how far they have to get with all that was committed before this call.
            timeout: seconds to wait at the most.

        Returns:
            those that had not got so far when the time was up.
        """
