"""What a server may and must say, worked out once more from the requests alone.

The referee sees what the server sees and shares none of its code: it keeps the subscriptions by the
words of the protocol, remembers what the client accepted, refused and asked for, and fails the walk
when a response breaks a rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from control_plane.xds.messages import DeltaRequest, Reply, Request, SotwRequest
from control_plane.xds.resource import WILDCARD, TypeUrl, Version
from control_plane.xds.resource_type import AfterNack, ResourceType, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot

NEVER = float("inf")
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""How long content is held back that was refused, in seconds: once, and however often."""


@dataclass(slots=True)
class View:
    """What one stream told of one type."""

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    explicit: bool = False
    known: dict[str, Version] = field(default_factory=dict)
    """What the client accepted, or stated to have."""
    asked: set[str] = field(default_factory=set)
    """What it asked for since it was last told of it."""
    anew: set[str] = field(default_factory=set)
    """What it asked for since it was last told of it, by a request that was not its first."""
    was_asked: set[str] = field(default_factory=set)
    """What of the response that awaits its answer it had asked for, maybe again."""
    doubt: set[str] = field(default_factory=set)
    """What it may have applied, or lost, when it refused a response."""
    applied: set[str] = field(default_factory=set)
    """What it may have applied of a response that it refused."""
    told: dict[str, Version | None] = field(default_factory=dict)
    """What the response says that awaits its answer."""
    clung_to: dict[str, float] = field(default_factory=dict)
    """Until when it must not be told that a name is gone, since it refused to hear that."""
    outstanding: Reply | None = None
    stated: bool = False
    """Whether it stated a version in its first request, so that it may have been left alone."""
    settled: bool = False
    """Whether it accepted a response."""

    def wants(self, name: str) -> bool:
        """Tell whether a resource of this name was asked for."""
        return self.wildcard or name in self.names


class Referee:
    """The judge of one stream; refusals of content go on to the next stream of the node."""

    def __init__(
        self,
        types: ResourceTypes,
        *,
        delta: bool,
        refused: dict[tuple[TypeUrl, str], tuple[Version, float]],
        gone: set[tuple[TypeUrl, str]],
        takes_errors: bool = False,
    ) -> None:
        """Start before the first request, with what was refused, and gone, on earlier streams."""
        self._types = types
        self._delta = delta
        self._refused = refused
        self._gone = gone
        self._takes_errors = takes_errors
        self._nonces: set[str] = set()
        self.views: dict[TypeUrl, View] = {}

    def look(self, snapshot: Snapshot) -> None:
        """Take note of what was refused and is gone: that may be forgotten, unless it is asked for.

        The server does so once it knows that the client does not have it.
        """
        for url, name in self._refused:
            view = self.views.get(url)
            if not snapshot.of_type(url).knows(name) and not (view and name in view.names):
                self._gone.add((url, name))

    def request(self, request: Request, now: float) -> None:
        """Take note of what a client told."""
        first = request.type_url not in self.views
        view = self.views.setdefault(request.type_url, View())
        had = {*view.names, *([WILDCARD] if view.wildcard else [])}
        if not first and view.outstanding and request.response_nonce == view.outstanding.nonce:
            self._settle(view, request, now)
        match request:
            case DeltaRequest():
                self._take_delta(view, request, first=first)
            case SotwRequest():
                view.stated |= first and bool(request.version_info)
                _take_sotw(view, request)
        if not first:
            self._take_anew(view, request, had)
        view.known = {name: v for name, v in view.known.items() if view.wants(name)}
        view.asked = {n for n in view.asked if view.wildcard or n in view.names}
        view.doubt = {n for n in view.doubt if view.wants(n)}
        view.applied = {n for n in view.applied if view.wants(n)}
        view.clung_to = {name: at for name, at in view.clung_to.items() if view.wants(name)}

    def _take_anew(self, view: View, request: Request, had: set[str]) -> None:
        """Take note of what a request asks for that is not the first of its type."""
        has = {*view.names, *([WILDCARD] if view.wildcard else [])}
        anew = set(request.subscribe) if isinstance(request, DeltaRequest) else has - had
        if WILDCARD in anew:
            anew |= {name for url, name in self._refused if url == request.type_url}
        view.anew = {name for name in view.anew | anew if view.wants(name)}

    def _settle(self, view: View, request: Request, now: float) -> None:
        kind = self._types.get(request.type_url)
        reply, view.outstanding = view.outstanding, None
        view.anew -= view.told.keys()
        for name, version in view.told.items():
            if request.error_detail is None:
                self._refused.pop((request.type_url, name), None)
                self._gone.discard((request.type_url, name))
                view.clung_to.pop(name, None)
                view.doubt.discard(name)
                view.applied.discard(name)
                if version is None:
                    view.known.pop(name, None)
                else:
                    view.known[name] = version
                continue
            if len(view.told) > 1 or name in view.was_asked:
                view.doubt.add(name)
            if len(view.told) > 1 and version is not None:
                view.applied.add(name)
            until = self._until(kind, view, now)
            if version is None:
                view.clung_to[name] = until
                continue
            if view.known.get(name) == version:
                del view.known[name]
            self._refused[request.type_url, name] = (version, until)
            self._gone.discard((request.type_url, name))
        if request.error_detail is None:
            view.settled = True
            if reply and kind.complete and not self._delta:
                # Also what it gave up meanwhile and asked for again.
                view.known |= {each.name: each.version for each in reply.resources}

    @staticmethod
    def _until(kind: ResourceType, view: View, now: float) -> float:
        """Return the earliest moment at which refused content may be sent again."""
        if kind.after_nack is AfterNack.AFTER_A_WHILE or len(view.told) > 1:
            return now + FIRST_PAUSE
        return NEVER

    @staticmethod
    def _take_delta(view: View, request: DeltaRequest, *, first: bool) -> None:
        if first:
            view.known = {n: Version(v) for n, v in request.initial_resource_versions.items()}
            if not request.subscribe and not request.unsubscribe:
                view.wildcard = True
                view.asked.add(WILDCARD)
        for name in request.subscribe:
            view.asked.add(name)
            view.clung_to.pop(name, None)
            if name != WILDCARD:
                view.names.add(name)
                continue
            view.wildcard = True
            view.clung_to.clear()
            if not first:
                # What is under way counts: a removal that it has not read yet answers it too.
                has = view.known | (view.told if view.outstanding else {})
                view.asked |= {name for name, version in has.items() if version is not None}
        for name in request.unsubscribe:
            if name == WILDCARD:
                view.wildcard = False
            elif name in view.names:
                view.names.remove(name)
                view.asked |= {name} if view.wildcard else set()
                view.known.pop(name, None)

    def reply(self, reply: Reply, snapshot: Snapshot, now: float) -> None:
        """Judge a response, and take note of it."""
        view = self.views[reply.type_url]
        target = snapshot.of_type(reply.type_url)
        assert view.outstanding is None, "two responses in flight"
        assert reply.nonce, "no nonce"
        assert reply.nonce not in self._nonces, "a nonce comes twice"
        self._nonces.add(reply.nonce)
        resources = [each.name for each in reply.resources]
        assert self._delta or not reply.removed, "removals belong to delta"
        gone = reply.removed if self._delta else tuple(reply.errors)
        both = [*resources, *gone]
        assert len(both) == len(set(both)), "a name comes twice"
        assert all(each.type_url == reply.type_url for each in reply.resources)
        assert all(map(view.wants, both)), "a name that nobody asked for"
        if not self._delta and self._types.get(reply.type_url).complete:
            self._judge_complete(view, reply, target, now)
        else:
            self._judge_part(view, reply, gone, target, now)
        self._judge_errors(view, reply, target)
        view.outstanding = reply
        view.was_asked = (view.asked | view.doubt) & view.told.keys()
        view.asked -= {WILDCARD, *view.told}
        view.anew -= view.told.keys()

    def _judge_errors(self, view: View, reply: Reply, target: TypeSnapshot) -> None:
        """Judge what is told of names that nothing has."""
        there = target.resources.keys() | target.pending | target.recorded.keys()
        asked = {n for n, version in view.told.items() if version is None and n in view.names}
        expected = asked - there if self._takes_errors else set()
        assert reply.errors.keys() == expected, "errors of other names"

    def _judge_part(
        self,
        view: View,
        reply: Reply,
        gone: tuple[str, ...],
        target: TypeSnapshot,
        now: float,
    ) -> None:
        kind = self._types.get(reply.type_url)
        for each in reply.resources:
            assert target.resources[each.name] == each, "content that should not be there"
            assert each.name in view.anew or not self._is_held_back(
                reply.type_url, each.name, each.version, now
            )
            assert (
                view.known.get(each.name) != each.version
                or each.name in view.asked | view.doubt
                or self._is_refreshed(reply.type_url)
            ), "content that the client has"
        for name in gone:
            assert name not in target.resources, "a removal of what exists"
            assert name not in target.pending, "pending is not missing"
            assert name not in target.recorded, "recorded is not missing"
            assert (
                name in view.known
                or name in view.asked | view.doubt
                or self._is_refreshed(reply.type_url)
            ), "a needless removal"
            assert now >= view.clung_to.get(name, 0.0), "a removal that was refused"
        size = len(reply.resources) + len(gone)
        assert size <= kind.batch
        says_nothing_is_there = view.wildcard and not view.known
        is_awaited = WILDCARD in view.asked or (
            says_nothing_is_there and self._is_refreshed(reply.type_url)
        )
        assert size or (self._delta and is_awaited), "an empty response"
        view.told = {each.name: each.version for each in reply.resources}
        view.told |= dict.fromkeys(gone)

    def _judge_complete(self, view: View, reply: Reply, target: TypeSnapshot, now: float) -> None:
        url = reply.type_url
        offered = {each.name: each for each in reply.resources}
        wanted = {n: each for n, each in target.resources.items() if view.wants(n)}
        left_alone = view.stated and not view.settled  # so that only the server knows what it has
        for name, each in offered.items():
            if wanted.get(name) == each:
                held = self._is_held_back(url, name, each.version, now)
                assert not held or not view.settled or name in view.asked | view.doubt
            elif name in wanted:
                assert self._may_be_held_back(url, name, wanted[name].version, now)
                has = view.known.get(name)
                assert has == each.version or left_alone, "content that the client does not have"
            else:
                kept = name in view.known or name in view.doubt
                assert kept or left_alone, "content that should not be there"
        for name in wanted.keys() - offered.keys():
            assert self._may_be_held_back(url, name, wanted[name].version, now), "incomplete"
        view.told = {
            name: each.version
            for name, each in offered.items()
            if view.known.get(name) != each.version or name in view.asked | view.doubt
        }
        gone = (view.known.keys() | view.asked | view.doubt) - offered.keys() - {WILDCARD}
        view.told |= dict.fromkeys(gone)
        assert (
            left_alone
            or self._is_refreshed(url)
            or WILDCARD in view.asked
            or any(
                name in view.anew or not self._is_held_back(url, name, version, now)
                if version is not None
                else now >= view.clung_to.get(name, 0.0)
                for name, version in view.told.items()
            )
        ), "a needless response"

    def unanswered(self, snapshot: Snapshot, now: float) -> list[tuple[TypeUrl, str]]:
        """Return what was asked for, was not answered, and could be."""
        return [
            (url, name)
            for url, view in self.views.items()
            for name in view.asked
            if self._is_answerable(url, view, name, snapshot.of_type(url), now)
        ]

    def _is_answerable(
        self, url: TypeUrl, view: View, name: str, target: TypeSnapshot, now: float
    ) -> bool:
        if not self._delta and name not in view.names | {WILDCARD}:
            return False
        in_part = not self._delta and not self._types.get(url).complete
        if name == WILDCARD:
            awaited = self._is_refreshed(url) and target.resources
            left_alone = view.stated and not view.settled and not awaited
            return not in_part and not left_alone
        resource = target.resources.get(name)
        if resource is not None:
            return name in view.anew or not self._is_refused(url, name, resource.version, now)
        may_have = name in view.known or name in view.applied or (in_part and view.stated)
        withheld = name in target.pending or name in target.recorded or may_have
        is_told = self._takes_errors or not in_part
        return not withheld and is_told and now >= view.clung_to.get(name, 0.0)

    def _is_held_back(self, url: TypeUrl, name: str, version: Version, now: float) -> bool:
        """Tell whether content must not be sent."""
        return (url, name) not in self._gone and self._is_refused(url, name, version, now)

    def _is_refused(self, url: TypeUrl, name: str, version: Version, now: float) -> bool:
        refused, until = self._refused.get((url, name), (None, 0.0))
        return refused == version and now < until

    def _may_be_held_back(self, url: TypeUrl, name: str, version: Version, now: float) -> bool:
        """Tell likewise where it may have been refused before, after which the pause is longer."""
        return self._is_refused(url, name, version, now - LONGEST_PAUSE + FIRST_PAUSE)

    def _is_refreshed(self, url: TypeUrl) -> bool:
        """Tell whether a type may be sent again because another one was."""
        return any(url in each.refreshes for each in self._types.ordered)


def _take_sotw(view: View, request: SotwRequest) -> None:
    names = set(request.resource_names)
    view.explicit |= bool(names)
    wildcard = WILDCARD in names or not view.explicit
    names.discard(WILDCARD)
    view.asked |= names - view.names
    for name in names - view.names:
        view.clung_to.pop(name, None)
    if wildcard and not view.wildcard:
        view.asked.add(WILDCARD)
        view.clung_to.clear()
    view.names, view.wildcard = names, wildcard
