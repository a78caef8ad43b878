"""Why an app reaches another by name, or why it does not: each thing that has to be there, in turn.

The rule of this module: it concludes and does not look. What the State says it reads itself; what
is known of instances besides is handed in. A link that is missing is a cause: whatever only follows
from it is said to wait, so that the first link that is missing is the one to do something about.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.model.entities import App, Instance, InstanceStatus, NetworkPolicy, Transport
from control_plane.names import C2C_PORT, Hostname, Port
from control_plane.planner import advice
from control_plane.planner.chain import Link, LinkKind, Question, Seen, Verdict


def explain(question: Question) -> tuple[Link, ...]:
    """Return every link of the chain, in the order in which a request needs them."""
    if question.destination is None:
        return (_unmapped_name(question),)
    chain = _Chain(question, question.destination)
    caller = () if question.source is None else (chain.caller(question.source),)
    return (
        *caller,
        chain.name(),
        chain.policy(),
        chain.port(),
        chain.certificate(),
        chain.app(),
        chain.isolation(),
    )


def first_missing(links: Iterable[Link]) -> Link | None:
    """Return the link to do something about; None if nothing is known to be missing."""
    return next((link for link in links if link.verdict is Verdict.MISSING), None)


def _unmapped_name(question: Question) -> Link:
    sentence = f"no app has the route {question.route}"
    command = advice.map_route(question.route, None)
    return Link(LinkKind.NAME, Verdict.MISSING, sentence, command)


class _Chain:
    """The links to one app."""

    def __init__(self, question: Question, app: App) -> None:
        self._q = question
        self._app = app
        self._all = question.state.instances_of(app.guid)
        self._there = tuple(i for i in self._all if i.status is not InstanceStatus.GONE)

    def caller(self, source: App) -> Link:
        instances = self._q.state.instances_of(source.guid)
        there = [each for each in instances if each.status is not InstanceStatus.GONE]
        if not there:
            how = "every instance of it is gone" if instances else "it has no instances"
            return _missing(
                LinkKind.CALLER,
                f"no instance of {source.key.name} can call: {how}",
                advice.join_token(source),
            )
        addresses = ", ".join(each.address for each in there)
        return _holds(LinkKind.CALLER, f"{source.key.name} calls from {addresses}")

    def name(self) -> Link:
        name, route = self._app.key.name, self._q.route
        if not route:
            command = advice.map_route(Hostname(""), self._app)
            return _missing(LinkKind.NAME, f"no internal route is mapped to {name}", command)
        if not route.endswith(tuple(f".{domain}" for domain in self._q.domains)):
            domains = ", ".join(self._q.domains)
            return _missing(
                LinkKind.NAME,
                f"{route} is below no internal domain ({domains}), so it is not answered",
                advice.map_route(Hostname(f"{name}.{self._q.domains[0]}"), self._app),
            )
        if not self._there:
            how = f"every instance of {name} is gone" if self._all else f"{name} has no instances"
            return _missing(
                LinkKind.NAME, f"{route} leads nowhere: {how}", advice.join_token(self._app)
            )
        ready = [each for each in self._there if each.status is InstanceStatus.READY]
        if route not in self._q.published(self._app.guid):
            return _waits(LinkKind.NAME, f"{route} resolves once its certificates are ACKed")
        if not ready:
            return _waits(LinkKind.NAME, f"{route} resolves once an instance of {name} is ready")
        uncertified = self._q.uncertified(self._app.guid)
        able = [each for each in ready if (route, each.guid) not in uncertified]
        if not able:
            return _waits(
                LinkKind.NAME, f"{route} resolves once an instance of {name} has its certificate"
            )
        return self._resolved(", ".join(each.address for each in able))

    def _resolved(self, addresses: str) -> Link:
        source, route = self._q.source, self._q.route
        if source is None:
            return _holds(LinkKind.NAME, f"{route} leads to {addresses}")
        if source != self._app and not self._policies():
            sentence = f"{route} is not answered to {source.key.name} before a policy is there"
            return _waits(LinkKind.NAME, sentence)
        for each in self._q.state.instances_of(source.guid):
            if problem := self._q.of(each).names_problem:
                return _missing(
                    LinkKind.NAME,
                    f"the resolver of {_called(source, each)} has not the newest names: {problem}",
                    advice.status(source),
                )
        return _holds(LinkKind.NAME, f"{route} leads to {addresses}")

    def policy(self) -> Link:
        name, source = self._app.key.name, self._q.source
        if source is None:
            callers = dict.fromkeys(
                self._q.state.apps[each.source].key.name
                for each in self._q.state.policies_to(self._app.guid)
                if each.allows(Transport.TCP, C2C_PORT)
            )
            if callers:
                who = ", ".join(callers)
                return _holds(LinkKind.POLICY, f"{who} may connect to tcp {C2C_PORT} of {name}")
            sentence = f"no network policy lets anybody connect to tcp {C2C_PORT} of {name}"
            return _missing(LinkKind.POLICY, sentence, advice.add_policy(None, self._app))
        ends = f"{source.key.name} connect to"
        if any(each.allows(Transport.TCP, C2C_PORT) for each in self._policies()):
            return _holds(LinkKind.POLICY, f"a network policy lets {ends} tcp {C2C_PORT} of {name}")
        if others := ", ".join(map(_ports, self._policies())):
            sentence = f"network policies let {ends} {others} of {name}, but not to tcp {C2C_PORT}"
        else:
            sentence = f"no network policy lets {ends} {name}"
        return _missing(LinkKind.POLICY, sentence, advice.add_policy(source, self._app))

    def port(self) -> Link:
        name, c2c_port = self._app.key.name, self._app.c2c_port
        if c2c_port is None:
            sentence = f"{C2C_PORT} leads to no port of {name}: it runs on {self._app.os.value}"
            return _missing(LinkKind.PORT, sentence)
        for each in self._there:
            seen, who = self._q.of(each), _called(self._app, each)
            if not seen.is_connected and each.status is InstanceStatus.REGISTERED:
                sentence = f"nothing listens on {each.address}: the Envoy of {who} never connected"
                return _missing(LinkKind.PORT, sentence, advice.join_token(self._app))
            if seen.port_problem:
                sentence = f"the Envoy of {who} has not opened {C2C_PORT}: {seen.port_problem}"
                return _missing(LinkKind.PORT, sentence, advice.status(self._app))
            if (other := _other_port(seen, c2c_port)) is not None:
                sentence = f"{C2C_PORT} leads to port {c2c_port} of {who}, which listens on {other}"
                return _missing(LinkKind.PORT, sentence, advice.update_port(self._app, other))
        return self._by_connected(
            LinkKind.PORT, f"{C2C_PORT} is open and leads to port {c2c_port} of the app"
        )

    def certificate(self) -> Link:
        for each in self._there:
            if problem := self._q.of(each).certificate_problem:
                sentence = f"{_called(self._app, each)} has no certificate for it yet: {problem}"
                return _missing(LinkKind.CERTIFICATE, sentence, advice.wait(self._app))
        named = f" with {self._q.route}" if self._q.route else ""
        return self._by_connected(
            LinkKind.CERTIFICATE, f"every instance serves its certificate{named}"
        )

    def app(self) -> Link:
        if not self._there:
            return _waits(LinkKind.APP, f"there is no instance of {self._app.key.name} to ask")
        for each in self._there:
            ports = self._q.of(each).app_ports
            who = _called(self._app, each)
            if ports is None:
                sentence = f"no sidecar tells whether {who} accepts connections"
                return Link(LinkKind.APP, Verdict.UNKNOWN, sentence)
            if closed := ", ".join(str(port) for port, accepts in ports.items() if not accepts):
                sentence = f"{who} does not accept connections on {each.app_address}:{closed}"
                return _missing(LinkKind.APP, sentence, advice.wait(self._app))
        return _holds(LinkKind.APP, "every instance accepts connections from its Envoy")

    def isolation(self) -> Link:
        for each in self._there:
            for port in self._q.of(each).exposed_ports:
                sentence = (
                    f"{_called(self._app, each)} can be reached past Envoy on "
                    f"{each.address}:{port}, where no network policy holds: have it listen on "
                    "127.0.0.1 only"
                )
                return _missing(LinkKind.ISOLATION, sentence, advice.status(self._app))
        if any(self._q.of(each).app_ports is None for each in self._there):
            sentence = "no sidecar tells whether the app can be reached past Envoy"
            return Link(LinkKind.ISOLATION, Verdict.UNKNOWN, sentence)
        return _holds(LinkKind.ISOLATION, "the app cannot be reached past Envoy")

    def _policies(self) -> tuple[NetworkPolicy, ...]:
        """Return what lets the source connect to the app at all."""
        source = self._q.source
        policies = self._q.state.policies_to(self._app.guid)
        return tuple(each for each in policies if source and each.source == source.guid)

    def _by_connected(self, kind: LinkKind, sentence: str) -> Link:
        """Conclude that something holds, as far as the instances are there to tell."""
        if not self._there:
            return _waits(kind, f"there is no instance of {self._app.key.name} to ask")
        for each in self._there:
            if not self._q.of(each).is_connected:
                who = _called(self._app, each)
                gone_on = f"the Envoy of {who} is not connected, and goes on with what it had"
                return Link(kind, Verdict.UNKNOWN, gone_on)
        return _holds(kind, sentence)


def _other_port(seen: Seen, c2c_port: Port) -> Port | None:
    """Return the port on which the app listens instead of the one that 61443 leads to."""
    ports = seen.app_ports or {}
    if ports.get(c2c_port):
        return None
    return next((port for port, accepts in ports.items() if accepts), None)


def _called(app: App, instance: Instance) -> str:
    return f"{app.key.name}/{instance.index}"


def _ports(policy: NetworkPolicy) -> str:
    last = "" if policy.start_port == policy.end_port else f"-{policy.end_port}"
    return f"{policy.transport.value} {policy.start_port}{last}"


def _holds(kind: LinkKind, sentence: str) -> Link:
    return Link(kind, Verdict.HOLDS, sentence)


def _waits(kind: LinkKind, sentence: str) -> Link:
    return Link(kind, Verdict.WAITS, sentence)


def _missing(kind: LinkKind, sentence: str, command: str = "") -> Link:
    return Link(kind, Verdict.MISSING, sentence, command)
