"""What is promised to be frozen is: a set minus the keys of a map would be a set that can change.

The types do not tell: typeshed has ``frozenset - dict.keys()`` for a frozenset.
"""

from __future__ import annotations

import pytest

from control_plane.xds.events import Event, Subscribed, Unsubscribed
from control_plane.xds.messages import DeltaRequest, Locator, Node, Request, SotwRequest
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import ENDPOINT, ResourceTypes
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from control_plane.xds.stream import Stream
from tests.unit.xds.notation import constraints

GLOB = "xdstp://a/t/g/*"
VARIANT = Resource.of(ENDPOINT, "v", b"1", constraints=constraints("e=p"))
MEMBER = Resource.of(ENDPOINT, "xdstp://a/t/g/m", b"1")
SNAPSHOT = Snapshot(
    {
        ENDPOINT: TypeSnapshot.of(
            [Resource.of(ENDPOINT, "a", b"1"), MEMBER, VARIANT],
            pending=["p"],
            recorded={"r": VARIANT.version},
        )
    }
)
LOCATED = Locator("v", (("e", "p"),))
STATED = {"a": "1", "v": VARIANT.version, "gone": "1"}
NODE = Node("n")

DELTA: list[Request] = [
    DeltaRequest(ENDPOINT, ("a", "r", GLOB), (), STATED, node=NODE, subscribe_locators=(LOCATED,)),
    DeltaRequest(ENDPOINT, ("*",)),
    DeltaRequest(ENDPOINT, (), ("*", GLOB, "a")),
]
SOTW: list[Request] = [
    SotwRequest(ENDPOINT, ("a", "r", GLOB), node=NODE, resource_locators=(LOCATED,)),
    SotwRequest(ENDPOINT, ("*",)),
    SotwRequest(ENDPOINT, ("a",)),
]


def lived(requests: list[Request]) -> tuple[Stream, list[Event]]:
    """Return a stream that took some requests, each with the answer to the response before."""
    stream, events = Stream(ResourceTypes.of()), list[Event]()
    for request in requests:
        stream.identify(request)
        events += stream.receive(request, 0.0)
        for reply in stream.replies(SNAPSHOT, 0.0):
            answer = type(request)(ENDPOINT, response_nonce=reply.nonce)
            if isinstance(request, SotwRequest):
                answer = SotwRequest(ENDPOINT, request.resource_names, response_nonce=reply.nonce)
            events += stream.receive(answer, 0.0)
    return stream, events


@pytest.mark.parametrize("requests", [DELTA, SOTW])
def test_names_in_events_and_records_can_be_hashed(requests: list[Request]) -> None:
    """Whoever keeps what it is told may put it into sets, and nobody changes it afterwards."""
    stream, events = lived(requests)
    named = [each.names for each in events if isinstance(each, Subscribed | Unsubscribed)]
    content = SNAPSHOT.of_type(ENDPOINT)
    kept = [content.pending, content.differs_from(TypeSnapshot.of()), stream.missing(SNAPSHOT)]
    machine = stream.machines[ENDPOINT]
    kept += [machine.subscription.globs, machine.exchange._maybe_applied]
    kept += [each._stated for each in stream._translation._variants.values()]
    assert len(named) >= 3
    assert {type(each) for each in (*named, *kept, *content.collections.values())} == {frozenset}
