"""Make before break, the way back: when what should not be there any more is taken from a client.

The rules of this module (quotations are from the xDS protocol, "Eventual consistency
considerations"):

- "Stale CDS clusters and related EDS endpoints (ones no longer being referenced) can then be
  removed": once the client has accepted what refers to them no more. As long as a listener is
  refused nothing is withdrawn that the one before it may use.
- The first answer to a wildcard, or to a glob, withdraws nothing: a client that reconnects has too
  much, and asks for the types that refer to it only while that answer is under way.
- An ACK says that a client accepted a listener, not that it uses it. It goes on with the listener
  before until it has every Secret and filter that the new one names, and it asks for these before
  it ACKs. So whatever the listener before may use stays until then, but not for ever: a Secret or
  filter may not exist.
- An empty state-of-the-world response may never be answered: if nothing in an Envoy is interested
  in the type any more, it does not answer, and tells nobody (so it is with scoped routes once no
  listener has any). Then nothing refers to anything either, so after a while the answer is no
  longer waited for. The response stays in flight: should the client be interested again, its first
  request answers it.
- In state of the world no routes are ever taken away: "deletions are indicated implicitly by parent
  resources being changed to no longer refer to a child resource". A client that ACKs a listener,
  and only then asks for the routes that it names (as gRPC does), goes on with the routes of the
  listener before, and with their clusters, until it has the new ones. These may be gone before they
  were sent. So while a client asks for routes that are gone, and either has them or gave up others,
  what routes may refer to stays; but not for ever, since a listener may go on naming what is gone.
  Delta needs no such rule: there, a client is in step only after it answered the removal.
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
"""Seconds for which a client that does not let go keeps what that may refer to."""

AT_ONCE, NOT_YET = -inf, inf
"""Moments, of the server's monotonic clock, that are always over, and that never come."""


class Withdrawal:
    """When the types of one stream may take from the client what it should not have any more."""

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
            types: what is known of each resource type.
            machines: those of the stream.
            at_rest: the types of which nothing is owed, each with what it was compared with.
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
        """Tell whether nobody refers any more to what should not be there."""
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
        if at > now and (machine.exchange.accepted or machine.exchange.is_left_open(())):
            self._held_until[url] = at
        return at <= now

    def look(self, snapshot: Snapshot) -> None:
        """Forget what holds nothing up any more; to be called before each round of responses."""
        self._held_until.clear()
        self._gave_up = {url for url in self._gave_up if _awaited(self._machines[url])}
        for url, since in list(self._clings_since.items()):
            for name in since.keys() - self._clings_to(url, snapshot):
                del since[name]
            if not since:
                del self._clings_since[url]

    def next_due(self, now: float) -> float | None:
        """Return the moment at which something that was held back may be withdrawn."""
        held = self._held_until
        moments = list(held.values())
        # An empty response that left in that very round holds it up too, and may get no answer.
        moments += [
            each.exchange.sent_at + PATIENCE
            for each in self._machines.values()
            if isinstance(each, SotwMachine)
            and each.takes_everything()
            and not held.keys().isdisjoint(each.type.after)
        ]
        return min((at for at in moments if now < at < NOT_YET), default=None)

    def _lets_go(self, url: TypeUrl, snapshot: Snapshot) -> float:
        """Return when the client has exactly what it should have of a follower."""
        content, machine = self._content(url, snapshot), self._machines[url]
        if self._at_rest.get(url) is content or machine.in_step(content):
            return AT_ONCE
        if isinstance(machine, SotwMachine) and machine.takes_everything():
            return machine.exchange.sent_at + PATIENCE
        return NOT_YET

    def _is_given_up_late(self, url: TypeUrl, follower: TypeUrl) -> bool:
        """Tell whether a client may give up a follower's resources only after it ACKed others.

        So it is if a type stands between the two, as listeners do between clusters and routes: it
        names the follower's resources, and changed together with them.
        """
        between = (each for each in self._types.get(follower).after if each in self._machines)
        return any(url in self._types.get(each).after for each in between)

    def _warms(self, url: TypeUrl, types: Iterable[TypeUrl]) -> bool:
        """Tell whether a client may need a type before it uses what it has of some types."""
        warmed = self._types.get(url).warms
        return any(each in warmed and self._machines[each].exchange.accepted for each in types)

    def _gives_up(self, url: TypeUrl, snapshot: Snapshot, now: float) -> float:
        """Return from when on what a client has of a type keeps nothing else in use."""
        names = self._clings_to(url, snapshot)
        if not names:
            return AT_ONCE
        since = self._clings_since.setdefault(url, {})
        return max(since.setdefault(name, now) for name in names) + PATIENCE

    def _clings_to(self, url: TypeUrl, snapshot: Snapshot) -> AbstractSet[str]:
        """Return the names of a type that keep a client using what it had before."""
        machine = self._machines[url]
        if machine.type.warms:
            return _awaited(machine)
        return self._outlived(url, snapshot)

    def _outlived(self, url: TypeUrl, snapshot: Snapshot) -> AbstractSet[str]:
        """Return the names that are gone, and which the client has or asks for in vain."""
        machine = self._machines[url]
        if machine.type.complete or not isinstance(machine, SotwMachine):
            return NO_NAMES
        may_use: AbstractSet[str] = machine.exchange.accepted.keys()
        if url in self._gave_up:
            may_use |= _awaited(machine)
        return may_use - self._content(url, snapshot).resources.keys()


def _awaited(machine: Machine) -> AbstractSet[str]:
    """Return the names of which a client has nothing, though it asks for them."""
    asked = machine.subscription.names - machine.subscription.globs
    return asked - machine.exchange.accepted.keys()
