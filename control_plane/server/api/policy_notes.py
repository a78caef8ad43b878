"""What a network policy does not do, which its author might expect it to.

The rule of this module: a policy may name any port, as in Cloud Foundry, also one that nobody
listens on; then the answer says so at once, before somebody looks for the reason elsewhere.
"""

from __future__ import annotations

from control_plane.model.entities import App, NetworkPolicy, Transport
from control_plane.model.ports import port_mappings
from control_plane.names import C2C_PORT


def policy_note(policy: NetworkPolicy, destination: App, *, unproxied: bool) -> str:
    """Return what to tell the author of a policy, or "" if it opens something.

    Args:
        destination: the app that it opens ports of.
        unproxied: whether Envoy listens on the app's own ports too.
    """
    listening = _listening(policy.transport, destination, unproxied=unproxied)
    if any(policy.start_port <= port <= policy.end_port for port in listening):
        return ""
    ports = (
        f"port {policy.start_port}"
        if policy.start_port == policy.end_port
        else f"ports {policy.start_port}-{policy.end_port}"
    )
    return (
        f"nothing listens on {policy.transport} {ports} of app {destination.key.name}: "
        f"{_advice(policy, destination, unproxied=unproxied)}"
    )


def _listening(transport: Transport, app: App, *, unproxied: bool) -> tuple[int, ...]:
    own = app.ports if unproxied else ()
    if transport is Transport.UDP:
        return own
    return (*(mapping.proxy_port for mapping in port_mappings(app)), *own)


def _advice(policy: NetworkPolicy, app: App, *, unproxied: bool) -> str:
    if not unproxied and any(policy.start_port <= port <= policy.end_port for port in app.ports):
        return (
            f"without --unproxied-port-mappings only ports with TLS are open, {C2C_PORT} for HTTPS"
        )
    listening = _listening(policy.transport, app, unproxied=unproxied)
    known = ", ".join(str(port) for port in sorted(listening)) or "none"
    return f"its {policy.transport} ports are: {known}"
