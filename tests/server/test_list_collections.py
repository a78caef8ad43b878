"""List collections (xDS proposal TP1): a list is a resource, and so is each of its members."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from envoy.config.listener.v3.listener_pb2 import Listener, ListenerCollection
from google.protobuf.json_format import ParseDict

from control_plane.server.library import ResourceServer
from control_plane.xds.resource import Resource, TypeUrl
from control_plane.xds.resource_type import LISTENER, ResourceType
from tests.server.documents import documented
from tests.server.test_library import connected
from tests.server.world import names
from tests.xds_client import DeltaClient, SotwClient

KIND = "envoy.config.listener.v3.Listener"
LIST = TypeUrl(LISTENER + "Collection")
DOORS = f"xdstp://cp.test/{KIND}Collection/doors"
FRONT, BACK = (f"xdstp://cp.test/{KIND}/{name}" for name in ("front", "back"))
CONTEXT = "?a=1&b=2"


def locators(*members: str) -> ListenerCollection:
    """Return a list that says where each of its members is."""
    at = {"authority": "cp.test", "resource_type": KIND}
    entries = [{"locator": {**at, "id": each.rpartition("/")[2]}} for each in members]
    return ParseDict({"entries": entries}, ListenerCollection())


def resource(listed: ListenerCollection, name: str = DOORS + CONTEXT) -> Resource:
    """Return a list as what is set for a node."""
    return Resource.of(LIST, name, listed.SerializeToString(deterministic=True))


def content(response: Any) -> ListenerCollection:  # noqa: ANN401 - made at run time, without stubs
    """Return the one list in a response, of either variant."""
    (entry,) = response.resources
    packed = getattr(entry, "resource", entry)
    assert (response.type_url, packed.type_url) == (LIST, LIST)
    return ListenerCollection.FromString(packed.value)


@pytest.mark.parametrize("kind", [DeltaClient, SotwClient])
async def test_a_list_and_its_members_are_asked_for_by_name(
    kind: type[DeltaClient | SotwClient],
) -> None:
    """E4: parameters in any order, each member by what its locator says; a change is told."""
    both = [Listener(name=FRONT), Listener(name=BACK)]
    server = ResourceServer()
    async with connected(server) as channel, kind(channel, "n") as client:
        server.set_resources("n", [resource(locators(FRONT)), resource(locators(), DOORS), *both])
        await client.subscribe(LIST, f"{DOORS}?b=2&a=1")
        first = await client.receive()
        await client.ack(first)
        await client.subscribe(LISTENER, FRONT)
        member = await client.receive()
        await client.ack(member)
        server.set_resources("n", [resource(locators(FRONT, BACK)), *both])
        second = await client.receive()

    assert content(first) == locators(FRONT)
    assert content(second) == locators(FRONT, BACK)
    if kind is DeltaClient:
        assert names([*first.resources, *second.resources]) == [DOORS + CONTEXT] * 2
        assert names(member.resources) == [FRONT]
    assert len(member.resources) == 1


@pytest.mark.parametrize("kind", [DeltaClient, SotwClient])
async def test_what_goes_leaves_its_list_first(kind: type[DeltaClient | SotwClient]) -> None:
    """O1, E4: a type that is sent after its members' lets go of one before that is withdrawn."""
    server = ResourceServer(types=[ResourceType(LIST, after=(LISTENER,))])
    async with connected(server) as channel, kind(channel, "n") as client:
        server.set_resources(
            "n", [resource(locators(FRONT, BACK)), Listener(name=FRONT), Listener(name=BACK)]
        )
        await client.subscribe(LIST, DOORS + CONTEXT)
        await client.ack(await client.receive())
        await client.subscribe(LISTENER, FRONT, BACK)
        await client.ack(await client.receive())
        server.set_resources("n", [resource(locators(FRONT)), Listener(name=FRONT)])
        shorter = await client.receive()
        assert await client.is_silent()
        await client.ack(shorter)
        withdrawn = await client.receive()

    assert content(shorter) == locators(FRONT)
    assert withdrawn.type_url == LISTENER
    if kind is DeltaClient:
        assert list(withdrawn.removed_resources) == [BACK]
    else:
        assert [Listener.FromString(each.value).name for each in withdrawn.resources] == [FRONT]


async def test_the_documents_list_is_served() -> None:
    """E4: with a member that is elsewhere and one that it holds, which goes out as it was set."""
    example = documented("inline_entry")
    async with connected(example["SERVER"]) as channel, DeltaClient(channel, "node-1") as client:
        await client.subscribe(LIST, example["DOORS"])
        listed = content(await client.receive())
        front, side = listed.entries
        at = front.locator
        await client.subscribe(LISTENER, f"xdstp://{at.authority}/{at.resource_type}/{at.id}")
        member = await client.receive()

    inlined = Listener()
    assert side.inline_entry.resource.Unpack(inlined)
    assert (side.inline_entry.name, side.inline_entry.version) == ("side", "1")
    assert inlined == Listener(name="side")
    assert names(member.resources) == [f"xdstp://cp.example/{KIND}/front"]


async def test_an_entry_of_a_list_is_not_asked_for() -> None:
    """E4: "URNs do not include processing directives", which are for the client to follow."""
    server = ResourceServer()
    async with connected(server) as channel, DeltaClient(channel, "n") as client:
        server.set_resources("n", [resource(locators(FRONT), DOORS)])
        await client.subscribe(LIST, f"{DOORS}#entry=side")
        code, details = await client.status()

    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "#entry=side" in details
