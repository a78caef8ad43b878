"""What has to be there for one app to reach another by name, as values.

The rule of this module: it only says what a question and an answer are made of; ``explain`` has the
conclusions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from control_plane.model.entities import App, Instance
from control_plane.model.state import State
from control_plane.names import Domain, Hostname, InstanceGuid, Port
from control_plane.planner.names import PublishedNames, UncertifiedNames, none_uncertified


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
    """There is no way to the app but this one."""


class Verdict(StrEnum):
    """What is so."""

    UNKNOWN = "unknown"
    """Nobody can tell."""

    HOLDS = "holds"
    WAITS = "waits"
    """It follows by itself once the links are there that are missing."""

    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Link:
    """One link of the chain.

    Attributes:
        sentence: what is so.
        command: the arguments of ``c2c`` that help; "" if there is nothing to do.
    """

    kind: LinkKind
    verdict: Verdict
    sentence: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one instance besides the State; of one that nobody knows, nothing.

    Attributes:
        is_connected: whether its Envoy has a stream.
        port_problem: why its Envoy has not opened 61443 as it should; "" if it has.
        certificate_problem: why it does not serve its newest certificate; "" if it does.
        names_problem: why its resolver does not have the newest names; "" if it has, or there is
            none.
        app_ports: for each port of the app that was tried whether it accepts connections; None if
            nobody tries.
        exposed_ports: the ports of the app that are open past Envoy.
    """

    is_connected: bool = False
    port_problem: str = ""
    certificate_problem: str = ""
    names_problem: str = ""
    app_ports: Mapping[Port, bool] | None = None
    exposed_ports: tuple[Port, ...] = ()


NOTHING = Seen()


@dataclass(frozen=True, slots=True)
class Question:
    """Who wants to reach whom.

    Attributes:
        source: who connects; None if it is not about anybody in particular.
        destination: to whom; None if no app has the route.
        route: the name that is used; "" where the app has none.
        published: which routes may be resolved by now.
        domains: below which of them names are answered at all.
        seen: what is known of instances.
        uncertified: to which instances routes do not lead yet.
    """

    state: State
    source: App | None
    destination: App | None
    route: Hostname
    published: PublishedNames
    domains: tuple[Domain, ...]
    seen: Mapping[InstanceGuid, Seen] = field(default_factory=lambda: MappingProxyType({}))
    uncertified: UncertifiedNames = none_uncertified

    def of(self, instance: Instance) -> Seen:
        """Return what is known of an instance."""
        return self.seen.get(instance.guid, NOTHING)
