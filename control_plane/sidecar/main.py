"""``c2c sidecar``: from the options to the exit code.

The rule of this module: the order. Whatever can be known to fail is checked before the join token
is spent. The identity exists before Envoy starts, and the trust files exist before the app starts.
The services that keep both current start in between, so that the app usually finds its names at
once. A sidecar that is told to stop starts nothing more.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from control_plane import event_loop, log_events
from control_plane.ca import new_key_pair
from control_plane.clock import Clock, SystemClock
from control_plane.envoy.bootstrap import Limits
from control_plane.names import InstanceGuid
from control_plane.settings import SocketAddress
from control_plane.sidecar.app_trust import AppTrust
from control_plane.sidecar.channel import instance_channel
from control_plane.sidecar.directory import (
    NAMES_FILE,
    Membership,
    SidecarDirectory,
    has_identity,
)
from control_plane.sidecar.dns import DnsService, check_dns
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.enrolment.enrol import check_enrolment
from control_plane.sidecar.enrolment.join import Joining
from control_plane.sidecar.enrolment.renew import Renewal
from control_plane.sidecar.event_loop import SidecarEventLoop
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.processes.child import Child, check_program
from control_plane.sidecar.processes.environment import app_environment, without_token
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.processes.envoy_process import (
    check_envoy,
    find_envoy,
    most_files,
    pass_on_log,
    start_envoy,
)
from control_plane.sidecar.processes.leftovers import Leftovers
from control_plane.sidecar.processes.orphans import FIRST_PROCESS, OrphanReaper
from control_plane.sidecar.race import first_of, within
from control_plane.sidecar.reports.app_ports import LivePorts
from control_plane.sidecar.reports.calls import ControlPlaneCalls
from control_plane.sidecar.reports.readiness import InstanceObserver
from control_plane.sidecar.reports.report import Reporter
from control_plane.sidecar.retry import Retry
from control_plane.sidecar.running import RunningInstance
from control_plane.sidecar.services import keep_running
from control_plane.sidecar.signals import Signals
from control_plane.supervisor import READY, tell_supervisor

NAMES_SECONDS = 5.0
"""How long the app waits for its names at most; it may look them up as soon as it starts."""

_SIGNALLED = 128


def main(options: SidecarOptions) -> int:
    """Run a sidecar to its end; return the exit code of the app, or of Envoy if there is no app.

    Raises:
        ConfigurationError: the options do not suffice, or something that they name cannot be used.
        InvalidRequest: the control plane refused for good.
        StorageError: the directory cannot be written.
    """
    return event_loop.run(run(options), SidecarEventLoop)


async def run(options: SidecarOptions, clock: Clock | None = None) -> int:
    """Do what ``main`` does on a running event loop, which must be that of the main thread."""
    binary = find_envoy(options.envoy)
    for program in (str(binary), *options.command[:1]):
        check_program(program)
    if options.dns_address is not None:
        check_dns(options.dns_address, options.dns_upstreams)
    with Signals() as signals:
        if not has_identity(options.directory):
            check_enrolment(options)
            checking = check_envoy(binary, without_token(os.environ, options.token))
            await first_of(checking, signals.stop.wait())
            if signals.stop.is_set():
                return _told_to_stop(signals)
        directory = SidecarDirectory(options.directory)
        try:
            draw = secrets.SystemRandom().random
            sidecar = _Sidecar(options, directory, signals, clock or SystemClock(), draw)
            return await sidecar.run(binary)
        finally:
            directory.close()


def _told_to_stop(signals: Signals) -> int:
    """Log the signal that ends the start, and return the exit code for it."""
    number = signals.number
    structlog.get_logger(__name__).info(log_events.SIDECAR_STOPPING, signal=number.name)
    return _SIGNALLED + number


@dataclass(frozen=True, slots=True)
class _Sidecar:
    """One run of a sidecar."""

    options: SidecarOptions
    directory: SidecarDirectory
    signals: Signals
    clock: Clock
    draw: Callable[[], float]

    async def run(self, binary: Path) -> int:
        """Join, start, and run to the end."""
        joining = asyncio.create_task(self._joining().join())
        await first_of(asyncio.wait([joining]), self.signals.stop.wait())
        if self.signals.stop.is_set():
            return await self._give_up(_cancel(joining))
        joined = joining.result()
        live = LiveCredentials(self.directory, joined.credentials)
        admin = EnvoyAdmin(self.directory.admin_socket)
        ports = LivePorts(self.directory, joined.enrollment, self.options.app_ports)
        reporter = self._reporter(joined, live, ports, admin)
        resolver = self._resolver(joined, live)
        leftovers = self._leftovers(admin)
        await first_of(self._announce(joined, leftovers, reporter), self.signals.stop.wait())
        if self.signals.stop.is_set():
            return await self._give_up(reporter.leave())
        async with AsyncExitStack() as stack:
            environment = without_token(os.environ, self.options.token)
            envoy = await start_envoy(binary, self.directory, self.options, environment)
            stack.push_async_callback(envoy.stop, 0, self.signals.hurry)
            trust = AppTrust(self.directory, environment, clock=self.clock)
            services = (self._renewal(joined, live), reporter, resolver, trust)
            current = keep_running(filter(None, services), clock=self.clock, draw=self.draw)
            for work in (current, pass_on_log(envoy, self.clock)):
                stack.push_async_callback(_cancel, asyncio.create_task(work))
            if resolver is not None:
                await within(NAMES_SECONDS, self.signals.stop, resolver.ready())
            live.watch(trust.follow)
            variables = await trust.write(live.current.trust_bundle)
            if self.options.command and self.signals.stop.is_set():
                return await self._give_up(reporter.leave())
            environment = app_environment(environment, joined, ports.current.first, variables)
            app = await self._start_app(environment)
            if app is not None:
                stack.push_async_callback(app.stop, 0, self.signals.hurry)
                guid = joined.enrollment.instance_guid
                await asyncio.to_thread(leftovers.note_app, app.pid, guid)
            if os.getpid() == FIRST_PROCESS:
                own = [each.pid for each in (envoy, app) if each is not None]
                reaper = OrphanReaper(own, self.clock)
                reaping = keep_running([reaper], clock=self.clock, draw=self.draw)
                stack.push_async_callback(_cancel, asyncio.create_task(reaping))
            instance = RunningInstance(
                envoy, app, admin, reporter, signals=self.signals, options=self.options
            )
            tell_supervisor(READY)
            return await instance.to_the_end()

    def _renewal(self, joined: Membership, live: LiveCredentials) -> Renewal:
        return Renewal(
            self._xds(joined),
            live,
            new_key=new_key_pair,
            clock=self.clock,
            draw=self.draw,
            may_move=self.options.address is None,
        )

    def _resolver(self, joined: Membership, live: LiveCredentials) -> DnsService | None:
        if self.options.dns_address is None:
            return None
        return DnsService(
            InstanceGuid(joined.enrollment.instance_guid),
            lambda: instance_channel(self._xds(joined), live.current),
            saved=self.directory.path / NAMES_FILE,
            clock=self.clock,
            listen=self.options.dns_address,
            upstreams=self.options.dns_upstreams,
        )

    def _joining(self) -> Joining:
        retry = Retry(self.clock, self.draw)
        return Joining(self.options, self.directory, retry=retry, new_key=new_key_pair)

    async def _give_up(self, last: Coroutine[Any, Any, object]) -> int:
        """Do one last thing, and return the exit code of a start that was told to stop."""
        code = _told_to_stop(self.signals)
        await first_of(last, self.signals.hurry.wait())
        return code

    def _leftovers(self, admin: EnvoyAdmin) -> Leftovers:
        seconds = self.options.stop_time.total_seconds()
        return Leftovers(self.directory, admin, self.clock, seconds)

    async def _announce(self, joined: Membership, leftovers: Leftovers, reporter: Reporter) -> None:
        """Do what has to come before Envoy starts; this may be cancelled at any moment."""
        await leftovers.end()
        limits = Limits(self.options.envoy_memory, most_files())
        self.directory.write_bootstrap(joined, self.options.server.host, limits)
        await reporter.first()

    def _reporter(
        self, joined: Membership, live: LiveCredentials, ports: LivePorts, admin: EnvoyAdmin
    ) -> Reporter:
        observer = InstanceObserver(
            lambda: live.current.identity.address,
            self.options.app_address,
            lambda: ports.current,
            admin,
            self.clock,
        )
        calls = ControlPlaneCalls(self._xds(joined), live)
        return Reporter(calls, live, ports, observer, clock=self.clock, draw=self.draw)

    def _xds(self, joined: Membership) -> SocketAddress:
        return SocketAddress(self.options.server.host, joined.enrollment.xds_port)

    async def _start_app(self, environment: Mapping[str, str]) -> Child | None:
        if not self.options.command:
            return None
        app = await Child.start(self.options.command, environment)
        self.signals.forward_to(app)
        structlog.get_logger(__name__).info(log_events.APP_STARTED, pid=app.pid)
        return app


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
