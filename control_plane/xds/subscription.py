"""What the client of one stream wants of one type: names, the wildcard, and the legacy wildcard.

The rule of this module: it answers "does the client want this name?" as the xDS protocol, section
"How the client specifies what resources to return", says, for both variants.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from control_plane.xds.resource import NO_NAMES, WILDCARD, Resource
from control_plane.xds.snapshot import TypeSnapshot
from control_plane.xds.xdstp import collection_of, is_glob


def stands_for_several(name: str) -> bool:
    """Tell whether a name is ``*``, or that of a collection."""
    return name == WILDCARD or is_glob(name)


@dataclass(slots=True)
class Subscription:
    """The names a client asked for, without ``*``, and whether it wants all besides."""

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    explicit: bool = False
    """Whether any name was ever given in SotW: "once the client does explicitly subscribe to a
    resource name (whether it be "*" or any other name), then this legacy semantic is no longer
    available"."""
    globs: frozenset[str] = NO_NAMES
    """Those of the names that stand for a collection."""

    def asked(self) -> frozenset[str]:
        """Return the names that the client gave and did not give up, ``*`` included."""
        return frozenset(self.names | {WILDCARD} if self.wildcard else self.names)

    def wants(self, name: str) -> bool:
        """Tell whether a resource of this name is for the client."""
        if self.wildcard or name in self.names:
            return True
        return bool(self.globs) and collection_of(name) in self.globs

    def among(self, names: AbstractSet[str]) -> Iterable[str]:
        """Return which of these names are for the client.

        Where it asks by name this costs no more than what it asks for: by the services of each type
        Envoy opens a stream for each resource, and a node may have thousands.
        """
        if self.wildcard or self.globs:
            return filter(self.wants, names)
        return names & self.names

    def wanted(self, snapshot: TypeSnapshot) -> list[Resource]:
        """Return the resources for the client, by name."""
        names = sorted(self.among(snapshot.resources.keys()))
        return [snapshot.resources[name] for name in names]

    def replace(self, requested: Iterable[str]) -> frozenset[str]:
        """Take the full list of names of a SotW request; return what it asks for anew.

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
        """Take the lists of a delta request, the additions first."""
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
    """What a delta request did to a subscription: what it asks for, known or not, and gives up.

    Attributes:
        dropped_globs: those of ``dropped`` that stand for a collection.
    """

    added: frozenset[str]
    dropped: frozenset[str]
    dropped_globs: frozenset[str] = frozenset()
