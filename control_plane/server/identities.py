"""Identity certificates: issued to who proved to be an instance, replaced before they end.

The rule of this module: an instance is known by its newest certificate. A stream that was opened
with an older one is ended once there is a newer, and any stream before its certificate ends; Envoy
then comes back with the files that its sidecar has renewed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from control_plane.ca import (
    Authority,
    IdentityRequest,
    Leaf,
    Profile,
    PublicKey,
    TrustDomain,
    issue,
)
from control_plane.clock import Clock
from control_plane.model.entities import App, Instance
from control_plane.names import InstanceGuid

STARTING = timedelta(seconds=30)
"""How long an instance may take from its enrolment to its first stream."""


class Identities:
    """Issues identity certificates, and remembers the newest of each instance."""

    def __init__(
        self,
        authority: Authority,
        trust_domain: TrustDomain,
        *,
        profile: Profile,
        new_serial: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Start without having issued any."""
        self._authority = authority
        self._profile = profile
        self._new_serial = new_serial
        self._clock = clock
        self._newest: dict[InstanceGuid, int] = {}
        self._issued_at: dict[InstanceGuid, datetime] = {}
        self._renewed: list[Callable[[InstanceGuid], None]] = []
        self.trust_domain = trust_domain

    def on_renewal(self, callback: Callable[[InstanceGuid], None]) -> None:
        """Call this whenever an instance got a newer certificate."""
        self._renewed.append(callback)

    def issue(self, app: App, instance: Instance, key: PublicKey) -> Leaf:
        """Issue the certificate that proves to be this instance, for a key that never left it.

        Raises:
            IssuanceError: the CA cannot issue now.
        """
        request = IdentityRequest(
            trust_domain=self.trust_domain,
            instance_guid=instance.guid,
            app_guid=app.guid,
            org=app.key.org,
            space=app.key.space,
            address=instance.address,
        )
        leaf = issue(
            self._authority,
            self._profile,
            request,
            key=key,
            now=self._clock.now(),
            serial=self._new_serial(),
        )
        self._newest[instance.guid] = leaf.serial
        self._issued_at[instance.guid] = self._clock.now()
        for callback in self._renewed:
            callback(instance.guid)
        return leaf

    def is_superseded(self, instance: InstanceGuid, serial: int) -> bool:
        """Tell whether a newer certificate than this was issued to an instance.

        After a restart nothing is known of earlier ones, and none is called old.
        """
        return self._newest.get(instance, serial) != serial

    def is_starting(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance has had its certificate for so short that it may yet connect."""
        at = self._issued_at.get(instance)
        return at is not None and self._clock.now() - at < STARTING

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._newest.pop(instance, None)
        self._issued_at.pop(instance, None)

    def now(self) -> datetime:
        """Return the moment by which certificates end."""
        return self._clock.now()
