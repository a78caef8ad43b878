"""The certificates that an instance should have by now.

The rule of this module: what a certificate must say follows from the State. A held certificate that
says that and is not yet due for renewal stays. If a new one cannot be issued, the held one stays
too, and the moment of the next attempt is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import structlog

from control_plane import log_events
from control_plane.ca import Request
from control_plane.clock import Clock
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import App, Instance
from control_plane.model.state import State
from control_plane.names import Hostname, InstanceGuid
from control_plane.planner import SecretContent, c2c_request, ports_request
from control_plane.planner.ports import ID_SECRET
from control_plane.reconciler.certificates.custody import Custody
from control_plane.reconciler.certificates.renewals import RenewalQueue, Retries

_Facts = tuple[App, Instance, tuple[Hostname, ...], tuple[Hostname, ...]]
"""Everything that an instance's certificates follow from."""


class Certificates:
    """Has certificates issued when they are due, and says when to look again."""

    def __init__(
        self,
        custody: Custody,
        renewals: RenewalQueue,
        lingering: Callable[[Instance], Iterable[Hostname]],
        clock: Clock,
    ) -> None:
        """Start with nothing known.

        Args:
            custody: holds and issues the certificates.
            renewals: is told when to look at an instance again.
            lingering: returns the routes that the app has lost but that an instance's certificate
                must still have.
            clock: tells which certificates are due.
        """
        self._custody = custody
        self._renewals = renewals
        self._lingering = lingering
        self._clock = clock
        self._requests: dict[InstanceGuid, tuple[_Facts, Mapping[str, Request]]] = {}
        self._retries = Retries()
        self._log = structlog.get_logger(__name__)

    def of(self, state: State, instance: Instance) -> dict[str, SecretContent]:
        """Return the secrets of an instance by name; None for one that could not be issued yet."""
        requests = self._requests_of(state, instance)
        return {name: self._secret(instance, name, each) for name, each in requests.items()}

    def due(self, state: State, instance: Instance) -> dict[str, Request]:
        """Return what has to be issued for an instance, by the names of its secrets."""
        now = self._clock.now()
        return {
            name: each
            for name, each in self._requests_of(state, instance).items()
            if self._custody.is_due(instance.guid, name, each, now)
        }

    def forget_foreseen(self) -> None:
        """Forget the certificates that were issued for changes that were never made."""
        self._custody.forget_foreseen()

    def foresee(self, state: State, instance: Instance) -> None:
        """Issue the certificates that an instance will need once this State is on disk."""
        now = self._clock.now()
        for name, each in self._requests_of(state, instance).items():
            self._custody.foresee(instance.guid, name, each, now)

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed, and what was held for it."""
        self._renewals.forget(instance)
        self._retries.forget(instance)
        self._custody.drop(instance)
        self._requests.pop(instance, None)

    def _requests_of(self, state: State, instance: Instance) -> Mapping[str, Request]:
        """Return what an instance's certificates must say; cached, since most changes keep it."""
        app = state.apps[instance.app_guid]
        lingering = tuple(self._lingering(instance))
        facts = (app, instance, state.hostnames_of(app.guid), lingering)
        known = self._requests.get(instance.guid)
        if known is not None and known[0] == facts:
            return known[1]
        if known is not None and known[0][:2] == facts[:2]:
            of_ports = known[1][ID_SECRET]
        else:
            of_ports = ports_request(app, instance)
        requests = {C2C_SECRET: c2c_request(state, app, instance, lingering), ID_SECRET: of_ports}
        self._requests[instance.guid] = facts, requests
        return requests

    def _secret(self, instance: Instance, name: str, request: Request) -> SecretContent:
        now = self._clock.now()
        ensured = self._custody.ensure(instance.guid, name, request, now)
        where = {"instance": instance.guid, "app": instance.app_guid, "secret": name}
        if ensured.failure:
            self._log.error(log_events.CERTIFICATE_FAILED, **where, reason=ensured.failure)
            self._renewals.add(instance.guid, self._retries.failed(instance.guid, name, now))
        else:
            self._retries.succeeded(instance.guid, name)
        held = ensured.held
        if held is None:
            return None
        if not ensured.failure:
            self._renewals.add(instance.guid, held.renew_at)
        if ensured.is_fresh:
            self._log.info(
                log_events.CERTIFICATE_ISSUED,
                **where,
                serial=f"{held.serial:x}",
                version=held.version,
                names=len(request.san.dns),
            )
        return held.content
