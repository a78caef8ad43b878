"""The DNS server of one sidecar, put together.

The rule of this module: it listens before it follows the control plane, so that a table never comes
into force where nobody can query it.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import NoReturn

from control_plane.clock import Clock
from control_plane.names import InstanceGuid
from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.client import ChannelFactory, NameTableClient
from control_plane.sidecar.dns.resolv_conf import RESOLV_CONF, UpstreamList
from control_plane.sidecar.dns.resolver import Resolver
from control_plane.sidecar.dns.saved import SavedTable
from control_plane.sidecar.dns.server import DnsServer, check_listen
from control_plane.sidecar.dns.table import NameTable
from control_plane.sidecar.dns.upstream import Upstreams

DEFAULT_LISTEN = SocketAddress("127.0.0.1", 53)
"""Where stub resolvers ask if they are not configured otherwise (resolv.conf(5))."""


def check_dns(listen: SocketAddress, upstreams: tuple[SocketAddress, ...]) -> None:
    """Return if DNS could be served now; called before anything depends on it.

    Args:
        listen: the address to serve DNS on, an IP address and a port.
        upstreams: the resolvers for external names; empty to use those of resolv.conf.

    Raises:
        ConfigurationError: it could not; the message says what to do.
    """
    UpstreamList(listen, given=upstreams)
    check_listen(listen)


class DnsService:
    """Serves an instance's names, and external names through the upstream resolvers."""

    def __init__(
        self,
        instance: InstanceGuid,
        connect: ChannelFactory,
        *,
        saved: Path,
        clock: Clock,
        listen: SocketAddress = DEFAULT_LISTEN,
        upstreams: tuple[SocketAddress, ...] = (),
        resolv_conf: Path = RESOLV_CONF,
    ) -> None:
        """Describe a service; `run` runs it.

        Args:
            instance: the instance whose names are served.
            connect: opens a channel to the control plane, anew for each stream.
            saved: the file that keeps the last table beyond the end of this process.
            clock: the time.
            listen: where DNS is served, an IP address and a port.
            upstreams: the resolvers for external names; empty to use those of `resolv_conf`.
            resolv_conf: the file that names them; it is read again whenever it changes.

        Raises:
            ConfigurationError: `listen` is not a single address or is one of `upstreams`, or one of
                `upstreams` is a name.
        """
        random = Random()  # noqa: S311 - an order of addresses and pauses are no secrets
        found = UpstreamList(listen, given=upstreams, resolv_conf=resolv_conf)
        self._resolver = Resolver(Upstreams(found.current), random)
        self._server = DnsServer(listen, self._resolver)
        self._client = NameTableClient(
            instance,
            connect,
            apply=self._apply,
            saved=SavedTable(saved, instance),
            clock=clock,
            random=random,
        )
        self._is_ready = asyncio.Event()

    @property
    def name(self) -> str:
        """Its name in the log."""
        return "dns"

    async def run(self) -> NoReturn:
        """Serve until cancelled.

        Raises:
            ConfigurationError: the address cannot be bound; the message says what to do.
        """
        async with self._server.listening():
            await self._client.run()

    async def ready(self) -> None:
        """Return once the server listens and has a table, new or saved."""
        await self._is_ready.wait()

    @property
    def address(self) -> SocketAddress:
        """The address on which it listens, with the actual port once it does."""
        return self._server.address

    def _apply(self, table: NameTable) -> None:
        self._resolver.use(table)
        self._is_ready.set()
