"""What is left of an instance that was removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.api.v1 import app_pb2, app_pb2_grpc, sidecar_pb2, sidecar_pb2_grpc
from control_plane.reconciler.membership import absences, farewells
from tests.envoy.harness import until
from tests.faults.memory import remembering
from tests.security.test_addresses import connected
from tests.security.world import control_plane, enrol, stream

MEANT = ("._remembered.", "._buckets.", ".tombstones.")
"""Tables that instances share, and how often somebody came: of each so many have room. And what is
on the disk as well, for as long as a certificate of the instance may be shown."""


async def test_nobody_remembers_an_instance_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control plane that runs for years holds no more than what there is."""
    monkeypatch.setattr(farewells, "BOUND_SECONDS", 0.1)
    monkeypatch.setattr(absences, "GRACE_SECONDS", 0.1)
    report = sidecar_pb2.ReportRequest(
        listening=True,
        exposed_ports=[8080],
        open_ports=[8080],
        served_serial="a1",
        trusted_roots=[f"sha256:{'a' * 64}"],
    )
    async with control_plane(tmp_path) as cf:
        await cf.create_app("app-b")
        holder = await enrol(cf, "app-b", "127.0.2.1")
        async with stream(cf, holder) as client:
            await connected(cf, client, holder)
            async with holder.connect(cf.running.xds_address) as channel:
                await sidecar_pb2_grpc.SidecarServiceStub(channel).Report(report)
            assert len(remembering(cf.running, holder.guid)) > 20
            async with cf.operator() as channel:
                request = app_pb2.DeleteAppRequest(app="app-b")
                await app_pb2_grpc.AppServiceStub(channel).DeleteApp(request)

        async def is_forgotten() -> bool:
            ways = remembering(cf.running, holder.guid)
            left[:] = [way for way in ways if not any(each in way for each in MEANT)]
            return not left

        left: list[str] = []
        try:
            await until(is_forgotten, what="nobody remembers the instance")
        except AssertionError as error:
            error.add_note("\n".join(left))
            raise
