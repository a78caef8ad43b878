"""Make before break, in reverse: when a client loses the resources that it should no longer have.

The rules of this module (quotations are from the xDS protocol, "Eventual consistency
considerations"):

- "Stale CDS clusters and related EDS endpoints (ones no longer being referenced) can then be
  removed": once the client has accepted resources that no longer refer to them. As long as a
  listener is refused, nothing is withdrawn that its predecessor may use.
- The first answer to a wildcard or a glob withdraws nothing. A client that reconnects may have
  surplus resources, and it asks for the types that refer to them only while that answer is under
  way.
- An ACK says that a client accepted a listener, not that it uses it. The client keeps using the
  previous listener until it has every Secret and filter that the new one names, and it asks for
  these before it ACKs the listener. So whatever the previous listener may use stays until then, but
  not for ever, because a Secret or filter may not exist.
- An empty state-of-the-world response may never be answered: an Envoy in which nothing is
  interested in the type any more ignores the response and tells nobody (it does so with scoped
  routes once no listener has any). Then nothing in that type refers to anything either, so after a
  while the answer is no longer waited for. The response stays in flight: if the client becomes
  interested again, its first request answers it.
- In state of the world, routes are never removed: "deletions are indicated implicitly by parent
  resources being changed to no longer refer to a child resource". A client that ACKs a listener and
  only then asks for the routes that it names (gRPC does) keeps using the routes of the previous
  listener, and their clusters, until it has the new routes. But the new routes may be gone before
  they were sent. So while a client asks for routes that are gone, and either has them or gave up
  others, everything that routes may refer to stays; but not for ever, because a listener may keep
  naming routes that are gone. Delta needs no such rule, because a delta client is in step only
  after it has answered the removal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from math import inf

from control_plane.xds.resource import NO_NAMES, WILDCARD, TypeUrl
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.sotw import SotwMachine
from control_plane.xds.translation import Machine

PATIENCE = 5.0
"""For how many seconds a client that does not let go of something keeps what that may refer to."""

AT_ONCE, NOT_YET = -inf, inf
"""Moments of the server's monotonic clock: one that is always past, and one that never comes."""


class Withdrawal:
    """When the types of one stream may take surplus resources from the client."""

    __slots__ = (
        "_at_rest",
        "_clings_since",
        "_content",
        "_gave_up",
        "_held_until",
        "_machines",
        "_types",
    )

    def __init__(
        self,
        types: ResourceTypes,
        machines: Mapping[TypeUrl, Machine],
        at_rest: Mapping[TypeUrl, TypeSnapshot],
        content: Callable[[TypeUrl, Snapshot], TypeSnapshot],
    ) -> None:
        """Start before the first request.

        Args:
            types: the resource types that the server knows.
            machines: the machines of the stream.
            at_rest: the types of which nothing is owed, each with the snapshot that it was compared
                with.
            content: returns what the client should have of a type.
        """
        self._types = types
        self._machines = machines
        self._at_rest = at_rest
        self._content = content
        self._clings_since: dict[TypeUrl, dict[str, float]] = {}
        self._held_until: dict[TypeUrl, float] = {}
        self._gave_up: set[TypeUrl] = set()

    def gave_up(self, url: TypeUrl) -> None:
        """Take note that the client gave up some names of a type.

        It may use their resources until it has what it asks for instead.
        """
        if self._types.get(url).after:
            self._gave_up.add(url)

    def may_withdraw(self, url: TypeUrl, snapshot: Snapshot, now: float) -> bool:
        """Tell whether nothing refers to the surplus resources of a type any more."""
        followers = [each for each in self._types.followers(url) if each in self._machines]
        machine = self._machines[url]
        if self._types.followers(url) and not machine.exchange.owed.isdisjoint(
            machine.subscription.globs | {WILDCARD}
        ):
            return False
        at = max((self._lets_go(each, snapshot) for each in followers), default=AT_ONCE)
        if at <= now:
            # Only from now on can the client be expected to give up the rest.
            clings = [each for each in followers if self._is_given_up_late(url, each)]
            clings += [each for each in self._machines if self._warms(each, followers)]
            at = max((self._gives_up(each, snapshot, now) for each in clings), default=AT_ONCE)
        if at > now and (machine.exchange.accepted or machine.exchange.is_left_open()):
            self._held_until[url] = at
        return at <= now

    def look(self, snapshot: Snapshot) -> None:
        """Forget what no longer delays a withdrawal; called before each round of responses."""
        self._held_until.clear()
        self._gave_up = {url for url in self._gave_up if _awaited(self._machines[url])}
        for url, since in list(self._clings_since.items()):
            for name in since.keys() - self._clings_to(url, snapshot):
                del since[name]
            if not since:
                del self._clings_since[url]

    def next_due(self, now: float) -> float | None:
        """Return the next moment at which a delayed withdrawal may be sent."""
        held = self._held_until
        moments = list(held.values())
        # An empty response that was sent in the same round delays it too, and may get no answer.
        moments += [
            each.exchange.sent_at + PATIENCE
            for each in self._machines.values()
            if isinstance(each, SotwMachine)
            and each.takes_everything()
            and not held.keys().isdisjoint(each.type.after)
        ]
        return min((at for at in moments if now < at < NOT_YET), default=None)

    def _lets_go(self, url: TypeUrl, snapshot: Snapshot) -> float:
        """Return the moment from which the client has exactly what it should have of a follower."""
        content, machine = self._content(url, snapshot), self._machines[url]
        if self._at_rest.get(url) is content or machine.in_step(content):
            return AT_ONCE
        if isinstance(machine, SotwMachine) and machine.takes_everything():
            return machine.exchange.sent_at + PATIENCE
        return NOT_YET

    def _is_given_up_late(self, url: TypeUrl, follower: TypeUrl) -> bool:
        """Tell whether a client may give up a follower's resources only after it ACKed others.

        This is so if another type stands between the two, as listeners stand between clusters and
        routes: that type names the follower's resources, and changed together with them.
        """
        between = (each for each in self._types.get(follower).after if each in self._machines)
        return any(url in self._types.get(each).after for each in between)

    def _warms(self, url: TypeUrl, types: Iterable[TypeUrl]) -> bool:
        """Tell whether the client may need a type before it uses what it has of other types."""
        warmed = self._types.get(url).warms
        return any(each in warmed and self._machines[each].exchange.accepted for each in types)

    def _gives_up(self, url: TypeUrl, snapshot: Snapshot, now: float) -> float:
        """Return the moment from which what a client has of a type keeps nothing else in use."""
        names = self._clings_to(url, snapshot)
        if not names:
            return AT_ONCE
        since = self._clings_since.setdefault(url, {})
        return max(since.setdefault(name, now) for name in names) + PATIENCE

    def _clings_to(self, url: TypeUrl, snapshot: Snapshot) -> AbstractSet[str]:
        """Return the names of a type that may keep the client using what it had before."""
        machine = self._machines[url]
        if machine.type.warms:
            return _awaited(machine)
        return self._outlived(url, snapshot)

    def _outlived(self, url: TypeUrl, snapshot: Snapshot) -> AbstractSet[str]:
        """Return the names that are gone, but that the client has or still asks for."""
        machine = self._machines[url]
        if machine.type.complete or not isinstance(machine, SotwMachine):
            return NO_NAMES
        may_use: AbstractSet[str] = machine.exchange.accepted.keys()
        if url in self._gave_up:
            may_use |= _awaited(machine)
        return may_use - self._content(url, snapshot).resources.keys()


def _awaited(machine: Machine) -> AbstractSet[str]:
    """Return the names that the client asks for and of which it has nothing."""
    asked = machine.subscription.names - machine.subscription.globs
    return asked - machine.exchange.accepted.keys()
