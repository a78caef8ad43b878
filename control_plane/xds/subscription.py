"""What the client of one stream wants of one type: names, the wildcard, and the legacy wildcard.

The rule of this module: for both variants, it answers "does the client want this name?" as the
section "How the client specifies what resources to return" of the xDS protocol says.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from control_plane.xds.messages import Node
from control_plane.xds.resource import NO_NAMES, WILDCARD, Resource, TypeUrl
from control_plane.xds.resource_type import ENDPOINT, EXTENSION_CONFIG, ROUTE, RUNTIME, SECRET
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.xdstp import collection_of, is_glob

_ASKED_BY_NAME = frozenset({ENDPOINT, ROUTE, SECRET, EXTENSION_CONFIG, RUNTIME})


def asks_by_name(node: Node | None, url: TypeUrl) -> bool:
    """Tell whether a state-of-the-world request for a type without names is for nothing.

    An Envoy that comes back sends one for each type that it once asked for, also if it needs
    nothing of the type any more. It never means all secrets of its node.
    """
    return node is not None and node.is_envoy and url in _ASKED_BY_NAME


def stands_for_several(name: str) -> bool:
    """Tell whether a name is ``*`` or the name of a collection."""
    return name == WILDCARD or is_glob(name)


@dataclass(slots=True)
class Subscription:
    """The names that a client asked for, without ``*``, and whether it also wants all others."""

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    explicit: bool = False
    """Whether any name was ever given in SotW: "once the client does explicitly subscribe to a
    resource name (whether it be "*" or any other name), then this legacy semantic is no longer
    available". It never is if the client ``asks_by_name``."""
    globs: frozenset[str] = NO_NAMES
    """The names that stand for a collection."""

    def asked(self) -> frozenset[str]:
        """Return the names that the client asked for and did not give up, ``*`` included."""
        return frozenset(self.names | {WILDCARD} if self.wildcard else self.names)

    def wants(self, name: str) -> bool:
        """Tell whether the client is subscribed to a resource of this name."""
        if self.wildcard or name in self.names:
            return True
        return bool(self.globs) and collection_of(name) in self.globs

    def among(self, names: AbstractSet[str]) -> Iterable[str]:
        """Return which of these names the client is subscribed to.

        If it asks by name, the cost is bounded by the number of names that it asks for. This
        matters on per-type services: there Envoy opens a stream for each resource, and a node may
        have thousands.
        """
        if self.wildcard or self.globs:
            return filter(self.wants, names)
        return names & self.names

    def wanted(self, snapshot: TypeSnapshot) -> list[Resource]:
        """Return the resources that the client is subscribed to, sorted by name."""
        names = sorted(self.among(snapshot.resources.keys()))
        return [snapshot.resources[name] for name in names]

    def replace(self, requested: Iterable[str]) -> frozenset[str]:
        """Take the full list of names in a SotW request; return the newly requested names.

        "In the SotW protocol variants, each request must contain the full list of resource names
        being subscribed to".
        """
        full = frozenset(requested)
        if full:
            self.explicit = True
        # "if the client sends a request for a given resource type but has never explicitly
        # subscribed to any resource names [...] the server should treat that identically to [...]
        # explicitly subscribed to '*'"
        wildcard = WILDCARD in full or not self.explicit
        names = full - {WILDCARD}
        added = names - self.names
        if wildcard and not self.wildcard:
            added |= {WILDCARD}
        if names != self.names:
            self.globs = frozenset(filter(is_glob, names)) or NO_NAMES
        self.names, self.wildcard = set(names), wildcard
        return added

    def change(
        self, subscribe: Iterable[str], unsubscribe: Iterable[str], *, first: bool
    ) -> SubscriptionChange:
        """Take the lists of names in a delta request, the additions first."""
        added = frozenset(subscribe)
        dropped = frozenset(unsubscribe)
        if first and not added and not dropped:
            # "(legacy behavior) the request must have no resources in both resource_names_subscribe
            # and resource_names_unsubscribe"
            added = frozenset({WILDCARD})
        self.wildcard = (self.wildcard or WILDCARD in added) and WILDCARD not in dropped
        self.names |= added - {WILDCARD}
        # "The server must cleanly process such a request; it can simply ignore these phantom
        # unsubscriptions."
        gone = frozenset(self.names & dropped)
        self.names -= gone
        before = self.globs
        if added or gone:
            self.globs = (before | frozenset(filter(is_glob, added))) - dropped or NO_NAMES
        return SubscriptionChange(added - dropped, gone | (dropped & {WILDCARD}), before & dropped)


@dataclass(frozen=True, slots=True)
class SubscriptionChange:
    """How a delta request changed a subscription.

    Attributes:
        added: the names that the client asks for, whether it had asked for them before or not.
        dropped: the names that it gave up.
        dropped_globs: the names in ``dropped`` that stand for a collection.
    """

    added: frozenset[str]
    dropped: frozenset[str]
    dropped_globs: frozenset[str] = frozenset()
