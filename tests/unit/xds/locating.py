"""Clients that ask by locators and keep the protocol to the letter, for random walks.

What they have is kept by name and constraints, as a caching client keeps it, so that a variant that
the server forgot to take from them stays.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from control_plane.xds.constraints import Constraints, Parameters
from control_plane.xds.messages import DeltaRequest, Locator, Reply, Request, SotwRequest
from control_plane.xds.resource import WILDCARD, Resource, TypeUrl, Version
from tests.unit.xds.faithful import NODE, REFUSAL, glob_of

Whose = Constraints | None

Asked = Parameters | None
"""The parameters with which something is asked for; None for a plain name."""


@dataclass(slots=True)
class Held:
    """A resource that a client has; maybe from an earlier stream, where its name is all it told."""

    version: Version
    is_earlier: bool = False


@dataclass(slots=True)
class LocatingClient(ABC):
    """A client of one type: what it wants, what it has, and what is under way.

    Attributes:
        is_complete: whether a response of state of the world has all of the type.
        refuses: which content it cannot use.
        applies_good: whether it applies the rest of a response of several that it refuses.
    """

    url: TypeUrl
    is_complete: bool
    refuses: Callable[[Resource], bool]
    applies_good: bool
    wanted: dict[str, Asked] = field(default_factory=dict)
    has: dict[str, dict[Whose, Held]] = field(default_factory=dict)
    inbox: deque[Reply] = field(default_factory=deque)
    outbox: deque[Request] = field(default_factory=deque)
    nonce: str = ""
    started: bool = False

    def wants(self, name: str) -> bool:
        """Tell whether a resource of this name is of use."""
        return not self.wanted.keys().isdisjoint((name, glob_of(name), WILDCARD))

    def parameters(self, name: str) -> Asked:
        """Return those with which a resource is asked for that is of use."""
        given = (each for each in (name, glob_of(name), WILDCARD) if each in self.wanted)
        return self.wanted[next(given)]

    def ask(self, name: str, parameters: Asked) -> None:
        """Want something, maybe with other parameters than before."""
        dropped = {name: self.wanted[name]} if name in self.wanted else {}
        if dropped and (dropped[name] or ()) == (parameters or ()):
            dropped = {}
        self.wanted[name] = parameters
        self._say({name: parameters}, dropped)

    def drop(self, name: str) -> None:
        """Want something no more; what it had by that it lets go of."""
        if name in self.wanted:
            dropped = {name: self.wanted.pop(name)}
            self.let_go(name)
            self.has = {each: held for each, held in self.has.items() if self.wants(each)}
            self._say({}, dropped)

    def reconnect(self) -> None:
        """Open a new stream; what was under way is lost."""
        self.outbox.clear()
        self.inbox.clear()
        self.started = False
        for held in self.has.values():
            for each in held.values():
                each.is_earlier = True
        if self.wanted:
            self._say(self.wanted, {})

    def read(self) -> None:
        """Take the next response, and answer it."""
        reply = self.inbox.popleft()
        self.nonce = reply.nonce
        bad = {each.name for each in reply.resources if self._is_bad(each)}
        if not bad or (self.applies_good and len(reply.resources) > 1):
            self.apply(reply, bad)
        assert all(len(held) == 1 for held in self.has.values()), "two variants at a time"
        self._answer(is_refusal=bool(bad))

    def _is_bad(self, resource: Resource) -> bool:
        had = self.has.get(resource.name, {}).values()
        return resource.version not in {each.version for each in had} and self.refuses(resource)

    def add(self, reply: Reply, bad: Iterable[str]) -> None:
        """Take what a response has, but for what is bad."""
        for each in reply.resources:
            if each.name in bad or not self.wants(each.name):
                continue
            held = self.has.setdefault(each.name, {})
            for whose in [whose for whose, other in held.items() if other.is_earlier]:
                del held[whose]
            held[reply.constraints.get(each.name)] = Held(each.version)

    @abstractmethod
    def let_go(self, name: str) -> None:
        """Let go of what came by something that is given up."""

    @abstractmethod
    def apply(self, reply: Reply, bad: Iterable[str]) -> None:
        """Take a response into use, but for what is bad."""

    @abstractmethod
    def _say(self, asked: dict[str, Asked], dropped: dict[str, Asked], /) -> None: ...

    @abstractmethod
    def _answer(self, *, is_refusal: bool) -> None: ...


class LocatingDelta(LocatingClient):
    """A client of the incremental variant."""

    def let_go(self, name: str) -> None:
        """Let go also of what something else brings: the server answers for it."""
        for each in [each for each in self.has if name in {each, glob_of(each)}]:
            del self.has[each]

    def apply(self, reply: Reply, bad: Iterable[str]) -> None:
        """Let go of what goes, and take what comes."""
        for name, whose in reply.removed_variants:
            if name not in bad:
                self.has.get(name, {}).pop(whose, None)
        for name in reply.removed:
            for whose, held in self.has.pop(name, {}).items():
                assert held.is_earlier or whose is None, "a variant that goes without constraints"
        self.has = {name: held for name, held in self.has.items() if held}
        self.add(reply, bad)
        if not bad:
            self._forget_earlier(name for name, _ in reply.removed_variants)

    def _forget_earlier(self, names: Iterable[str]) -> None:
        for name in names:
            had = self.has.pop(name, {})
            if held := {whose: each for whose, each in had.items() if not each.is_earlier}:
                self.has[name] = held

    def _say(self, asked: dict[str, Asked], dropped: dict[str, Asked], /) -> None:
        plain, located = _sorted_out(asked)
        gone, gone_located = _sorted_out(dropped)
        is_first, self.started = not self.started, True
        earlier = {name: each.version for name, held in self.has.items() for each in held.values()}
        self.outbox.append(
            DeltaRequest(
                self.url,
                plain,
                gone,
                initial_resource_versions=earlier if is_first else {},
                node=NODE,
                subscribe_locators=located,
                unsubscribe_locators=gone_located,
            )
        )

    def _answer(self, *, is_refusal: bool) -> None:
        error = REFUSAL if is_refusal else None
        self.outbox.append(DeltaRequest(self.url, response_nonce=self.nonce, error_detail=error))


class LocatingSotw(LocatingClient):
    """A client of the state-of-the-world variant."""

    def let_go(self, name: str) -> None:
        """Keep what something else brings: no response would bring it back."""

    def apply(self, reply: Reply, bad: Iterable[str]) -> None:
        """Take what comes in the place of what was there; all, if the response is complete."""
        told = {each.name for each in reply.resources if each.name not in bad}
        gone = self.has.keys() - told - set(bad) if self.is_complete else set()
        self.has = {n: held for n, held in self.has.items() if n not in told and n not in gone}
        self.add(reply, bad)

    def _say(self, _asked: dict[str, Asked], _dropped: dict[str, Asked], /) -> None:
        if not self.started:
            self.nonce = ""
        self.started = True
        self._answer(is_refusal=False)

    def _answer(self, *, is_refusal: bool) -> None:
        plain, located = _sorted_out(self.wanted)
        error = REFUSAL if is_refusal else None
        self.outbox.append(
            SotwRequest(
                self.url,
                plain,
                response_nonce=self.nonce,
                error_detail=error,
                node=NODE,
                resource_locators=located,
            )
        )


def _sorted_out(asked: dict[str, Asked]) -> tuple[tuple[str, ...], tuple[Locator, ...]]:
    plain = tuple(name for name, parameters in asked.items() if parameters is None)
    located = {name: each for name, each in asked.items() if each is not None}
    return plain, tuple(Locator(name, each) for name, each in located.items())
