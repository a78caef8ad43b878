"""When identities are renewed ahead of their time, so that they lead to the CA that signs now.

The rule of this module: after a CA has begun to sign, each instance has its turn, so that a fleet
does not come back at once. Everything that an instance may show counts: the identity that it shows,
and those that it was given since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from control_plane.ca import InstanceIdentity
from control_plane.clock import Clock
from control_plane.model.state import State
from control_plane.reconciler.certificates.holdings import IDENTITY, Holdings
from control_plane.reconciler.pace import IDENTITIES_PER_SECOND, turn
from control_plane.server.authorities import Authorities


@dataclass(frozen=True, slots=True)
class IdentityTurns:
    """Knows when each instance has its turn."""

    state: Callable[[], State]
    authorities: Authorities
    holdings: Holdings
    clock: Clock

    def renew_in(self, identity: InstanceIdentity) -> float | None:
        """Return in how many seconds it is the turn of the instance that shows an identity.

        None if everything that the instance may show leads to the CA that signs now.
        """
        signing = self.authorities.current()
        given = {
            each.issuer
            for each in self.holdings.possible(identity.instance_guid)
            if each.secret == IDENTITY
        }
        if identity.issuer == signing.subject and given <= {signing.fingerprint}:
            return None
        since, instances = self.authorities.rotation.since, len(self.state().instances)
        at = turn(identity.instance_guid, since, instances, per_second=IDENTITIES_PER_SECOND)
        return (at - self.clock.now()).total_seconds()
