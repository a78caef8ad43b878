"""What an instance reports is checked like anything that comes from outside, and is its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.names import InstanceGuid
from control_plane.server.sidecars import MAX_PORTS
from tests.security.world import bystander, control_plane, enrol, refused, xds_address

BAD: dict[str, tuple[sidecar_pb2.ReportRequest, str]] = {
    "a serial that is none": (
        sidecar_pb2.ReportRequest(served_serial="0x1f"),
        "served serial must be at most 40 hexadecimal digits: '0x1f'",
    ),
    "a serial of a megabyte": (
        sidecar_pb2.ReportRequest(served_serial="f" * 1_000_000),
        "served serial must be at most 40 hexadecimal digits: ",
    ),
    "a port that is none": (
        sidecar_pb2.ReportRequest(exposed_ports=[0]),
        "invalid port 0, must be in range 1-65535",
    ),
    "more ports than there are": (
        sidecar_pb2.ReportRequest(exposed_ports=[1] * 100_000),
        f"a report may name {MAX_PORTS} ports, not 100000",
    ),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_report_is_refused_whole(tmp_path: Path, kind: str) -> None:
    """Nothing of it is kept, and nobody else notices."""
    request, sentence = BAD[kind]
    async with control_plane(tmp_path) as cf, bystander(cf):
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        before = _kept(cf.running.core.attestation)
        async with holder.connect(xds_address(cf)) as channel:
            stub = sidecar_pb2_grpc.SidecarServiceStub(channel)
            code, details = await refused(stub.Report(request))

        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert details.startswith(sentence)
        assert len(details) < 500
        assert _kept(cf.running.core.attestation) == before


async def test_an_instance_speaks_for_itself_only(tmp_path: Path) -> None:
    """There is no field for another instance: whose report it is follows from the certificate."""
    async with control_plane(tmp_path) as cf, bystander(cf) as there:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        report = sidecar_pb2.ReportRequest(exposed_ports=[8080], leaving=True)
        async with holder.connect(xds_address(cf)) as channel:
            await sidecar_pb2_grpc.SidecarServiceStub(channel).Report(report)
        exposed = cf.running.core.attestation.exposed

        assert exposed.get(InstanceGuid(holder.guid)) == (8080,)
        assert InstanceGuid(there.holder.guid) not in exposed


def _kept(attestation: object) -> Mapping[str, str]:
    return {name: repr(value) for name, value in vars(attestation).items()}
