"""A control plane in a process of its own, which a test may kill and start again.

The rule of this module: the command is the one that operators type, on ports and a data directory
that stay the same, so that what comes back is the same control plane.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc

from control_plane.api.v1 import inspection_pb2, inspection_pb2_grpc
from control_plane.app.control_plane import DATABASE_FILE
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.log_events import SERVER_STARTED
from control_plane.settings import Settings, SocketAddress, admin_socket
from control_plane.settings.retired import CA_FILE
from control_plane.sidecar.retry import MOST_SECONDS
from tests.envoy.harness import DEADLINE, until
from tests.inspection.test_metrics import total
from tests.installed import C2C
from tests.sidecar.platform import Platform, free_port
from tests.waiting import ended


@dataclass(slots=True)
class Plane(Platform):
    """A control plane that runs as a process, or was killed."""

    process: asyncio.subprocess.Process | None = None
    log: list[str] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None

    @property
    def trust_bundle(self) -> bytes:
        """What clients of instances trust."""
        pair = (self.settings.data_dir / CA_FILE).read_bytes()
        mark = b"-----BEGIN CERTIFICATE-----"
        return mark + pair.partition(mark)[2]

    @contextlib.asynccontextmanager
    async def operator(self) -> AsyncIterator[grpc.aio.Channel]:
        """Connect as an operator."""
        path = admin_socket(self.settings.data_dir)
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            yield channel

    async def launch(self) -> asyncio.Future[bool]:
        """Start the process; what is returned tells whether it serves, or has ended before."""
        settings = self.settings
        life = f"{settings.certificate_lifetime.total_seconds():g}s"
        self.process = await asyncio.create_subprocess_exec(
            *(C2C, "serve", "--data-dir", str(settings.data_dir), "--log-format", "json"),
            *("--xds-address", str(settings.xds_address)),
            *("--enroll-address", str(settings.enroll_address)),
            *("--http-address", str(settings.http_address)),
            *("--certificate-lifetime", life, "--drain-time", "1s"),
            stderr=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        serves: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(self.process, serves))
        return serves

    async def start(self) -> None:
        """Start the process, and return when it says that it serves."""
        serves = await self.launch()
        assert await serves, "the control plane ended before it served"

    async def kill(self) -> None:
        """End the process without any warning, as a crash of it would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask the process to end, and wait until it has."""
        await self._end(signal.SIGTERM)

    async def recorded(self, serial: int, *, acked: bool = True) -> None:
        """Wait until the record of a certificate is on the disk, and that it was ACKed."""

        async def probe() -> bool:
            uri = f"file:{self.settings.data_dir / DATABASE_FILE}?mode=ro"
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
                rows = database.execute("SELECT serial, unacked FROM issued_certificates")
                found = dict(rows.fetchall()).get(f"{serial:x}")
            return found is not None and (found == "[]" or not acked)

        await until(probe, what="the certificate is recorded")

    async def is_empty(self) -> bool:
        """Tell whether no stream is open, as the metrics have it."""
        return not await total(self.settings.http_address, "c2c_xds_streams")

    async def statuses(self, app: str) -> Sequence[inspection_pb2.InstanceStatus]:
        """Return how the instances of an app are."""
        async with self.operator() as channel:
            stub = inspection_pb2_grpc.InspectionServiceStub(channel)
            answer = await stub.GetStatus(inspection_pb2.GetStatusRequest(app=app))
        return answer.instances

    async def synced(self, count: int = 1, *, having: str = C2C_SECRET) -> None:
        """Wait until so many clients have answered for all that they should have.

        Args:
            count: how many there should be.
            having: the name of a resource that tells them; Envoys have their certificate.
        """
        await until(
            lambda: self._are_synced(count, having),
            what="everybody is in step",
            timeout=MOST_SECONDS + DEADLINE,  # a resolver pauses so long after a slow start
        )

    async def _are_synced(self, count: int, having: str) -> bool:
        async with self.operator() as channel:
            stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
            answer = await stub.FetchClientStatus(csds_pb2.ClientStatusRequest())
        statuses = [
            {each.name: each.config_status for each in client.generic_xds_configs}
            for client in answer.config
        ]
        found = [each for each in statuses if having in each]
        return len(found) == count and all(
            set(each.values()) == {csds_pb2.ConfigStatus.SYNCED} for each in found
        )

    async def _end(self, by: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(by)
            await ended(process, f"the control plane, after {by.name},")
        if self._reading is not None:
            await self._reading

    async def _read(
        self, process: asyncio.subprocess.Process, serves: asyncio.Future[bool]
    ) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.log.append(line.decode().rstrip())
            if not serves.done() and f'"{SERVER_STARTED}"' in self.log[-1]:
                serves.set_result(True)
        if not serves.done():
            serves.set_result(False)


@contextlib.asynccontextmanager
async def plane(
    directory: Path, *, lifetime: timedelta = timedelta(hours=24), starts: bool = True
) -> AsyncIterator[Plane]:
    """Run a control plane until the block ends, and show its log if a test fails inside.

    Args:
        lifetime: how long certificates live.
        starts: whether it runs when the block begins.
    """
    made = Plane(
        Settings(
            data_dir=directory / "control-plane",
            xds_address=SocketAddress("127.0.0.1", free_port()),
            enroll_address=SocketAddress("127.0.0.1", free_port()),
            http_address=SocketAddress("127.0.0.1", free_port()),
            certificate_lifetime=lifetime,
        )
    )
    try:
        if starts:
            await made.start()
        yield made
    except BaseException as error:
        error.add_note("\n".join(["the control plane logged:", *made.log[-40:]]))
        raise
    finally:
        await made.stop()
