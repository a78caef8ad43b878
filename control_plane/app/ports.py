"""The ports of a control plane: xDS, enrolment, and the operator's API.

The rule of this module: in grpc.aio a service belongs to a server and not to a port, so each port
is a server of its own, with exactly the services that its clients may call. Nothing is shown or
changed without proof of the caller's identity or right: mTLS on the xDS port and on the operator's
TCP port, a join token for enrolment, and the file mode for the operator's socket.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc

from control_plane.api.v1 import (
    enrollment_pb2_grpc,
    identity_pb2_grpc,
    sidecar_pb2_grpc,
)
from control_plane.app.administration import ADMIN_SERVICES, add_administration
from control_plane.app.core import Core, new_guid, new_serial
from control_plane.app.expiring import shown
from control_plane.app.port_limits import limits_of, open_files, shares
from control_plane.ca import new_key_pair
from control_plane.errors import ConfigurationError
from control_plane.names import InstanceGuid
from control_plane.server.access.applicants import Applicants
from control_plane.server.access.call_limits import CallLimits
from control_plane.server.access.instance_proof import InstanceAdmission, InstanceProof
from control_plane.server.access.operators import OperatorsOnly
from control_plane.server.access.request_time import Check, RequestTime
from control_plane.server.api.join_tokens import EnrollmentServer
from control_plane.server.api.understood import UnderstoodInterceptor
from control_plane.server.ca_rotation.identity_turns import IdentityTurns
from control_plane.server.credentials import ServerCertificate
from control_plane.server.discovery.services import DiscoveryService
from control_plane.server.drain import Drain
from control_plane.server.health import Health
from control_plane.server.listening import listen, start
from control_plane.server.observability.audit import AuditInterceptor
from control_plane.server.rates import TokenBuckets
from control_plane.server.sidecars.enrollment import EnrollmentService
from control_plane.server.sidecars.renewal import IdentityService
from control_plane.server.sidecars.service import Reports, SidecarService
from control_plane.server.status import StatusInterceptor
from control_plane.settings import (
    Settings,
    SocketAddress,
    admin_socket,
    enroll_host,
    socket_target,
)


class Ports:
    """The servers of one control plane, made but not yet started."""

    def __init__(self, core: Core) -> None:
        """Make every server; nothing listens yet."""
        self._core = core
        settings = core.settings
        self._certificate = ServerCertificate(
            core.authorities.current,
            settings.trust_domain,
            _reached_by(settings),
            profile=core.profile,
            new_key=new_key_pair,
            new_serial=new_serial,
            clock=core.clock,
        )
        core.expiry.watch(shown(self._certificate))
        self._proof = InstanceProof(
            lambda: core.registry.state,
            core.identities,
            core.validity,
            core.refusals,
            core.holdings.identity_seen,
        )
        self._limits = limits_of(settings)
        self._shares = shares(open_files())
        self.discovery = DiscoveryService(
            core.nodes,
            clock=core.clock,
            admission=InstanceAdmission(self._proof, core.reconciler.farewells.awaits),
            limits=self._limits,
            refusals=core.refusals,
        )
        self.sidecars = SidecarService(self._proof, self._reports(), core.clock)
        core.registry.subscribe(self.sidecars.committed)
        core.authorities.observe(self.sidecars.authorities_changed)
        self.applicants = Applicants(self._limits, core.refusals, core.clock)
        self.health = Health(ADMIN_SERVICES)
        self._public: list[grpc.aio.Server] = []
        self._private: list[grpc.aio.Server] = []
        self.is_draining = False
        self.xds_address = settings.xds_address
        self.enroll_address = settings.enroll_address
        self.admin_address: SocketAddress | None = None

    async def start(self) -> None:
        """Listen on every port; if one cannot listen, stop the others again.

        Raises:
            ConfigurationError: an address cannot be listened on.
        """
        settings = self._core.settings
        try:
            self.xds_address = await self._start_xds(settings.xds_address)
            self.enroll_address = await self._start_enrollment(settings.enroll_address)
            await self._start_admin_socket(admin_socket(settings.data_dir))
            if settings.admin_address is not None:
                self.admin_address = await self._start_admin_port(settings.admin_address)
        except BaseException:
            await asyncio.gather(*(each.stop(None) for each in (*self._public, *self._private)))
            raise

    def announce_end(self) -> None:
        """Report from now on that nothing is served, so that load balancers look elsewhere."""
        self.is_draining = True
        self.health.drain()

    async def stop(self, grace: float) -> None:
        """Announce the end, let calls and streams end for a while, then cut them.

        Args:
            grace: how many seconds all of this may take.
        """
        self.announce_end()
        self._core.presence.hold()
        self._core.observed.feed.close()
        # Before streams end, because an ended stream says nothing about which instances have a
        # change.
        await self._core.observed.changes.close()
        self._core.convergence.stop()
        drain = Drain(self.discovery, self._core.clock)
        await drain.run(self._public, self._private, grace)

    async def _start_xds(self, address: SocketAddress) -> SocketAddress:
        core = self._core
        few_calls = CallLimits(self._limits, core.refusals, core.clock)
        server = self._server(guards=[few_calls], connections=self._shares.xds)
        self.discovery.add_to(server)
        identity_pb2_grpc.add_IdentityServiceServicer_to_server(
            IdentityService(
                core.registry,
                core.identities,
                self._proof,
                core.budget,
                is_alive=self._is_alive,
                trust_bundle=core.authorities.trust_bundle_pem,
                pace=TokenBuckets(
                    self._limits.renewals_per_second, self._limits.renewals_burst, core.clock
                ),
                refusals=core.refusals,
            ),
            server,
        )
        sidecar_pb2_grpc.add_SidecarServiceServicer_to_server(self.sidecars, server)
        self._public.append(server)
        return await self._listen(server, address, setting="xds_address")

    async def _start_enrollment(self, address: SocketAddress) -> SocketAddress:
        core = self._core
        server = self._server(connections=self._shares.enrollment, to_strangers=True)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
            EnrollmentService(
                core.registry,
                core.identities,
                core.budget,
                is_alive=self._is_alive,
                applicants=self.applicants,
                without_tombstone=core.tombstones.unneeded,
                trust_bundle=core.authorities.trust_bundle_pem,
                new_guid=new_guid,
                xds_port=self.xds_address.port,
                clock=core.clock,
            ),
            server,
        )
        self._public.append(server)
        return await self._listen(server, address, setting="enroll_address", by_certificate=False)

    async def _start_admin_socket(self, path: Path) -> None:
        server = self._server(AuditInterceptor(), UnderstoodInterceptor())
        self._add_administration(server)
        self._private.append(server)
        _bind_private(server, path)
        await start(server)

    async def _start_admin_port(self, address: SocketAddress) -> SocketAddress:
        core = self._core
        only_operators = OperatorsOnly(core.validity, core.refusals)
        core.registry.subscribe(only_operators.committed)
        core.authorities.observe(only_operators.look_again)
        core.reconciler.on_clock_jump(only_operators.look_again)
        server = self._server(
            AuditInterceptor(),
            UnderstoodInterceptor(),
            guards=[only_operators],
            check=only_operators.check,
            connections=self._shares.operators,
        )
        self._add_administration(server)
        self._private.append(server)
        return await self._listen(server, address, setting="admin_address")

    def _reports(self) -> Reports:
        core = self._core
        turns = IdentityTurns(
            lambda: core.registry.state, core.authorities, core.holdings, core.clock
        )
        return Reports(
            lambda: core.registry.state,
            core.presence,
            core.identities.left,
            core.attestation,
            core.custody,
            core.authorities.current,
            turns.renew_in,
        )

    def _is_alive(self, instance: InstanceGuid) -> bool:
        """Tell whether an instance is there, or may be: a broken stream does not prove its end."""
        core = self._core
        return (
            core.reconciler.is_connected(instance)
            or core.identities.is_starting(instance)
            or core.presence.is_awaited(instance)
        )

    def _add_administration(self, server: grpc.aio.Server) -> None:
        add_administration(
            server,
            self._core,
            self.health,
            self._enrollment_server,
            self._xds_server,
        )

    def _enrollment_server(self) -> EnrollmentServer:
        address = SocketAddress(enroll_host(self._core.settings), self.enroll_address.port)
        return EnrollmentServer(str(address), self._core.authority.fingerprint)

    def _xds_server(self) -> str:
        """Return where clients find xDS: by the first name of the server, if it has one."""
        names = self._core.settings.server_names
        address = self.xds_address
        return str(SocketAddress(names[0] if names else address.host, address.port))

    def _server(
        self,
        *interceptors: grpc.aio.ServerInterceptor,
        guards: Sequence[grpc.aio.ServerInterceptor] = (),
        check: Check | None = None,
        connections: int | None = None,
        to_strangers: bool = False,
    ) -> grpc.aio.Server:
        limits = replace(self._limits, connections=connections)
        return grpc.aio.server(
            # The first interceptor is the outermost: a guard sees only the bytes of a request, or
            # not even these, and errors become a status after all others have seen them.
            interceptors=[*guards, RequestTime(limits, check), StatusInterceptor(), *interceptors],
            options=limits.stranger_options() if to_strangers else limits.channel_options(),
        )

    async def _listen(
        self,
        server: grpc.aio.Server,
        address: SocketAddress,
        *,
        setting: str,
        by_certificate: bool = True,
    ) -> SocketAddress:
        """Start a server with TLS; its clients show a certificate, or are strangers."""
        credentials = self._certificate.credentials(client_certificates=by_certificate)
        port = await listen(server, str(address), credentials, setting=setting)
        return SocketAddress(address.host, port)


def _bind_private(server: grpc.aio.Server, path: Path) -> None:
    """Bind a Unix socket that only its owner may connect to, from the very start."""
    path.unlink(missing_ok=True)  # left by a killed process; the lock says that it is gone
    before = os.umask(0o177)
    try:
        server.add_insecure_port(socket_target(path))
    except RuntimeError as error:
        raise ConfigurationError([f"socket {str(path)!r} cannot be made"]) from error
    finally:
        os.umask(before)


def _reached_by(settings: Settings) -> tuple[str, ...]:
    listened = (settings.xds_address, settings.enroll_address, settings.admin_address)
    known = [each.host for each in listened if each is not None and not each.is_every]
    return tuple(dict.fromkeys([*settings.server_names, *known]))
