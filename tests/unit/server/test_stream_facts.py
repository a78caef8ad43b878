"""What happens to instances, in the words that an operator reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from control_plane.errors import PermissionDenied
from control_plane.names import InstanceGuid
from control_plane.nodes import LiveStream, Variant
from control_plane.reconciler.certificates.ledger import CertificateState, Ledger
from control_plane.server.discovery.methods import SERVICES
from control_plane.server.observability.feed import Fact, Feed, Kind, Watcher
from control_plane.server.observability.stream_facts import StreamFacts
from control_plane.server.observability.type_names import short_name
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.events import Acked
from control_plane.xds.messages import DeltaRequest, ErrorDetail, Node, Reply
from control_plane.xds.resource import Nonce, Resource, TypeUrl, Version
from control_plane.xds.resource_type import CLUSTER, LISTENER, ResourceTypes
from control_plane.xds.stream import Stream
from tests.unit.model.world import B, register, world
from tests.unit.reconciler.clocks import NOON, ManualClock

STATE = register(world("b"), "b0", B, "10.0.1.1")
RECORD = IssuedRecord(
    InstanceGuid("b0"), "c2c-cert-and-key", "v", 0xA1, ("b0",), NOON, NOON + timedelta(1), "sha256:"
)


def live(node: str = "b0") -> LiveStream:
    """Return a stream of a node."""
    stream = Stream(ResourceTypes.of())
    stream.identify(DeltaRequest(CLUSTER, node=Node(node)))
    return LiveStream(1, stream, Variant.DELTA, "ipv4:10.0.1.1:1", (), NOON)


def reply(*names: str, removed: tuple[str, ...] = ()) -> Reply:
    """Return a response with listeners."""
    listeners = tuple(Resource.of(LISTENER, name, b"") for name in names)
    return Reply(LISTENER, Nonce("7"), Version("v"), listeners, removed)


class Scene:
    """Facts, and somebody who hears them."""

    def __init__(self, watcher: Watcher, feed: Feed) -> None:
        """Tell of an app with one instance."""
        self.facts = StreamFacts(lambda: STATE, feed)
        self._watcher = watcher

    def last(self) -> Fact:
        """Return the last fact that was told."""
        return self._watcher._queue[-1][0]


def test_an_instance_is_called_as_people_call_it() -> None:
    """By app and index; one that is not known any more by what it calls itself."""
    feed = Feed(ManualClock())
    with feed.watch() as watcher:
        here = Scene(watcher, feed)
        here.facts.opened(live())
        known = here.last()
        here.facts.opened(live("stran\nger"))

        assert known.sentence == "b/0 opened a delta stream from ipv4:10.0.1.1:1"
        assert (known.app, known.instance) == (B, "b0")
        assert here.last().sentence.startswith(r"instance 'stran\nger' opened")
        assert here.last().app is None


def test_a_long_response_is_cut() -> None:
    """Twenty names, and how many more."""
    feed = Feed(ManualClock())
    with feed.watch() as watcher:
        here = Scene(watcher, feed)
        here.facts.sent(live(), reply(*(f"l{number:02}" for number in range(25))))
        assert here.last().sentence.endswith(", l19 and 5 more")
        assert len(here.last().resources) == 20
        here.facts.sent(live(), reply())
        assert here.last().sentence == "b/0 was sent LDS nothing"


def test_what_is_removed_is_told_apart() -> None:
    """Nobody should think that a client has what was taken from it."""
    feed = Feed(ManualClock())
    with feed.watch() as watcher:
        here = Scene(watcher, feed)
        here.facts.sent(live(), reply("listener", removed=("another",)))
        assert here.last().sentence == "b/0 was sent LDS listener, without another"
        assert here.last().resources == ("listener", "another")
        here.facts.told(live(), [Acked(LISTENER, "1", {"another": None, "listener": Version("v")})])
        assert here.last().sentence == "b/0 ACKed LDS listener, without another"
        assert here.last().resources == ("listener", "another")


def test_a_name_that_is_not_there_is_told_once() -> None:
    """E1: whether by its removal, by an error, or by both."""
    feed = Feed(ManualClock())
    with feed.watch() as watcher:
        here = Scene(watcher, feed)
        error = ErrorDetail(5, "no")
        told = replace(reply(removed=("a",)), errors={"a": error, "b": error})
        here.facts.sent(live(), told)
        assert here.last().sentence == "b/0 was sent LDS without a, b"
        assert here.last().resources == ("a", "b")


def test_the_end_of_a_stream_has_a_reason_if_there_is_one() -> None:
    """A client that was done just goes."""
    feed = Feed(ManualClock())
    with feed.watch() as watcher:
        here = Scene(watcher, feed)
        here.facts.closed(live())
        assert here.last().sentence == "b/0 closed a stream"
        ended = live()
        ended.end(PermissionDenied("this instance was removed"))
        here.facts.closed(ended)
        assert here.last().sentence == "b/0 closed a stream: this instance was removed"


def test_a_certificate_is_told_of_from_issue_to_handshake() -> None:
    """An ACK alone is no news of a certificate: the streams tell of it."""
    clock = ManualClock()
    feed, ledger = Feed(clock), Ledger(clock)
    with feed.watch() as watcher:
        here = Scene(watcher, feed)
        ledger.observe(here.facts.certified)
        ledger.issued(RECORD)
        (entry,) = ledger.of(RECORD.instance_guid)
        for state, reason in (
            (CertificateState.ACKED, ""),
            (CertificateState.NOT_SERVED, "refused"),
            (CertificateState.SERVED, ""),
        ):
            ledger.move(entry, state, reason)
        facts = [fact for fact, _ in watcher._queue]

    assert [(fact.kind, fact.serial) for fact in facts] == [
        (Kind.ISSUED, 0xA1),
        (Kind.NOT_SERVED, 0xA1),
        (Kind.SERVED, 0xA1),
    ]
    assert [fact.sentence for fact in facts] == [
        "b/0 is to have the new certificate a1 in c2c-cert-and-key",
        "b/0 ACKed and does not serve certificate a1 in c2c-cert-and-key: refused",
        "b/0 serves certificate a1 in c2c-cert-and-key",
    ]


def test_while_nobody_watches_nothing_is_made() -> None:
    """On a busy server most of what happens is a response or its ACK."""

    class Untouchable:
        """Fails whoever looks at it."""

        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    facts = StreamFacts(lambda: STATE, Feed(ManualClock()))
    facts.told(Untouchable(), Untouchable())  # type: ignore[arg-type]  # the point of the test
    facts.sent(Untouchable(), Untouchable())  # type: ignore[arg-type]  # likewise
    facts.certified(Untouchable(), None)  # type: ignore[arg-type]  # likewise


def test_types_have_short_names() -> None:
    """A type of a client's own making has none, so that it makes no label of a metric either."""
    assert short_name(LISTENER) == "LDS"
    assert "other" not in {short_name(each.only) for each in SERVICES if each.only}
    assert short_name(TypeUrl("type.googleapis.com/made.up")) == "other"
