"""Clients that keep the protocol to the letter, for random walks: what they have is the judge.

A client lives longer than its streams. Requests and responses wait in queues until the walk moves
them, so requests overtake responses as they do on a real connection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from control_plane.xds.messages import DeltaRequest, ErrorDetail, Node, Reply, Request, SotwRequest
from control_plane.xds.resource import WILDCARD, Resource, TypeUrl, Version

Names = AbstractSet[str]

NODE = Node("instance-1")
REFUSAL = ErrorDetail(13, "no")


def glob_of(name: str) -> str:
    """Return what stands for all names that differ from this one in their last part alone."""
    return f"{name.rpartition('/')[0]}/*"


@dataclass(slots=True)
class Interest:
    """What a client has and wants of one type."""

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    content: dict[str, Version] = field(default_factory=dict)
    nonce: str = ""
    version: str = ""
    """The version of the last response that it accepted, as long as it has all of that."""
    started: bool = False
    """Whether this stream carried a request of the type."""
    explicit: bool = False
    """Whether it gave a name on this stream."""

    def wants(self, name: str) -> bool:
        """Tell whether a resource of this name is of use."""
        return self.wildcard or name in self.names or glob_of(name) in self.names

    def prune(self) -> None:
        """Let go of what is of no use; without it, the client does not have that version."""
        kept = {name: v for name, v in self.content.items() if self.wants(name)}
        if kept != self.content:
            self.content, self.version = kept, ""


class FaithfulClient(ABC):
    """A client of one node: what it wants, what it has, and what is under way."""

    def __init__(
        self,
        complete: AbstractSet[TypeUrl],
        refuses: Callable[[Resource], bool],
        clings_to: Callable[[TypeUrl, str], bool],
        *,
        applies_good: bool,
        node: Node = NODE,
    ) -> None:
        """Start with nothing.

        Args:
            complete: the types whose state-of-the-world responses are complete.
            refuses: which content it cannot use.
            clings_to: which resources it does not let go of.
            applies_good: whether it applies the rest of a response that it refuses, as Envoy does.
            node: who it is.
        """
        self.types: dict[TypeUrl, Interest] = {}
        self.outbox: deque[Request] = deque()
        self.inbox: deque[Reply] = deque()
        self._complete = complete
        self._refuses = refuses
        self._clings_to = clings_to
        self._applies_good = applies_good
        self._who = node
        self._node: Node | None = node

    def of(self, url: TypeUrl) -> Interest:
        """Return its interest in a type."""
        return self.types.setdefault(url, Interest())

    def reconnect(self) -> None:
        """Open a new stream; what was under way is lost."""
        self.outbox.clear()
        self.inbox.clear()
        self._node = self._who
        for url, interest in self.types.items():
            interest.started = interest.explicit = False
            if interest.wildcard or interest.names:
                self._begin(url, interest)

    def subscribe(self, url: TypeUrl, names: Names, *, wildcard: bool = False) -> None:
        """Want more."""
        interest = self.of(url)
        interest.names |= names
        interest.wildcard |= wildcard
        self._say(url, interest, names | ({WILDCARD} if wildcard else set()), set())

    def unsubscribe(self, url: TypeUrl, names: Names, *, wildcard: bool = False) -> None:
        """Want less."""
        interest = self.of(url)
        self._let_go(interest, interest.names & names)
        interest.names -= names
        interest.wildcard &= not wildcard
        interest.prune()
        self._say(url, interest, set(), names | ({WILDCARD} if wildcard else set()))

    @abstractmethod
    def forget(self, url: TypeUrl, name: str) -> None:
        """Lose a resource, and ask for it again."""

    def read(self) -> None:
        """Take the next response, and answer it."""
        reply = self.inbox.popleft()
        interest = self.of(reply.type_url)
        interest.nonce = reply.nonce
        bad = {
            each.name
            for each in reply.resources
            if interest.content.get(each.name) != each.version and self._refuses(each)
        }
        clung_to = {
            name
            for name in self._gone(interest, reply)
            if name in interest.content and self._clings_to(reply.type_url, name)
        }
        bad |= clung_to
        if not bad:
            self._apply(interest, reply, bad)
            whole = all(interest.wants(each.name) for each in reply.resources)
            interest.version = reply.version if whole else ""
        elif self._applies_good:
            self._apply(interest, reply, bad)
        self._answer(reply.type_url, interest, REFUSAL if bad else None)

    def take_node(self) -> Node | None:
        """Return the node for the first request of a stream."""
        node, self._node = self._node, None
        return node

    def _say(self, url: TypeUrl, interest: Interest, added: Names, dropped: Names) -> None:
        if interest.started:
            self._change(url, interest, added, dropped)
        elif interest.wildcard or interest.names:
            self._begin(url, interest)

    @abstractmethod
    def _begin(self, url: TypeUrl, interest: Interest) -> None: ...

    @abstractmethod
    def _change(
        self, url: TypeUrl, interest: Interest, added: Names, dropped: Names, /
    ) -> None: ...

    @abstractmethod
    def _answer(self, url: TypeUrl, interest: Interest, error: ErrorDetail | None) -> None: ...

    @abstractmethod
    def _let_go(self, interest: Interest, names: Names) -> None: ...

    @abstractmethod
    def _gone(self, interest: Interest, reply: Reply, /) -> Names: ...

    @abstractmethod
    def _apply(self, interest: Interest, reply: Reply, bad: Names) -> None: ...


class FaithfulDelta(FaithfulClient):
    """A client of the incremental variant."""

    def forget(self, url: TypeUrl, name: str) -> None:
        """Lose a resource, and subscribe to it once more."""
        interest = self.of(url)
        interest.content.pop(name, None)
        self.subscribe(url, {name})

    def _begin(self, url: TypeUrl, interest: Interest) -> None:
        interest.started = True
        legacy = interest.wildcard and not interest.names
        wildcard = {WILDCARD} if interest.wildcard and not legacy else set()
        self.outbox.append(
            DeltaRequest(
                url,
                tuple(sorted(interest.names | wildcard)),
                initial_resource_versions=dict(interest.content),
                response_nonce=interest.nonce,
                node=self.take_node(),
            )
        )

    def _change(self, url: TypeUrl, _interest: Interest, added: Names, dropped: Names, /) -> None:
        self.outbox.append(DeltaRequest(url, tuple(sorted(added)), tuple(sorted(dropped))))

    def _answer(self, url: TypeUrl, interest: Interest, error: ErrorDetail | None) -> None:
        self.outbox.append(DeltaRequest(url, response_nonce=interest.nonce, error_detail=error))

    def _let_go(self, interest: Interest, names: Names) -> None:
        # Whether a name that it gave up is among "everything" the server has to say.
        for name in names | {each for each in interest.content if glob_of(each) in names}:
            interest.content.pop(name, None)

    def _gone(self, _interest: Interest, reply: Reply, /) -> Names:
        return set(reply.removed)

    def _apply(self, interest: Interest, reply: Reply, bad: Names) -> None:
        for name in self._gone(interest, reply) - bad:
            interest.content.pop(name, None)
        for each in reply.resources:
            if each.name not in bad and interest.wants(each.name):
                interest.content[each.name] = each.version


class FaithfulSotw(FaithfulClient):
    """A client of the state-of-the-world variant."""

    def forget(self, url: TypeUrl, name: str) -> None:
        """Lose a resource, and ask without it and with it."""
        self.unsubscribe(url, {name})
        self.subscribe(url, {name})

    def _begin(self, url: TypeUrl, interest: Interest) -> None:
        interest.started = True
        self._request(url, interest)
        interest.nonce = ""

    def _change(self, url: TypeUrl, interest: Interest, _added: Names, _dropped: Names, /) -> None:
        if not (interest.explicit or interest.names or interest.wildcard):
            # An empty list would go on meaning everything.
            self._send(url, interest, (WILDCARD,))
        self._request(url, interest)

    def _answer(self, url: TypeUrl, interest: Interest, error: ErrorDetail | None) -> None:
        self._request(url, interest, error)

    def _request(self, url: TypeUrl, interest: Interest, error: ErrorDetail | None = None) -> None:
        explicit = interest.explicit or interest.names
        wildcard = (WILDCARD,) if interest.wildcard and explicit else ()
        self._send(url, interest, (*wildcard, *sorted(interest.names)), error)

    def _send(
        self,
        url: TypeUrl,
        interest: Interest,
        names: tuple[str, ...],
        error: ErrorDetail | None = None,
    ) -> None:
        interest.explicit |= bool(names)
        self.outbox.append(
            SotwRequest(
                url,
                names,
                version_info=interest.version,
                response_nonce=interest.nonce,
                error_detail=error,
                node=self.take_node(),
            )
        )

    def _let_go(self, interest: Interest, names: Names) -> None:
        """Keep what "everything" still has: no response would bring it back."""

    def _gone(self, interest: Interest, reply: Reply, /) -> Names:
        if reply.type_url not in self._complete:
            return interest.content.keys() & reply.errors.keys()
        return interest.content.keys() - {each.name for each in reply.resources}

    def _apply(self, interest: Interest, reply: Reply, bad: Names) -> None:
        for name in self._gone(interest, reply) - bad:
            del interest.content[name]
        for each in reply.resources:
            if each.name not in bad and interest.wants(each.name):
                interest.content[each.name] = each.version
