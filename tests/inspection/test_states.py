"""Each state in which an operator may find an instance, on real Envoys, and the way back.

Every test ends with everything SYNCED and served again: a state that is not left was not shown, it
was caused.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from control_plane.api.v1 import app_pb2, app_pb2_grpc, inspection_pb2
from control_plane.ca import new_key_pair
from control_plane.envoy.secrets import tls_secret
from control_plane.names import InstanceGuid
from control_plane.nodes import LiveStream
from control_plane.reconciler.certificates.held import Held
from control_plane.xds.events import Acked, Event
from control_plane.xds.messages import Reply
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import SECRET
from control_plane.xds.snapshot import Snapshot, TypeSnapshot
from tests.envoy import tls_client
from tests.envoy.harness import Envoy, until
from tests.inspection.commands import c2c
from tests.inspection.world import (
    APP,
    C2C_SECRET,
    NAME,
    Scene,
    is_served,
    is_synced,
    scene,
    type_of,
    words,
)
from tests.tls_pairs import chain_in

ALL_SYNCED = {
    "CDS": "SYNCED",
    "LDS": "SYNCED",
    "SDS": "SYNCED",
    "ECDS": "NOT_ASKED",
    "NAMES": "NOT_ASKED",
}


async def test_synced_and_served(tmp_path: Path) -> None:
    """D3: SYNCED means ACKed; served means that a handshake of anybody shows that serial."""
    async with scene(tmp_path) as here, here.envoy():
        status = await here.until_served()
        leaf = await tls_client.handshake(
            here.address, NAME, here.cf.trust_bundle, source=here.address
        )

        assert words(status) == ALL_SYNCED
        assert status.connected
        assert (status.wanted_serial, status.served_serial) == (f"{leaf.serial:x}",) * 2
        for each in status.types:
            assert each.wanted_version == each.sent_version == each.acked_version
            assert each.reason == ""
            assert {resource.name for resource in each.resources} or each.type in ("ECDS", "NAMES")
        acked = next(r.since for r in type_of(status, "SDS").resources if r.name == C2C_SECRET)
        waited = status.certificate_since.ToDatetime() - acked.ToDatetime()
        assert timedelta(milliseconds=-1) < waited < timedelta(seconds=5)


async def test_before_anybody_connects(tmp_path: Path) -> None:
    """An instance that is registered and has no Envoy is shown, with all that it lacks."""
    async with scene(tmp_path) as here:
        status = await here.status()

        assert (status.status, status.connected) == ("registered", False)
        assert set(words(status).values()) == {"NOT_ASKED"}
        assert status.certificate == inspection_pb2.CERTIFICATE_STATE_NONE
        assert status.certificate_reason == "none was issued: it never connected"
        ran = await c2c(here.cf, "status")
        assert f"{APP}/0 is not ready: its Envoy never connected: see whether it runs, " in ran.out


async def test_stale(tmp_path: Path) -> None:
    """D3: what a paused Envoy was sent is STALE: neither ACKed nor refused, with what and since."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        before = await here.until_served()
        envoy.pause()
        await here.map_route("second")
        status = await here.until(
            lambda status: words(status)["SDS"] == "STALE", what="the secret is STALE"
        )
        secrets = type_of(status, "SDS")

        assert words(status) == {**ALL_SYNCED, "SDS": "STALE"}
        assert secrets.reason == f"sent and not answered yet: {C2C_SECRET}"
        assert secrets.sent_version == secrets.wanted_version != secrets.acked_version
        assert secrets.acked_version == type_of(before, "SDS").acked_version
        assert status.certificate == inspection_pb2.CERTIFICATE_STATE_ISSUED
        assert status.wanted_serial != before.wanted_serial
        envoy.resume()
        assert words(await here.until_served()) == ALL_SYNCED


async def test_a_secret_that_is_refused(tmp_path: Path) -> None:
    """D3: a NACK is ERROR with Envoy's own text, and the old certificate goes on being served."""
    async with scene(tmp_path) as here, here.envoy():
        before = await here.until_served()
        _break_secret(here)
        status = await here.until(
            lambda status: words(status)["SDS"] == "ERROR", what="the secret is refused"
        )
        leaf = await tls_client.handshake(
            here.address, NAME, here.cf.trust_bundle, source=here.address
        )
        (refused,) = [each for each in type_of(status, "SDS").resources if each.refused_version]

        assert "KEY_VALUES_MISMATCH" in type_of(status, "SDS").reason
        assert "KEY_VALUES_MISMATCH" in refused.reason
        assert refused.name == C2C_SECRET
        assert refused.acked_version != refused.wanted_version == refused.refused_version
        assert f"{leaf.serial:x}" == before.served_serial
        await here.map_route("second")
        assert words(await here.until_served()) == ALL_SYNCED


async def test_a_listener_whose_port_is_taken(tmp_path: Path) -> None:
    """D3: a bind failure is ERROR with Envoy's text, and over once the port is free."""
    async with scene(tmp_path) as here:
        with contextlib.closing(socket.socket()) as squatter:
            squatter.bind((here.address, 61443))
            squatter.listen()
            async with here.envoy():
                status = await here.until(
                    lambda status: _refused(status, "LDS") == ["listener-8080-61443"],
                    what="the one listener is refused, and the other taken",
                )
                refused = type_of(status, "LDS").resources[1]

                assert "Address already in use" in refused.reason
                assert type_of(status, "LDS").reason == f"{refused.name}: {refused.reason}"
                port = await until(lambda: _advised(here), what="the port's link has advice")
                assert port is not None
                assert port.advice.startswith(f"end what listens on 61443 of {here.address}")
                assert port.command == ""
                squatter.close()
                assert words(await here.until_served()) == ALL_SYNCED


async def _advised(here: Scene) -> inspection_pb2.Link | None:
    """Return the link of the port, but not while the listener is tried once more."""
    links = {each.kind: each for each in (await here.operator.why("", APP)).links}
    return links["port"] if links["port"].advice else None


async def test_not_sent(tmp_path: Path) -> None:
    """D3: a listener that waits for its cluster is NOT_SENT, and so is nothing that is not due."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        await here.until_served()
        envoy.pause()
        async with here.cf.operator() as channel:
            await app_pb2_grpc.AppServiceStub(channel).UpdateApp(
                app_pb2.UpdateAppRequest(app=APP, ports=[8080, 9090])
            )
        status = await here.until(
            lambda status: words(status)["CDS"] == "STALE", what="the cluster is on its way"
        )

        assert words(status)["LDS"] == "NOT_SENT"
        assert type_of(status, "LDS").reason == "not sent yet: listener-9090-61002"
        assert words(status)["SDS"] == "SYNCED"
        envoy.resume()
        assert words(await here.until_served()) == ALL_SYNCED


async def test_acked_but_not_served(tmp_path: Path) -> None:
    """An Envoy that stops right after its ACK is found out, and believed again when it serves."""
    async with scene(tmp_path) as here, here.envoy() as envoy:
        await here.until_served()
        stopper = _StopsAtAck(envoy)
        here.cf.running.core.nodes.observe(stopper)
        await here.map_route("second")
        not_served = inspection_pb2.CERTIFICATE_STATE_NOT_SERVED
        status = await here.until(
            lambda status: status.certificate == not_served, what="it is ACKed and not served"
        )

        assert words(status) == ALL_SYNCED
        assert status.certificate_reason.startswith(f"no TLS handshake with {here.address}:61443")
        assert status.served_serial == ""
        envoy.resume()
        assert words(await here.until_served()) == ALL_SYNCED


async def test_a_sidecar_that_sees_the_old_certificate(tmp_path: Path) -> None:
    """What the sidecar next door reports counts, and says which serial is shown instead."""
    async with scene(tmp_path) as here, here.envoy():
        served = (await here.until_served()).served_serial
        await here.report(listening=True, served_serial="bad")
        not_served = inspection_pb2.CERTIFICATE_STATE_NOT_SERVED
        status = await here.until(
            lambda status: status.certificate == not_served, what="the report is believed"
        )

        assert words(status) == ALL_SYNCED
        assert status.reports
        assert (
            status.certificate_reason == "the last TLS handshake with port 61443 showed serial bad"
        )
        assert (status.wanted_serial, status.served_serial) == (served, "bad")
        reporting = asyncio.create_task(here.report(listening=True, served_serial=served))
        await here.until_served()
        reporting.cancel()


async def test_a_connection_that_is_gone(tmp_path: Path) -> None:
    """An Envoy that ended is not connected; one that starts again begins with nothing."""
    async with scene(tmp_path) as here:
        async with here.envoy():
            first = await here.until_served()
        status = await here.until(lambda status: not status.connected, what="it is disconnected")
        assert set(words(status).values()) == {"NOT_ASKED"}
        async with here.envoy():
            again = await here.until_served()

        assert again.wanted_serial == first.wanted_serial
        assert again.connected_since.ToDatetime() > first.connected_since.ToDatetime()
        assert is_synced(again)
        assert is_served(again)


def _refused(status: inspection_pb2.InstanceStatus, short: str) -> list[str]:
    """Return the resources of a type that are in ERROR."""
    error = inspection_pb2.CONFIG_STATUS_ERROR
    return [each.name for each in type_of(status, short).resources if each.status == error]


@dataclass(frozen=True, slots=True)
class _StopsAtAck:
    """Pauses an Envoy at the moment in which it ACKs a secret; an observer of streams."""

    envoy: Envoy

    def opened(self, _live: LiveStream) -> None:
        """Do nothing."""

    def told(self, _live: LiveStream, events: Sequence[Event]) -> None:
        """Pause it before anybody had time to look."""
        if any(isinstance(each, Acked) and C2C_SECRET in each.versions for each in events):
            self.envoy.pause()

    def sent(self, _live: LiveStream, _reply: Reply) -> None:
        """Do nothing."""

    def closed(self, _live: LiveStream) -> None:
        """Do nothing."""


def _break_secret(here: Scene) -> None:
    """Give the instance a secret whose key is not that of its certificate."""
    core, guid = here.cf.running.core, InstanceGuid(here.holder.guid)
    held = core.custody.get(guid, C2C_SECRET)
    assert isinstance(held, Held)
    key = new_key_pair().private_pem()
    body = tls_secret(C2C_SECRET, chain_in(held.resource), key)
    snapshot = core.nodes.snapshot(guid)
    assert snapshot is not None
    others = [
        each for name, each in snapshot.of_type(SECRET).resources.items() if name != C2C_SECRET
    ]
    broken = TypeSnapshot.of([*others, Resource.of(SECRET, C2C_SECRET, body)])
    core.nodes.set(guid, Snapshot({**snapshot.types, SECRET: broken}))
