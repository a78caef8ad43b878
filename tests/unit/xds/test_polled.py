"""What a request is answered with that is polled, and what it tells."""

from __future__ import annotations

import pytest

from control_plane.errors import PeerLimitExceeded, PeerProtocolError
from control_plane.xds.delivery import deliveries
from control_plane.xds.events import Acked, Event, Nacked, Subscribed
from control_plane.xds.limits import StreamLimits
from control_plane.xds.messages import ErrorDetail, Node, SotwRequest
from control_plane.xds.polled import Poll
from control_plane.xds.refusal import NodeRefusals
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import CLUSTER, ENDPOINT, SECRET, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.notation import content, shown, snapshot, url_of, version
from tests.unit.xds.peers import NODE, REFUSED

TAKES_ERRORS = Node("n", client_features=frozenset({"supports-resource-error-unwrapping"}))


class Poller:
    """A client of one type that polls, and remembers what it is told."""

    def __init__(self, short: str, node: Node = NODE, **contents: str) -> None:
        """Ask a server that has these resources for the node."""
        self.short = short
        self.node = node
        self.snapshot: Snapshot = snapshot(**contents)
        self.refusals = NodeRefusals()
        self.version = ""
        self.nonce = ""
        self.told: tuple[Event, ...] = ()
        self.stream = Stream(ResourceTypes.of())

    def put(self, text: str) -> None:
        """Give the node other resources of the type."""
        kind = content(self.short, text)
        self.snapshot = Snapshot({**self.snapshot.types, url_of(self.short): kind})

    def poll(self, *names: str, error: ErrorDetail | None = None, nonce: str = "") -> str | None:
        """Ask once; return the contents of the answer, and its errors; None without one."""
        url = url_of(self.short)
        request = SotwRequest(url, names, self.version, nonce, error, self.node)
        self.stream = Stream(ResourceTypes.of(), only=url)
        self.stream.identify(request)
        self.stream.bind(self.refusals)
        poll = Poll(self.stream, request)
        self.told = poll.receive(self.snapshot, 100.0)
        reply = poll.reply(self.snapshot, 100.0)
        if reply is None:
            return None
        assert reply.type_url == url
        assert str(reply.nonce) == reply.version
        self.nonce = reply.nonce
        return shown(reply).partition(f"{self.nonce} {self.short}")[2].strip()

    def accept(self) -> None:
        """Take the last answer into use."""
        self.version = self.nonce

    def statuses(self) -> list[str]:
        """Return how far each resource is, as the last poll knows."""
        found = deliveries(self.stream, self.snapshot)
        return [f"{each.name} {each.status.value}" for each in found]


@pytest.mark.parametrize("names", [(), ("*",)], ids=["none", "wildcard"])
def test_no_names_are_all(names: tuple[str, ...]) -> None:
    """V2, W4: who names nothing is answered with all that the node should have of the type."""
    poller = Poller("SDS", SDS="b@1 a@1", CDS="c@1")
    assert poller.poll(*names) == "a@1 b@1"
    assert poller.told == (Subscribed(SECRET, frozenset({"*"})),)


def test_what_is_named_is_what_is_answered() -> None:
    """V2, W1: who names some is answered with those of them that there are, all at once."""
    poller = Poller("SDS", SDS="a@1 b@1 c@1")
    assert poller.poll("c", "missing", "a") == "a@1 c@1"
    assert poller.statuses() == ["a STALE", "c STALE"]


def test_a_collection_that_is_named_is_answered_with_what_is_in_it() -> None:
    """V2, E4: its members now, and its members then, by whatever form of its name."""
    poller = Poller(
        "SDS", SDS="xdstp://a/T/web/2?r=1@1 xdstp://a/T/web/1?r=1@1 xdstp://a/T/api/1@1"
    )
    assert poller.poll("xdstp://a/T/web/*?r=%31") == (
        "xdstp://a/T/web/1?r=1@1 xdstp://a/T/web/2?r=1@1"
    )
    poller.accept()
    assert poller.poll("xdstp://a/T/web/*?r=1") is None
    poller.put("xdstp://a/T/web/2?r=1@1 xdstp://a/T/api/1@2")
    assert poller.poll("xdstp://a/T/web/*?r=1") == "xdstp://a/T/web/2?r=1@1"


def test_version_of_all_is_that_of_a_stream() -> None:
    """A2: a poll of all clusters has the version that a stream has."""
    poller = Poller("CDS", CDS="c@1 d@1")
    poller.poll()
    stream = Stream(ResourceTypes.of())
    stream.identify(SotwRequest(CLUSTER, node=NODE))
    stream.receive(SotwRequest(CLUSTER), 100.0)
    (reply,) = stream.replies(poller.snapshot, 100.0)
    assert poller.nonce == reply.version


def test_version_that_the_client_has_is_no_answer() -> None:
    """V5, A6: who states the version is answered once something changed, and not before."""
    poller = Poller("CDS", CDS="c@1")
    assert poller.poll() == "c@1"
    poller.accept()
    assert poller.poll() is None
    assert poller.told == (Subscribed(CLUSTER, frozenset({"*"})),)
    assert poller.statuses() == ["c SYNCED"]
    assert poller.stream.in_step(poller.snapshot)
    poller.put("c@2")
    assert poller.poll() == "c@2"


def test_other_names_are_another_version() -> None:
    """W2: who has something, and asks for more, is answered though nothing changed."""
    poller = Poller("EDS", EDS="a@1 b@1")
    assert poller.poll("a") == "a@1"
    poller.accept()
    assert poller.poll("a") is None
    assert poller.poll("a", "b") == "a@1 b@1"
    poller.accept()
    assert poller.poll("b", "a", "missing") is None
    poller.put("b@1 missing@1 a@1")
    assert poller.poll("b", "a", "missing") == "a@1 b@1 missing@1"


def test_what_others_change_is_no_news() -> None:
    """R6: a change of what was not asked for is no answer."""
    poller = Poller("SDS", SDS="a@1 b@1")
    poller.poll("a")
    poller.accept()
    poller.put("a@1 b@2")
    assert poller.poll("a") is None


def test_complete_state_may_be_empty_and_others_may_not() -> None:
    """R3, R4: that there is no cluster is said, that there are no endpoints is not."""
    clusters = Poller("CDS")
    assert clusters.poll() == ""
    clusters.accept()
    assert clusters.poll() is None
    assert Poller("EDS").poll() is None
    assert Poller("EDS", EDS="a@1").poll("b") is None


@pytest.mark.parametrize("unmade", ["?d", "=d@1"], ids=["pending", "recorded"])
def test_complete_state_waits_for_what_is_being_made(unmade: str) -> None:
    """W16: what is not there yet is left out of no complete state, which would delete it."""
    poller = Poller("CDS", CDS=f"c@1 {unmade}")
    assert poller.poll() is None
    assert poller.poll("c") == "c@1"
    assert Poller("SDS", SDS=f"c@1 {unmade}").poll() == "c@1"


def test_refusal_is_told_and_not_answered_with_the_same() -> None:
    """A4, A7: a request that refuses the content by its nonce waits for other content."""
    poller = Poller("CDS", CDS="c@1")
    assert poller.poll() == "c@1"
    assert poller.poll(error=REFUSED, nonce=poller.nonce) is None
    nacked = Nacked(CLUSTER, poller.nonce, {"c": version("c@1")}, REFUSED)
    assert poller.told[-1] == nacked
    assert poller.statuses() == ["c ERROR"]
    (delivery,) = deliveries(poller.stream, poller.snapshot)
    assert delivery.refusal is not None
    assert delivery.refusal.error == REFUSED
    refused, poller.nonce = poller.nonce, ""
    poller.put("c@2")
    assert poller.poll(error=REFUSED, nonce=refused) == "c@2"
    assert poller.told[-1] == Nacked(CLUSTER, refused, {}, REFUSED)


def test_what_was_refused_and_is_gone_is_forgotten_with_the_next_ack() -> None:
    """A7: nothing else would forget it as long as the node has a snapshot."""
    poller = Poller("CDS", CDS="c@1 d@1")
    poller.poll()
    poller.poll(error=REFUSED, nonce=poller.nonce)
    poller.put("c@1")
    poller.poll()
    assert poller.refusals._by_type != {}
    poller.poll(nonce=poller.nonce)
    assert poller.refusals._by_type == {}


def test_refusal_without_a_nonce_is_told_and_answered() -> None:
    """A4, V5: without a nonce nobody knows what was refused; it is told, and tried again."""
    poller = Poller("CDS", CDS="c@1")
    assert poller.poll(error=REFUSED) == "c@1"
    assert poller.told[-1] == Nacked(CLUSTER, "", {}, REFUSED)
    poller.accept()
    assert poller.poll(error=REFUSED) is None
    assert poller.told[-1] == Nacked(CLUSTER, "", {}, REFUSED)


def test_nonce_of_the_content_accepts_it() -> None:
    """A4: with its nonce and without an error a request accepts, and what was refused is fine."""
    poller = Poller("SDS", SDS="a@1")
    poller.poll("a")
    poller.poll("a", error=REFUSED, nonce=poller.nonce)
    poller.accept()
    assert poller.poll("a", nonce=poller.nonce) is None
    assert poller.told[-1] == Acked(SECRET, poller.nonce, {"a": version("a@1")})
    assert poller.statuses() == ["a SYNCED"]
    assert poller.stream.refusal(SECRET, "a") is None


def test_nonce_of_other_content_accepts_nothing() -> None:
    """A4: what the client says to an answer before says nothing of what there is by now."""
    poller = Poller("CDS", CDS="c@1")
    poller.poll()
    poller.put("c@2 ?d")
    assert poller.poll(nonce=poller.nonce) is None
    assert poller.told == (Subscribed(CLUSTER, frozenset({"*"})),)
    assert poller.statuses() == ["c NOT_SENT"]


def test_name_that_is_not_there_has_an_error_in_each_answer() -> None:
    """V2, E1: who takes errors is told in the answers, though there is nothing else to tell."""
    poller = Poller("EDS", TAKES_ERRORS, EDS="a@1 ?soon =again@1")
    assert poller.poll("x") == "~x"
    assert poller.statuses() == []
    assert poller.poll("a", "x", "b", "soon", "again") == "a@1 ~b ~x"
    poller.put("a@2")
    assert poller.poll("a", "x") == "a@2 ~x"


def test_answer_with_errors_that_the_client_has_is_no_answer() -> None:
    """V5, E1: errors are part of the version, so that what changes is told, and nothing else."""
    poller = Poller("EDS", TAKES_ERRORS, EDS="a@1")
    poller.poll("a")
    poller.accept()
    assert poller.poll("a", "x") == "a@1 ~x"
    poller.accept()
    assert poller.poll("a", "x") is None
    assert poller.poll("x", "a", nonce=poller.nonce) is None
    assert poller.told[-1] == Acked(ENDPOINT, poller.nonce, {"a": version("a@1")})
    poller.put("a@1 -x(no)")
    assert poller.poll("a", "x") == "a@1 ~x(no)"
    poller.accept()
    assert poller.poll("a", "x") is None
    poller.put("a@1 x@1")
    assert poller.poll("a", "x") == "a@1 x@1"
    poller.accept()
    poller.put("a@1 b@1")
    assert poller.poll("a", "x") == "a@1 ~x"
    assert poller.poll("a", error=REFUSED, nonce=poller.nonce) == "a@1"


def test_answer_with_errors_has_another_version_when_a_resource_changed() -> None:
    """V5, E1: what is there counts as well as what is not."""
    poller = Poller("SDS", TAKES_ERRORS, SDS="a@1")
    assert poller.poll("a", "b") == "a@1 ~b"
    poller.accept()
    poller.put("a@2")
    assert poller.poll("a", "b") == "a@2 ~b"


def test_errors_of_complete_state_and_collections_are_those_of_a_stream() -> None:
    """E1, E4, R3: a wildcard has none, a collection with nothing in it has one."""
    poller = Poller("CDS", TAKES_ERRORS, CDS="c@1 xdstp://a/T/web/1@1 ?xdstp://a/T/api/1")
    assert poller.poll("c", "x") == "c@1 ~x"
    assert poller.poll("xdstp://a/T/web/*", "xdstp://a/T/db/*") == (
        "xdstp://a/T/web/1@1 ~xdstp://a/T/db/*"
    )
    assert poller.poll("xdstp://a/T/api/*", "x") is None
    poller.put("c@1")
    assert poller.poll() == "c@1"


def test_who_takes_no_errors_is_told_none() -> None:
    """E1: it has the answers, and the versions, that it always had."""
    poller = Poller("EDS", EDS="a@1 -x(no)")
    assert poller.poll("x") is None
    assert poller.poll("a", "x") == "a@1"
    poller.accept()
    assert poller.poll("a") is None


def test_limits_and_types_are_those_of_a_stream() -> None:
    """V4: another type than the service's is refused, and so are too many names."""
    other = Stream(ResourceTypes.of(), only=SECRET)
    with pytest.raises(PeerProtocolError, match="only"):
        Poll(other, SotwRequest(ENDPOINT)).receive(Snapshot(), 0.0)
    limited = Stream(ResourceTypes.of(), only=SECRET, limits=StreamLimits(names=1))
    with pytest.raises(PeerLimitExceeded, match="more than 1 resource names"):
        Poll(limited, SotwRequest(SECRET, ("a", "b"))).receive(Snapshot(), 0.0)


def test_no_ttl_is_told() -> None:
    """T1: a poll keeps nothing alive, so it says nothing of when that ends."""
    features = frozenset({"xds.config.supports-resource-ttl", "xds.config.resource-in-sotw"})
    lasting = Resource.of(ENDPOINT, "a", b"a@1", ttl=5.0)
    everything = Snapshot({ENDPOINT: TypeSnapshot.of([lasting])})
    request = SotwRequest(ENDPOINT, node=Node("n", client_features=features))
    stream = Stream(ResourceTypes.of(), only=ENDPOINT)
    stream.identify(request)
    poll = Poll(stream, request)
    poll.receive(everything, 0.0)
    reply = poll.reply(everything, 0.0)
    assert reply is not None
    assert reply.resources == (lasting,)
    assert not reply.ttls
