"""The DNS server of one sidecar, put together.

The rule of this module: it listens before it follows the control plane, so that a table never comes
into force where nobody can ask for it.
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
"""Where stubs look for a resolver if nobody tells them otherwise (resolv.conf(5))."""


def check_dns(listen: SocketAddress, upstreams: tuple[SocketAddress, ...]) -> None:
    """Return if DNS could be served now, to be asked before anything depends on it.

    Args:
        listen: where, an IP address and a port.
        upstreams: the resolvers for other names; empty for those of resolv.conf.

    Raises:
        ConfigurationError: it could not; the message says what to do.
    """
    UpstreamList(listen, given=upstreams)
    check_listen(listen)


class DnsService:
    """Serves an instance's names, and those of everybody else through its upstream resolvers."""

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
            instance: whose names are served.
            connect: opens a channel to the control plane, anew for each stream.
            saved: the file in which the last table outlives this process.
            clock: the time.
            listen: where DNS is served, an IP address and a port.
            upstreams: the resolvers for other names; empty for those of `resolv_conf`.
            resolv_conf: names them, and is read again whenever it changes.

        Raises:
            ConfigurationError: `listen` is no single address, or one of `upstreams`, or one of
                those is a name.
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
        """What it is called in the log."""
        return "dns"

    async def run(self) -> NoReturn:
        """Serve until cancelled.

        Raises:
            ConfigurationError: the address cannot be had; its message says what to do.
        """
        async with self._server.listening():
            await self._client.run()

    async def ready(self) -> None:
        """Return once it listens and has a table, new or saved."""
        await self._is_ready.wait()

    @property
    def address(self) -> SocketAddress:
        """Where it listens, once it does; the port too, if it was free to take any."""
        return self._server.address

    def _apply(self, table: NameTable) -> None:
        self._resolver.use(table)
        self._is_ready.set()
