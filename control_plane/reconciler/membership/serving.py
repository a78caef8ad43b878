"""Whether an Envoy has what it needs to serve other containers.

The rule of this module: if an Envoy refused something for its other ports (one may be taken), that
does not keep callers away from its C2C port. Everything that has yet to be answered is waited for,
so an instance becomes ready only once.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.envoy.clusters import service_cluster_name
from control_plane.envoy.listeners import listener_name
from control_plane.envoy.rbac import sources_filter_name
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import App
from control_plane.names import C2C_PORT
from control_plane.xds.delivery import ConfigStatus, Delivery, deliveries
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import Stream


def can_serve(streams: Iterable[Stream], snapshot: Snapshot, app: App) -> bool:
    """Tell whether an Envoy ACKed all that the C2C port needs, and answered for the rest.

    An Envoy asks for its certificate, on one of its streams, once it has a listener that names it.
    """
    streams = tuple(streams)
    if not any(SECRET in stream.machines for stream in streams):
        return False
    if all(stream.in_step(snapshot) for stream in streams):
        return True
    if not any(
        machine.exchange.was_refused(snapshot.of_type(url).resources)
        for stream in streams
        for url, machine in stream.machines.items()
    ):
        return False
    there = [each for stream in streams for each in deliveries(stream, snapshot)]
    return any(each.name == C2C_SECRET for each in there) and all(
        each.status is ConfigStatus.SYNCED
        or (each.status is ConfigStatus.ERROR and not _is_needed(each, app))
        for each in there
    )


def _is_needed(delivery: Delivery, app: App) -> bool:
    """Tell whether the C2C port needs a resource."""
    port = app.c2c_port
    if delivery.type_url == EXTENSION_CONFIG:
        return delivery.name.startswith(sources_filter_name(C2C_PORT, ""))
    return port is not None and (delivery.type_url, delivery.name) in {
        (SECRET, C2C_SECRET),
        (LISTENER, listener_name(port, C2C_PORT)),
        (CLUSTER, service_cluster_name(port)),
    }
