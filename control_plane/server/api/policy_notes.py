"""What a network policy does not do although its author might expect it to.

The rule of this module: as in Cloud Foundry, a policy may name any port, even one that nothing
listens on. In that case the answer says so at once, before somebody looks for the reason elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from control_plane.model.entities import App, NetworkPolicy, Transport
from control_plane.model.ports import port_mappings
from control_plane.names import C2C_PORT


@dataclass(frozen=True, slots=True)
class Opening:
    """What a policy can open of an app, as the operator decided.

    Attributes:
        unproxied: whether Envoy listens on the app's own ports too.
        by_certificate: whether the ports from 61001 up admit routers, by their certificates.
    """

    unproxied: bool = False
    by_certificate: bool = False


def policy_note(policy: NetworkPolicy, destination: App, opening: Opening) -> str:
    """Return what to tell the author of a policy, or "" if the policy opens something.

    Args:
        destination: the app whose ports the policy opens.
        opening: what can be opened.
    """
    mappings = port_mappings(destination) if policy.transport is Transport.TCP else ()
    is_open = [each for each in mappings if each.is_c2c or not opening.by_certificate]
    own = destination.ports if opening.unproxied else ()
    listening = (*(each.proxy_port for each in is_open), *own)
    if _covers(policy, listening):
        return ""
    ports = (
        f"port {policy.start_port}"
        if policy.start_port == policy.end_port
        else f"ports {policy.start_port}-{policy.end_port}"
    )
    of = f"{policy.transport} {ports} of app {destination.key.name}"
    if _covers(policy, [each.proxy_port for each in mappings]):
        return (
            f"no policy opens {of}: with --router-ca routers connect there, by their certificates"
        )
    return f"nothing listens on {of}: {_advice(policy, destination, opening, listening)}"


def _covers(policy: NetworkPolicy, ports: Iterable[int]) -> bool:
    return any(policy.start_port <= port <= policy.end_port for port in ports)


def _advice(policy: NetworkPolicy, app: App, opening: Opening, listening: Iterable[int]) -> str:
    if not opening.unproxied and _covers(policy, app.ports):
        return (
            f"without --unproxied-port-mappings only ports with TLS are open, {C2C_PORT} for HTTPS"
        )
    known = ", ".join(str(port) for port in sorted(listening)) or "none"
    return f"its {policy.transport} ports are: {known}"
