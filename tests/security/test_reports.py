"""What an instance reports is checked like anything that comes from outside, and is its own."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from weakref import ref

import grpc
import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.api.v1 import (
    instance_pb2,
    instance_pb2_grpc,
    sidecar_pb2,
    sidecar_pb2_grpc,
)
from control_plane.names import InstanceGuid
from control_plane.server.access.admission import Context
from control_plane.server.sidecars.reporting import Facts, Reporting
from control_plane.server.sidecars.service import MAX_PORTS, READ_AT_ONCE, READ_PER_SECOND
from tests.security.holders import Holder
from tests.security.world import (
    ShiftedClock,
    bystander,
    control_plane,
    enrol,
    refused,
    renew,
    told,
    xds_address,
)
from tests.sidecar.platform import Platform
from tests.waiting import eventually
from tests.xds_client import PATIENCE

GOOD = sidecar_pb2.ReportRequest(exposed_ports=[8080])

ANSWERED = sidecar_pb2.ReportRequest(trusted_roots=["sha256:" + 64 * "0"])
"""It trusts another CA than it should, so that it is told which."""

BIG = 16 * 1024 * 1024
"""Octets of an answer that no window of HTTP/2 has room for."""

SOUND: dict[str, Any] = {
    "listening": True,
    "leaving": True,
    "exposed_ports": [8080],
    "served_serial": "1f",
}
"""What could be kept of a report in which something else is wrong."""


def _report(**fields: Any) -> sidecar_pb2.ReportRequest:  # noqa: ANN401 - of the request
    return sidecar_pb2.ReportRequest(**SOUND | fields)


BAD: dict[str, tuple[sidecar_pb2.ReportRequest, str]] = {
    "a serial that is none": (
        _report(served_serial="0x1f"),
        "served serial must be at most 40 hexadecimal digits: '0x1f'",
    ),
    "a serial of a megabyte": (
        _report(served_serial="f" * 1_000_000),
        "served serial must be at most 40 hexadecimal digits: ",
    ),
    "a port that is none": (
        _report(exposed_ports=[8080, 0]),
        "invalid port 0, must be in range 1-65535",
    ),
    "a port for 61443 that is none": (
        _report(c2c_port=-1),
        "invalid port -1, must be in range 1-65535",
    ),
    "more ports than there are": (
        _report(exposed_ports=[1] * 100_000),
        f"a report may name {MAX_PORTS} ports, not 100000",
    ),
    "a root that is none": (
        _report(trusted_roots=["sha256:0"]),
        "a trusted root must be sha256: and 64 hexadecimal digits: 'sha256:0'",
    ),
}


@asynccontextmanager
async def reporting(directory: Path) -> AsyncIterator[tuple[Platform, Holder, grpc.aio.Channel]]:
    """Run a control plane with an instance that is connected, and a bystander, until the end."""
    async with control_plane(directory) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with holder.connect(xds_address(cf)) as channel:
            yield cf, holder, channel


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_report_is_refused_whole(tmp_path: Path, kind: str) -> None:
    """Nothing of it is kept, and nobody else notices."""
    request, sentence = BAD[kind]
    async with reporting(tmp_path) as (cf, holder, channel):
        before = _kept(cf, holder)
        stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
        code, details = await refused(stub.Report(request))

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith(sentence)
        assert len(details) < 500
        assert _kept(cf, holder) == before


async def test_an_instance_speaks_for_itself_only(tmp_path: Path) -> None:
    """There is no field for another instance: whose report it is follows from the certificate."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        report = sidecar_pb2.ReportRequest(exposed_ports=[8080], leaving=True)
        async with holder.connect(xds_address(cf)) as channel:
            await sidecar_pb2_grpc.SidecarServiceStub(channel).Report(report)
        exposed = cf.running.core.attestation.exposed

        assert exposed(InstanceGuid(holder.guid)) == (8080,)
        assert exposed(InstanceGuid(there.holder.guid)) == ()


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_report_on_a_stream_ends_it(tmp_path: Path, kind: str) -> None:
    """It is refused like any other, and the sidecar may open the next stream."""
    request, sentence = BAD[kind]
    async with reporting(tmp_path) as (cf, holder, channel):
        before = _kept(cf, holder)
        code, details = await _ended(await _keep(channel, request))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith(sentence)
        assert len(details) < 500
        assert _kept(cf, holder) == before

        assert not (await _keep(channel, GOOD)).done()


async def test_a_sidecar_that_reports_without_end_is_heard_now_and_then(tmp_path: Path) -> None:
    """What it says beyond that waits where it is, and takes no time from anybody else."""
    more = 10
    async with reporting(tmp_path) as (cf, holder, channel):
        heard: list[float] = []
        enough = asyncio.Event()

        def hear(instance: InstanceGuid) -> None:
            assert instance == holder.guid
            heard.append(time.monotonic())
            if len(heard) == READ_AT_ONCE + more:
                enough.set()

        cf.running.core.attestation.observe(hear)
        call = sidecar_pb2_grpc.SidecarServiceStub(channel).KeepReporting()
        for _ in range(READ_AT_ONCE + more):
            await call.write(GOOD)
        async with asyncio.timeout(PATIENCE):
            await enough.wait()

    assert heard[-1] - heard[0] >= (more - 1) / READ_PER_SECOND


async def test_bytes_that_are_no_report_end_the_stream(tmp_path: Path) -> None:
    """Whoever sends them is told, and it is not called a defect of ours."""
    async with reporting(tmp_path) as (_, _, channel):
        raw: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        raw = channel.stream_stream("/c2c.v1.SidecarService/KeepReporting")
        call = raw()
        await call.write(b"\xff")

        assert await _ended(call) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "bytes that are no message of this method",
        )


async def test_an_instance_reports_on_its_newest_stream(tmp_path: Path) -> None:
    """One that reconnects is not held up by what is left of its last connection."""
    async with reporting(tmp_path) as (_, _, channel):
        old = await _keep(channel, GOOD)
        await _keep(channel, GOOD)

        assert await _ended(old) == (
            grpc.StatusCode.UNAVAILABLE,
            "this instance reports on a newer stream",
        )


async def test_a_stream_of_reports_that_was_ended_is_freed_at_once(tmp_path: Path) -> None:
    """Nothing is left for the garbage collector, which looks at old objects once in weeks."""
    async with reporting(tmp_path) as (_, _, channel):
        old = await _keep(channel, GOOD)
        (kept,) = [ref(each) for each in gc.get_objects() if type(each) is Reporting]
        gc.disable()
        try:
            await _keep(channel, GOOD)
            await _ended(old)

            await eventually(lambda: kept() is None, "what the stream worked with is freed")
        finally:
            gc.enable()


async def test_a_stream_of_reports_that_outlives_the_next_ends_as_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last write may take long; by then there may be no newer stream any more."""
    written, run = asyncio.Event(), Reporting.run

    async def slow(self: Reporting, context: Context) -> None:
        monkeypatch.setattr(Reporting, "run", run)
        try:
            await run(self, context)
        finally:
            await written.wait()

    monkeypatch.setattr(Reporting, "run", slow)
    async with reporting(tmp_path) as (_, _, channel):
        old = await _keep(channel, GOOD)
        new = await _keep(channel, GOOD)
        await new.done_writing()
        assert (await _ended(new))[0] is grpc.StatusCode.OK
        written.set()

        assert await _ended(old) == (
            grpc.StatusCode.UNAVAILABLE,
            "this instance reports on a newer stream",
        )


async def test_a_stream_of_reports_that_is_not_read_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that waits for a sidecar that does not read keeps nothing open."""
    answered, ended, run = asyncio.Event(), asyncio.Event(), Reporting.run

    def large(_: Facts) -> sidecar_pb2.ReportResponse:
        answered.set()
        return sidecar_pb2.ReportResponse(trust_bundle=BIG * "0")

    async def watched(self: Reporting, context: Context) -> None:
        monkeypatch.setattr(Reporting, "run", run)
        self._answer = large
        try:
            await run(self, context)
        finally:
            ended.set()

    monkeypatch.setattr(Reporting, "run", watched)
    async with reporting(tmp_path) as (_, _, channel):
        await _keep(channel, ANSWERED)
        await asyncio.wait_for(answered.wait(), PATIENCE)
        await _keep(channel, GOOD)

        await asyncio.wait_for(ended.wait(), PATIENCE)


async def test_a_removed_instance_reports_no_more(tmp_path: Path) -> None:
    """What proved it when the stream was opened is asked for with each report."""
    async with reporting(tmp_path) as (cf, holder, channel):
        call = await _keep(channel, GOOD)
        async with cf.operator() as operator:
            await instance_pb2_grpc.InstanceServiceStub(operator).RemoveInstance(
                instance_pb2.RemoveInstanceRequest(guid=holder.guid)
            )
        await call.write(GOOD)

        code, details = await _ended(call)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert " was removed: with a new token " in details
        assert cf.running.core.attestation.exposed(InstanceGuid(holder.guid)) == ()


async def test_a_certificate_that_ended_reports_no_more(tmp_path: Path) -> None:
    """Nor does it on a stream that it opened when it was valid."""
    clock = ShiftedClock()
    async with control_plane(tmp_path, clock) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with holder.connect(xds_address(cf)) as channel:
            call = await _keep(channel, GOOD)
            clock.shift = timedelta(days=1, hours=1)
            await call.write(GOOD)

            code, details = await _ended(call)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert details.startswith("client certificate ended at ")


async def test_a_stream_that_outlives_its_certificate_is_no_theft(tmp_path: Path) -> None:
    """Once a newer one was used, it is told to come back; who comes with the older one is a thief.

    Envoy may be the first to show the newer one, while the sidecar's reports still show the other.
    """
    async with reporting(tmp_path) as (cf, holder, channel):
        call = await _keep(channel, GOOD)
        newer = await renew(cf, holder)
        async with newer.connect(xds_address(cf)) as other:
            await sidecar_pb2_grpc.SidecarServiceStub(other).Report(GOOD)
        with capture_logs() as lines:
            await call.write(GOOD)

            assert await _ended(call) == (
                grpc.StatusCode.UNAVAILABLE,
                "a newer certificate of this instance was used: come back",
            )
            assert not told(lines, log_events.AUDIT_NODE_REFUSED)

            again = sidecar_pb2_grpc.SidecarServiceStub(channel).KeepReporting()
            code, details = await _ended(again)

            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert " does not count any more, since a newer one was used" in details
            assert len(told(lines, log_events.AUDIT_NODE_REFUSED)) == 1


async def _keep(
    channel: grpc.aio.Channel, request: sidecar_pb2.ReportRequest
) -> grpc.aio.StreamStreamCall[sidecar_pb2.ReportRequest, sidecar_pb2.ReportResponse]:
    """Open a stream of reports with this one, and return once the server lets it in."""
    call = sidecar_pb2_grpc.SidecarServiceStub(channel).KeepReporting()
    await call.write(request)
    await call.initial_metadata()
    return call


async def _ended(call: grpc.aio.Call) -> tuple[grpc.StatusCode, str]:
    """Return how the server ended a stream."""
    async with asyncio.timeout(PATIENCE):
        return await call.code(), await call.details() or ""


def _kept(cf: Platform, holder: Holder) -> Mapping[str, str]:
    """Return all that is known of instances by what sidecars reported."""
    core = cf.running.core
    known = {name: repr(value) for name, value in vars(core.attestation).items()}
    return known | {"word": repr(core.presence.word(InstanceGuid(holder.guid)))}
