"""Ends streams whose identity certificate is no longer the newest, or is about to expire.

The rule of this module: Envoy reopens its streams on the same TCP connection, and so with the old
certificate, unless that connection may carry one request only (the bootstrap says so). So after a
stream is ended, Envoy comes back with the files that the sidecar has renewed; if it does not, the
new stream is ended again. A further renewal does not give a stream that is about to end any more
time; otherwise a stream would stay open as long as its instance renews often enough. Timers notice
neither that the clock was set nor that the machine slept; if one of these happens, all timers are
set anew.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.clock import Clock
from control_plane.names import InstanceGuid
from control_plane.nodes import LiveStream, Nodes
from control_plane.reconciler.certificates.holdings import Holdings
from control_plane.server.access.certificate_end import CertificateEnds
from control_plane.server.access.identities import Identities

SETTLING_SECONDS = 2.0
"""How long a sidecar has to put its new certificate in place before the old stream is ended."""

_SUPERSEDED = "a newer certificate was issued to this instance"


class IdentityWatch(CertificateEnds):
    """Observes streams, and ends those whose certificate expires or has been superseded."""

    def __init__(
        self,
        nodes: Nodes,
        identities: Identities,
        holdings: Holdings,
        is_gone: Callable[[str], bool],
        clock: Clock,
    ) -> None:
        """Watch the streams of these nodes.

        Args:
            nodes: the nodes that have the streams.
            identities: knows the newest certificate of each instance.
            holdings: knows the certificate that each instance uses.
            is_gone: tells whether the CA of this name was retired.
            clock: tells which certificates expire.
        """
        super().__init__(clock)
        self._nodes = nodes
        self._holdings = holdings
        self._is_gone = is_gone
        self._identities = identities
        identities.on_renewal(self._renewed)

    def opened(self, live: LiveStream) -> None:
        """Set the moment at which a stream has to end."""
        super().opened(live)
        if live.credential is None:
            return
        instance = InstanceGuid(live.node_id)
        self._identities.connected(instance)
        if self._identities.is_superseded(instance, live.credential.serial):
            self._end_in(SETTLING_SECONDS, live, _SUPERSEDED)

    def authorities_changed(self) -> None:
        """End the streams of identities whose CA was retired; the clients must show another."""
        for live in self._nodes.all_streams():
            shown = self._holdings.identity(InstanceGuid(live.node_id))
            if shown is not None and self._is_gone(shown.issuer):
                self._end_in(0.0, live, "the CA of the client certificate was retired")

    def clock_jumped(self) -> None:
        """Set anew when each stream has to end, by the clock as it is now.

        Streams whose certificates have expired by that clock all end at once: if the clock is
        wrong, that concerns all instances, and in that case none of them counts as gone
        (``reconciler/membership/absences.py``).
        """
        for live in self._nodes.all_streams():
            if live.credential is not None:
                self._end_in_time(live, live.credential)

    def _renewed(self, instance: InstanceGuid) -> None:
        for live in self._nodes.streams(instance):
            self._end_in(SETTLING_SECONDS, live, _SUPERSEDED)
