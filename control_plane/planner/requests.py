"""What the certificates of an instance must say.

The rule of this module: a request follows from the State alone, so whether a certificate is still
right is one comparison.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.ca import C2CRequest, PortsRequest
from control_plane.model.entities import App, Instance
from control_plane.model.state import State
from control_plane.names import Hostname


def c2c_request(
    state: State, app: App, instance: Instance, lingering: Iterable[Hostname] = ()
) -> C2CRequest:
    """Return what a C2C certificate must say: the GUID, every internal route, the address.

    Args:
        lingering: routes that were unmapped while some resolver may still lead clients here.
    """
    return C2CRequest(
        instance_guid=instance.guid,
        app_guid=app.guid,
        org=app.key.org,
        space=app.key.space,
        hostnames=(*state.hostnames_of(app.guid), *lingering),
        index=instance.index,
        address=instance.address,
    )


def ports_request(app: App, instance: Instance) -> PortsRequest:
    """Return what the certificate on the ports from 61001 up must say: the GUID, the address."""
    return PortsRequest(
        instance_guid=instance.guid,
        app_guid=app.guid,
        org=app.key.org,
        space=app.key.space,
        address=instance.address,
    )
