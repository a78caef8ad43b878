"""What has to be there for one app to reach another by name, as values.

The rule of this module: it only defines what questions and answers consist of. ``explain`` and
``resolution`` draw the conclusions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from control_plane.model.entities import App, Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import Address, Domain, Hostname, InstanceGuid, Port
from control_plane.planner.names import PublishedNames, UncertifiedNames, none_uncertified

MOST_LISTED = 10
"""How many names one sentence lists: an app may have thousands of instances, and of callers."""


class LinkKind(StrEnum):
    """What has to be there, in the order in which a request needs it."""

    CALLER = "caller"
    """The calling app has an instance that may call."""

    NAME = "name"
    """The name leads to instances."""

    POLICY = "policy"
    """A network policy lets the caller connect."""

    PORT = "port"
    """Envoy has opened 61443 for it, and forwards to a port of the app."""

    CERTIFICATE = "certificate"
    """Every instance serves a certificate with the name."""

    APP = "app"
    """The app accepts connections."""

    ISOLATION = "isolation"
    """Nothing reaches the app by TCP except through this port; UDP is not checked."""


class Verdict(StrEnum):
    """What is known about a link."""

    UNKNOWN = "unknown"
    """Nobody can tell."""

    HOLDS = "holds"
    WAITS = "waits"
    """It follows by itself once the missing links are there."""

    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain.

    Attributes:
        sentence: what is the case.
        command: the ``c2c`` arguments that help; "" if there are none.
        advice: what to do besides the command, or instead where no command helps; "" if the command
            is enough.
    """

    kind: LinkKind
    verdict: Verdict
    sentence: str
    command: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one instance besides the State; the defaults say that nothing is.

    Attributes:
        is_connected: whether its Envoy has a stream.
        plan_problem: why the instance goes on with an old plan; "" if it has the newest one.
        port_problem: why its Envoy has not opened 61443 as it should; "" if it has.
        certificate_problem: why the instance cannot serve the certificate that it should; "" if it
            can.
        serving_problem: why it does not serve that certificate although it could; "" if it does, or
            if that is unknown.
        is_served: whether a handshake showed that certificate; None if nobody can look.
        names_problem: why its resolver does not have the newest names; "" if it has them, or if the
            instance has no resolver.
        app_ports: for each port of the app that was tried, whether it accepts connections; None if
            nobody tries.
        exposed_ports: the TCP ports of the app that are open past Envoy.
        is_draining: whether it is about to stop, so that no name leads to it.
    """

    is_connected: bool = False
    plan_problem: str = ""
    port_problem: str = ""
    certificate_problem: str = ""
    serving_problem: str = ""
    is_served: bool | None = None
    names_problem: str = ""
    app_ports: Mapping[Port, bool] | None = None
    exposed_ports: tuple[Port, ...] = ()
    is_draining: bool = False


_UNSEEN = Seen()


@dataclass(frozen=True, slots=True)
class Question:
    """Which app wants to reach which.

    Attributes:
        source: the app that connects; None if the question is about no app in particular.
        destination: the app to reach; None if no app has the route or the address.
        route: the name that is used; "" if the app has none, or an address is used.
        published: returns which routes may be resolved by now.
        domains: the domains below which names are answered at all.
        seen: what is known of instances besides the State.
        uncertified: returns to which instances routes do not lead yet.
        index: the only instance that the question is about; None if it is about the whole app.
        address: the address that is used instead of a name.
    """

    state: State
    source: App | None
    destination: App | None
    route: Hostname
    published: PublishedNames
    domains: tuple[Domain, ...]
    seen: Mapping[InstanceGuid, Seen] = field(default_factory=lambda: MappingProxyType({}))
    uncertified: UncertifiedNames = none_uncertified
    index: int | None = None
    address: Address | None = None

    @property
    def called(self) -> str:
        """What the caller asks for: a route, the name of one instance, or an address."""
        if self.address is not None:
            return self.address
        return f"{self.index}.{self.route}" if self.route and self.index is not None else self.route

    def instances_of(self, app: App) -> tuple[Instance, ...]:
        """Return the instances of an app that the question is about."""
        every = self.state.instances_of(app.guid)
        return tuple(each for each in every if self.index in (None, each.index))

    def of(self, instance: Instance) -> Seen:
        """Return what is known of an instance besides the State."""
        return self.seen.get(instance.guid, _UNSEEN)


def remaining(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return the instances that have not left."""
    return tuple(each for each in instances if each.status is not InstanceStatus.GONE)


def listed(names: Iterable[str]) -> str:
    """Return names for a sentence: the first ones, and how many more there are."""
    every = tuple(names)
    shown, rest = every[:MOST_LISTED], len(every) - MOST_LISTED
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def label(app: App, instance: Instance) -> str:
    """Return the name by which people refer to an instance."""
    return f"{app.key.name}/{instance.index}"


def holds(kind: LinkKind, sentence: str) -> Link:
    """Return a link that is there."""
    return Link(kind, Verdict.HOLDS, sentence)


def waits(kind: LinkKind, sentence: str) -> Link:
    """Return a link that follows by itself once others are there."""
    return Link(kind, Verdict.WAITS, sentence)


def unknown(kind: LinkKind, sentence: str) -> Link:
    """Return a link that nobody can judge."""
    return Link(kind, Verdict.UNKNOWN, sentence)


def missing(kind: LinkKind, sentence: str, command: str = "", advice: str = "") -> Link:
    """Return a link that somebody has to do something about."""
    return Link(kind, Verdict.MISSING, sentence, command, advice)
