"""Why an app reaches another by name, or does not: each thing that has to be there, in turn.

The rule of this module: it draws conclusions and looks at nothing. It reads the State itself; what
else is known of instances is handed in. A link that is missing is a cause. A link that only follows
from missing ones is said to wait, so the first missing link is the one to do something about.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.model.entities import (
    App,
    AppProtocol,
    InstanceStatus,
    NetworkPolicy,
    Transport,
)
from control_plane.names import C2C_PORT, Port, at_ports
from control_plane.planner import advice
from control_plane.planner.chain import (
    Link,
    LinkKind,
    Question,
    Seen,
    Verdict,
    holds,
    label,
    listed,
    missing,
    remaining,
    unknown,
    waits,
)
from control_plane.planner.families import other_families
from control_plane.planner.resolution import departed, resolved, unresolved

_TAKEN = "Address already in use"
"""What Envoy quotes from Linux when another program has a port (EADDRINUSE)."""

_SPOKEN = {
    AppProtocol.HTTP1: "which speaks http1 to it",
    AppProtocol.HTTP2: "which speaks http2 to it",
    AppProtocol.TCP: "which passes bytes on to it",
}


def explain(question: Question) -> tuple[Link, ...]:
    """Return every link of the chain, in the order in which a request needs them."""
    if question.destination is None:
        return (unresolved(question),)
    chain = _Chain(question, question.destination)
    caller = () if question.source is None else (chain.caller(question.source),)
    return (
        *caller,
        resolved(question, question.destination),
        chain.policy(),
        chain.port(),
        chain.certificate(),
        chain.app(),
        chain.isolation(),
    )


def first_missing(links: Iterable[Link]) -> Link | None:
    """Return the link to act on, or else the one to wait for; None if there is neither."""
    links = tuple(links)
    for verdict in (Verdict.MISSING, Verdict.WAITS):
        for link in links:
            if link.verdict is verdict:
                return link
    return None


class _Chain:
    """The links that lead to one app."""

    def __init__(self, question: Question, app: App) -> None:
        self._q = question
        self._app = app
        # Nobody has to do anything about an instance that is about to stop.
        there = remaining(question.instances_of(app))
        self._there = tuple(each for each in there if not question.of(each).is_draining)

    def caller(self, source: App) -> Link:
        instances = self._q.state.instances_of(source.guid)
        there, nobody = remaining(instances), f"no instance of {source.key.name} can call"
        if there:
            addresses = listed(each.address for each in there)
            return holds(LinkKind.CALLER, f"{source.key.name} calls from {addresses}")
        if instances:
            return departed(LinkKind.CALLER, f"{nobody}: every instance of it is gone", source)
        command = advice.join_token(source)
        return missing(LinkKind.CALLER, f"{nobody}: it has no instances", command)

    def policy(self) -> Link:
        name, source = self._app.key.name, self._q.source
        if source is None:
            callers = dict.fromkeys(
                self._q.state.apps[each.source].key.named_in(self._app.key.place)
                for each in self._q.state.policies_to(self._app.guid)
                if each.allows(Transport.TCP, C2C_PORT)
            )
            if callers:
                who = listed(callers)
                return holds(LinkKind.POLICY, f"{who} may connect to tcp {C2C_PORT} of {name}")
            sentence = f"no network policy lets anybody connect to tcp {C2C_PORT} of {name}"
            return missing(LinkKind.POLICY, sentence, advice.add_policy(None, self._app))
        whose = self._app.key.named_in(source.key.place)
        ends = f"{source.key.name} connect to"
        policies = [
            each for each in self._q.state.policies_to(self._app.guid) if each.source == source.guid
        ]
        if any(each.allows(Transport.TCP, C2C_PORT) for each in policies):
            if apart := other_families(self._q, source, self._app):
                return apart
            return holds(LinkKind.POLICY, f"a network policy lets {ends} tcp {C2C_PORT} of {whose}")
        if others := listed(map(_ports, policies)):
            sentence = f"network policies let {ends} {others} of {whose}, but not to tcp {C2C_PORT}"
        else:
            sentence = f"no network policy lets {ends} {whose}"
        return missing(LinkKind.POLICY, sentence, advice.add_policy(source, self._app))

    def port(self) -> Link:
        name, c2c_port = self._app.key.name, self._app.c2c_port
        if c2c_port is None:
            sentence = f"{C2C_PORT} leads to no port of {name}: it runs on {self._app.os.value}"
            return missing(LinkKind.PORT, sentence)
        for each in self._there:
            seen, who = self._q.of(each), label(self._app, each)
            if not seen.is_connected and each.status is InstanceStatus.REGISTERED:
                sentence = f"nothing listens on {each.address}: the Envoy of {who} never connected"
                command, start = advice.join_token(self._app), "start its sidecar with a token"
                return missing(LinkKind.PORT, sentence, command, start)
            if seen.plan_problem:
                sentence = f"the Envoy of {who} goes on with what it had: {seen.plan_problem}"
                return missing(LinkKind.PORT, sentence, advice.status(self._app))
            if seen.port_problem:
                sentence = f"the Envoy of {who} has not opened {C2C_PORT}: {seen.port_problem}"
                if _TAKEN in seen.port_problem:
                    return missing(LinkKind.PORT, sentence, advice=advice.how_to_free(each))
                return missing(LinkKind.PORT, sentence, advice.status(self._app))
            if (other := _other_port(seen, c2c_port)) is not None:
                sentence = f"{C2C_PORT} leads to port {c2c_port} of {who}, which listens on {other}"
                return missing(LinkKind.PORT, sentence, advice.update_port(self._app, other))
        return self._by_connected(
            LinkKind.PORT, f"{C2C_PORT} is open and leads to port {c2c_port} of the app"
        )

    def certificate(self) -> Link:
        for each in self._there:
            seen, who = self._q.of(each), label(self._app, each)
            if seen.certificate_problem:
                sentence = f"{who} has no certificate for it yet: {seen.certificate_problem}"
                return missing(LinkKind.CERTIFICATE, sentence, advice.wait(self._app))
            if seen.serving_problem:
                sentence = f"{who} does not serve the certificate that it ACKed: "
                return missing(
                    LinkKind.CERTIFICATE,
                    sentence + seen.serving_problem,
                    advice=advice.how_to_serve(each),
                )
        named = f" with {self._q.called}" if self._q.called else ""
        found = self._by_connected(
            LinkKind.CERTIFICATE, f"{self._everybody()} serves its certificate{named}"
        )
        if found.verdict is not Verdict.HOLDS:
            return found
        return self._unproven() or found

    def _unproven(self) -> Link | None:
        """Return what has not been seen yet, or cannot be: an ACK means accepted, not applied."""
        by_sight = {self._q.of(each).is_served: each for each in self._there}
        if False in by_sight:
            who = label(self._app, by_sight[False])
            sentence = f"{who} ACKed its certificate, and is not seen to serve it yet"
            return waits(LinkKind.CERTIFICATE, sentence)
        if None in by_sight:
            who = label(self._app, by_sight[None])
            sentence = f"{who} ACKed its certificate, and nobody can look whether it serves it"
            return unknown(LinkKind.CERTIFICATE, sentence)
        return None

    def app(self) -> Link:
        if not self._there:
            return self._nobody_to_ask(LinkKind.APP)
        for each in self._there:
            ports = self._q.of(each).app_ports
            who = label(self._app, each)
            if ports is None:
                sentence = f"no sidecar tells whether {who} accepts connections"
                return unknown(LinkKind.APP, sentence)
            leads_to = ports.get(self._app.c2c_port) if self._app.c2c_port else None
            if each.status is InstanceStatus.READY and leads_to:
                continue  # other ports may be closed, but 61443 does not lead there
            if closed := tuple(port for port, accepts in ports.items() if not accepts):
                where = at_ports(each.app_address, *closed)
                sentence = f"{who} does not accept connections on {where}"
                return missing(
                    LinkKind.APP, sentence, advice=advice.how_to_start(self._app, where, closed)
                )
        # Nobody checks whether the app speaks this protocol, so the sentence says which one it is.
        how = _SPOKEN[self._app.protocol]
        return holds(LinkKind.APP, f"{self._everybody()} accepts connections from its Envoy, {how}")

    def isolation(self) -> Link:
        if not self._there:
            return self._nobody_to_ask(LinkKind.ISOLATION)
        for each in self._there:
            for port in self._q.of(each).exposed_ports:
                sentence = (
                    f"{label(self._app, each)} can be reached past Envoy on tcp "
                    f"{at_ports(each.address, port)}, where no network policy holds"
                )
                return missing(LinkKind.ISOLATION, sentence, advice=advice.how_to_hide(each))
        if any(self._q.of(each).app_ports is None for each in self._there):
            sentence = "no sidecar tells whether the app can be reached by TCP past Envoy"
            return unknown(LinkKind.ISOLATION, sentence)
        return holds(LinkKind.ISOLATION, "the app cannot be reached by TCP past Envoy")

    def _by_connected(self, kind: LinkKind, sentence: str) -> Link:
        """Conclude that something holds, provided that all instances are connected."""
        if not self._there:
            return self._nobody_to_ask(kind)
        for each in self._there:
            if not self._q.of(each).is_connected:
                who = label(self._app, each)
                gone_on = f"the Envoy of {who} is not connected, and goes on with what it had"
                return unknown(kind, gone_on)
        return holds(kind, sentence)

    def _nobody_to_ask(self, kind: LinkKind) -> Link:
        name, index = self._app.key.name, self._q.index
        if index is None:
            return waits(kind, f"there is no instance of {name} to ask")
        return waits(kind, f"{name}/{index} is not there to ask")

    def _everybody(self) -> str:
        index = self._q.index
        return "every instance" if index is None else f"{self._app.key.name}/{index}"


def _other_port(seen: Seen, c2c_port: Port) -> Port | None:
    """Return the port on which the app listens instead of the one that 61443 leads to."""
    ports = seen.app_ports or {}
    if ports.get(c2c_port):
        return None
    return next((port for port, accepts in ports.items() if accepts), None)


def _ports(policy: NetworkPolicy) -> str:
    last = "" if policy.start_port == policy.end_port else f"-{policy.end_port}"
    return f"{policy.transport.value} {policy.start_port}{last}"
