"""Events over the wire: what is told, to whom, and what becomes of somebody who does not read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from control_plane.api.v1 import (
    app_pb2,
    app_pb2_grpc,
    inspection_pb2,
    inspection_pb2_grpc,
)
from control_plane.server.observability import feed
from control_plane.server.observability.feed import Fact, Kind
from control_plane.xds.resource_type import SECRET
from tests.envoy.harness import until
from tests.inspection.world import APP, C2C_SECRET, scene
from tests.security.world import stream
from tests.unit.model.refusals import no_app

MANY = 60_000
"""Enough to fill the buffers of both ends and the queue besides."""


async def test_the_life_of_an_instance_is_told(tmp_path: Path) -> None:
    """Issued, connected, sent, ACKed, served, ready, and in the end disconnected."""
    async with scene(tmp_path) as here, here.operator.events(app=APP) as events:
        async with here.envoy():
            await here.until_served()
        gone = await events.until("disconnected")
        first = [event.kind for event in events.heard]
        acked = next(event for event in events.heard if C2C_SECRET in event.resources[:1])

    assert first[:3] == ["issued", "issued", "connected"]
    assert {"sent", "acked", "served", "ready"} <= set(first)
    assert gone.sentence.startswith("app-b/0 closed a stream")
    assert {event.app for event in events.heard} == {APP}
    assert {event.instance_guid for event in events.heard} == {here.holder.guid}
    assert acked.serial
    for event in events.heard:
        assert event.sentence.startswith("app-b/0 "), event
        assert event.at.seconds > 0
        if event.kind in ("sent", "acked"):
            assert event.nonce
            assert event.type_url
            assert event.resources


async def test_what_was_deleted_is_told_with_its_name(tmp_path: Path) -> None:
    """The app is not in the State any more, and nobody could look up what its GUID stands for."""
    async with scene(tmp_path) as here, here.operator.events() as events:
        async with here.cf.operator() as channel:
            await app_pb2_grpc.AppServiceStub(channel).DeleteApp(app_pb2.DeleteAppRequest(app=APP))
        await events.until("deleted")
        told = {event.kind: event.app for event in events.heard}

    assert [told[kind] for kind in ("removed", "unmapped", "deleted")] == [APP] * 3


async def test_what_is_refused_is_told(tmp_path: Path) -> None:
    """A NACK with its text, and names that were asked for in vain."""
    async with scene(tmp_path) as here, here.operator.events("nacked", "denied") as events:
        async with stream(here.cf, here.holder) as client:
            await client.subscribe(SECRET, C2C_SECRET, "somebody-elses")
            await client.nack(await client.receive(), "I do not like it")
            nacked = await events.until("nacked")
        denied = await events.until("denied")

    assert nacked.sentence == f"app-b/0 NACKed SDS {C2C_SECRET}: I do not like it"
    assert denied.sentence == "app-b/0 asked in vain for SDS somebody-elses"
    assert list(denied.resources) == ["somebody-elses"]


async def test_who_does_not_read_loses_and_is_told_how_much(tmp_path: Path) -> None:
    """Telling never waits: another watcher hears everything, and calls are answered meanwhile."""
    async with scene(tmp_path) as here, here.cf.operator() as channel:
        stub = inspection_pb2_grpc.InspectionServiceStub(channel)
        slow = stub.WatchEvents(inspection_pb2.WatchEventsRequest(kinds=["sent", "gone"]))
        await slow.initial_metadata()
        told = here.cf.running.core.observed.feed
        async with here.operator.events("gone") as quick:
            for number in range(MANY):
                told.tell(Fact(kind=Kind.SENT, sentence="x" * 100, revision=number))
                if number % 100 == 0:
                    await asyncio.sleep(0)  # others have their turns, and the slow one could read
            told.tell(Fact(kind=Kind.GONE, sentence="the last"))
            assert (await quick.until("gone")).sentence == "the last"
            assert (await here.status()).instance_guid == here.holder.guid
        heard: list[inspection_pb2.Event] = []
        async for event in slow:
            heard.append(event)
            if event.kind == "gone":
                break
        slow.cancel()
        lost = sum(event.lost for event in heard)

        assert lost > 0
        assert lost + len(heard) == MANY + 1
        assert told.lost >= lost
        assert len(heard) >= feed.QUEUE


async def test_a_watcher_that_hangs_up_is_forgotten(tmp_path: Path) -> None:
    """It costs nothing from then on."""
    async with scene(tmp_path) as here:
        told = here.cf.running.core.observed.feed
        async with here.operator.events():
            assert told.watchers == 1

        async def nobody() -> bool:
            return told.watchers == 0

        await until(nobody, what="nobody watches any more")


async def test_a_filter_for_nobody_is_refused(tmp_path: Path) -> None:
    """An app that does not exist would be watched for ever in vain."""
    async with scene(tmp_path) as here, here.cf.operator() as channel:
        stub = inspection_pb2_grpc.InspectionServiceStub(channel)
        call = stub.WatchEvents(inspection_pb2.WatchEventsRequest(app="nobody"))

        assert await call.code() is grpc.StatusCode.NOT_FOUND
        assert await call.details() == no_app("nobody")
