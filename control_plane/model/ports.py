"""Which port of Envoy leads to which port of the app.

The rule of this module: ports are allotted exactly as Cloud Foundry allots them
(``ProxyConfigHandler.ProxyPorts``), because tools parse them: in the order of the app's ports, from
61001 up, skipping every port of the app and 61443. The only difference is the app port that 61443
leads to: 8080 in Cloud Foundry, the app's ``c2c_port`` here, so that every app has one.
"""

from __future__ import annotations

from dataclasses import dataclass

from control_plane.model.entities import App, AppProtocol
from control_plane.names import C2C_PORT, Port

FIRST_PROXY_PORT = 61001
END_OF_PROXY_PORTS = 65534
"""The first port that is no longer allotted."""

SSH_PORT = Port(2222)
"""The port on which the SSH server beside an app listens."""


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port on which Envoy listens for a port of the app."""

    app_port: Port
    proxy_port: Port

    @property
    def is_c2c(self) -> bool:
        """Tell whether other containers use this port, with the certificate that has the routes."""
        return self.proxy_port == C2C_PORT


def port_mappings(app: App) -> tuple[PortMapping, ...]:
    """Return an app's port mappings in the order in which they are allotted."""
    ports = tuple(dict.fromkeys((*app.ports, SSH_PORT) if app.ssh else app.ports))
    free = (
        port
        for port in range(FIRST_PROXY_PORT, END_OF_PROXY_PORTS)
        if port != C2C_PORT and port not in ports
    )
    mappings = []
    for app_port in ports:
        mappings.append(PortMapping(app_port, Port(next(free))))
        if app_port == app.c2c_port:
            mappings.append(PortMapping(app_port, C2C_PORT))
    return tuple(mappings)


def forwarded(app: App) -> dict[PortMapping, AppProtocol]:
    """Return the ports of an app that its Envoys forward to, with the protocol of each."""
    mappings = port_mappings(app) if app.c2c_port is not None else ()
    return {each: _protocol(app, each.app_port) for each in mappings}


def _protocol(app: App, port: Port) -> AppProtocol:
    return AppProtocol.TCP if port == SSH_PORT and app.ssh else app.protocol
