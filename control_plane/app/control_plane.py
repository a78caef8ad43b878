"""A control plane from start to stop.

The rule of this module: starting is all or nothing. Stopping goes the other way round: announce it,
let calls and streams end, accept no more changes, then close the store.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from control_plane import log_events
from control_plane.app.core import Core, build
from control_plane.app.lifelong import Lifelong
from control_plane.app.ports import Ports
from control_plane.clock import Clock, SystemClock
from control_plane.server.http.answers import http_server
from control_plane.server.http.server import HttpServer
from control_plane.server.metrics.alarms import AlarmCollector
from control_plane.server.metrics.collector import DiscoveryCollector, EnrollmentCollector
from control_plane.server.metrics.expiry import ExpiryCollector
from control_plane.server.observability.alarms import InstanceAlarms
from control_plane.settings import Settings, SocketAddress, admin_socket
from control_plane.settings.retired import CA_FILE
from control_plane.store.sqlite import SqliteStore

DATABASE_FILE = "c2c.db"


class ControlPlane:
    """A control plane; use it as an asynchronous context manager, inside which it runs.

    Attributes:
        http_address: where health and metrics are served.
    """

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        """Take the settings; nothing is opened before the context is entered."""
        self._settings = settings
        self._clock = clock or SystemClock()
        self.http_address = settings.http_address
        self._exit = AsyncExitStack()
        self._log = structlog.get_logger(__name__)
        self.core: Core
        self.ports: Ports
        self._tasks: Lifelong

    @property
    def admin_socket(self) -> Path:
        """The socket for operators on this machine."""
        return admin_socket(self._settings.data_dir)

    @property
    def xds_address(self) -> SocketAddress:
        """Where Envoys connect."""
        return self.ports.xds_address

    @property
    def enroll_address(self) -> SocketAddress:
        """Where sidecars enrol."""
        return self.ports.enroll_address

    async def __aenter__(self) -> Self:
        """Open the store, read it, and listen.

        Raises:
            ConfigurationError: something that the settings name cannot be used.
            StorageError: the data directory cannot be written.
        """
        async with AsyncExitStack() as starting:
            store = await SqliteStore.open(
                self._settings.data_dir / DATABASE_FILE, was_used=self._was_started
            )
            starting.push_async_callback(store.close)
            self.core = await build(self._settings, self._clock, store)
            core = self.core
            starting.push_async_callback(core.rotation.settled)
            self.ports = Ports(core)
            self._start_tasks(starting)
            http = self._http_server()
            starting.push_async_callback(http.stop)
            await self.ports.start()
            starting.push_async_callback(self.ports.stop, self._settings.drain_time.total_seconds())
            address = self._settings.http_address
            port = await http.start(address.host, address.port)
            self.http_address = SocketAddress(address.host, port)
            self._exit = starting.pop_all()
        self._log.info(
            log_events.SERVER_STARTED,
            xds=str(self.xds_address),
            enroll=str(self.enroll_address),
            admin=str(self.admin_socket),
            admin_address=str(self.ports.admin_address or "off"),
            http=str(self.http_address),
        )
        return self

    @property
    def _was_started(self) -> bool:
        """Whether there was a start before: the first start makes the CA, after the database."""
        return os.path.lexists(self._settings.data_dir / CA_FILE)

    def _start_tasks(self, starting: AsyncExitStack) -> None:
        """Start the background tasks; the one that writes records ends last."""
        core = self.core
        self._tasks = tasks = Lifelong(self.ports.announce_end)
        records = tasks.start("records", core.records.run())
        starting.push_async_callback(tasks.finish, records, core.records.close)
        works = {
            "registry": core.registry.run(),
            "reconciler": core.reconciler.run(),
            "presence": core.presence.run(),
            "tombstones": core.tombstones.run(core.registry),
            "departures": core.departures.run(core.registry),
            "observed": core.observed.run(),
            "expiry": core.expiry.run(),
            "refusals": core.refusals.run(),
            "sidecars": self.ports.sidecars.run(),
        }
        for name, work in works.items():
            starting.push_async_callback(tasks.stop, tasks.start(name, work))

    async def death(self) -> str:
        """Return the name of an essential task once it has died; the control plane must stop then.

        The log has the exception, and health says NOT_SERVING already.
        """
        return await self._tasks.death()

    def _http_server(self) -> HttpServer:
        """Make the HTTP server, which stops last, because it reports that the rest is stopping."""
        metrics, ports = self.core.observed.metrics, self.ports
        metrics.registry.register(DiscoveryCollector(ports.discovery))
        metrics.registry.register(EnrollmentCollector(ports.applicants))
        metrics.registry.register(ExpiryCollector(self.core.expiry))
        metrics.registry.register(_alarms(self.core))
        return http_server(metrics, lambda: "shutting down" if ports.is_draining else "")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, in the reverse order of the start."""
        self._log.info(log_events.SERVER_STOPPING)
        await self._exit.aclose()
        self._log.info(log_events.SERVER_STOPPED)


def _alarms(core: Core) -> AlarmCollector:
    standing, word = core.reconciler.standing, core.presence.word
    alarms = InstanceAlarms(standing.plan_failure, word, core.nodes, core.attestation)
    return AlarmCollector(
        lambda: core.registry.state,
        alarms,
        standing.is_current,
        lambda instance: bool(core.attestation.exposed(instance)),
    )
