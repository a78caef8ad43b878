"""Which names that a client asked for are told to the audit log, and when."""

from __future__ import annotations

from datetime import UTC, datetime

from control_plane.nodes import LiveStream, Nodes, Variant
from control_plane.server.access.refusals import RefusalTally
from control_plane.server.observability.name_audit import MOST_EARLY, NameAudit
from control_plane.xds.events import Subscribed
from control_plane.xds.messages import Node, Reply, SotwRequest
from control_plane.xds.resource import Nonce, Resource, Version
from control_plane.xds.resource_type import LISTENER, SECRET, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.server_security.still_clock import StillClock

MINE = Resource.of(SECRET, "mine", b"secret")
FOREIGN = (Subscribed(SECRET, frozenset({"mine", "foreign"})),)


def asking(nodes: Nodes) -> LiveStream:
    """Return a stream of node-1 that was let in."""
    stream = Stream(ResourceTypes.of())
    stream.identify(SotwRequest(SECRET, node=Node("node-1")))
    live = LiveStream(1, stream, Variant.SOTW, "ipv4:1.2.3.4:5", (), datetime.now(UTC))
    nodes.opened(live)
    return live


def test_a_foreign_name_is_told_once() -> None:
    """Of what a node asks for, that counts which it should not have."""
    nodes = Nodes()
    nodes.set("node-1", Snapshot({SECRET: TypeSnapshot.of([MINE])}))
    audit = NameAudit(nodes, RefusalTally(StillClock()))
    live = asking(nodes)
    audit.told(live, FOREIGN)
    audit.sent(live, Reply(SECRET, Nonce("1"), Version("v"), (MINE,), ()))
    audit.closed(live)

    assert audit.denied == 1


def test_who_asks_before_its_turn_is_told_of_at_it() -> None:
    """To come with a crowd, before there is a plan, hides nobody."""
    nodes = Nodes()
    audit = NameAudit(nodes, RefusalTally(StillClock()))
    live = asking(nodes)
    audit.told(live, FOREIGN)
    assert audit.denied == 0
    nodes.set("node-1", Snapshot({SECRET: TypeSnapshot.of([MINE])}))
    audit.sent(live, Reply(SECRET, Nonce("1"), Version("v"), (MINE,), ()))

    assert audit.denied == 1


def test_who_asks_without_end_before_its_turn_takes_no_memory() -> None:
    """It may give up what it asks for, and ask for more, for as long as there is no plan."""
    nodes = Nodes()
    audit = NameAudit(nodes, RefusalTally(StillClock()))
    live = asking(nodes)
    for number in range(MOST_EARLY):
        names = frozenset({"mine", f"a-{number}", f"b-{number}"})
        audit.told(live, (Subscribed(SECRET, names), Subscribed(LISTENER, names)))

    assert sum(len(names) for names in audit._early[live].values()) == MOST_EARLY

    nodes.set("node-1", Snapshot({SECRET: TypeSnapshot.of([MINE])}))
    audit.sent(live, Reply(SECRET, Nonce("1"), Version("v"), (MINE,), ()))

    assert audit.denied == MOST_EARLY - 1  # which is its own
    assert audit._early == {}


def test_who_asks_for_foreign_names_only_is_told_of_when_it_leaves() -> None:
    """It may be sent nothing at all."""
    nodes = Nodes()
    audit = NameAudit(nodes, RefusalTally(StillClock()))
    live = asking(nodes)
    audit.told(live, (Subscribed(SECRET, frozenset({"foreign"})),))
    nodes.set("node-1", Snapshot({SECRET: TypeSnapshot.of([MINE])}))
    nodes.closed(live)
    audit.closed(live)

    assert audit.denied == 1
