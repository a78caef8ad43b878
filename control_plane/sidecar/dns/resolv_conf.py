"""Which upstream resolvers to ask: those that the operator gave, or those of resolv.conf.

The rule of this module: the file is read again when it has changed, as glibc does, so that a
machine that moves to another network can still resolve names. This server never asks itself, as it
otherwise would wherever resolv.conf points to it.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

import structlog

from control_plane import log_events
from control_plane.errors import ConfigurationError
from control_plane.settings.values import SocketAddress

RESOLV_CONF = Path("/etc/resolv.conf")

DNS_PORT = 53
"""The port of the resolvers in resolv.conf, which cannot name another port."""

_NEVER_READ = (0, 0, 0)

_MOST = 3
"""``MAXNS``: resolv.conf(5) ignores further lines."""


class UpstreamList:
    """The upstream resolvers, in the order in which they are asked."""

    def __init__(
        self,
        own: SocketAddress,
        *,
        given: tuple[SocketAddress, ...] = (),
        resolv_conf: Path = RESOLV_CONF,
    ) -> None:
        """Take the resolvers from the operator, or else from a file.

        Args:
            own: the address of this server.
            given: the resolvers; empty to read the file.
            resolv_conf: the file.

        Raises:
            ConfigurationError: a given resolver is this server itself, or is a name, which cannot
                be resolved without a resolver.
        """
        names = [each for each in given if _canonical(each) is None]
        if names:
            raise ConfigurationError(
                [f"upstream resolver {each} is a name: give its IP address" for each in names]
            )
        self._own = _canonical(own) or own
        self._given = tuple(filter(None, map(_canonical, given)))
        if self._own in self._given:
            raise ConfigurationError([f"upstream resolver {own} is this DNS server itself"])
        self._file = resolv_conf
        self._state: tuple[int, int, int] | None = _NEVER_READ
        self._found: tuple[SocketAddress, ...] = ()
        self._log = structlog.get_logger(__name__)

    def current(self) -> tuple[SocketAddress, ...]:
        """Return the present resolvers, or the last known ones if the file cannot be read."""
        if self._given:
            return self._given
        try:
            now = self._file.stat()
            state = (now.st_ino, now.st_size, now.st_mtime_ns)
            if state != self._state:
                named = parse_nameservers(self._file.read_text("utf-8", "replace"))
                self._state, self._found = state, self._others(named)
        except OSError as error:
            if self._state is not None:
                self._log.warning(log_events.UPSTREAMS_LOST, reason=str(error))
            self._state = None
        return self._found

    def _others(self, named: tuple[SocketAddress, ...]) -> tuple[SocketAddress, ...]:
        others = tuple(each for each in named if each != self._own)
        file = str(self._file)
        if len(others) < len(named):
            # The operator need not act: where the machine's programs ask this server, it is named
            # first.
            self._log.info(
                log_events.UPSTREAM_SKIPPED,
                file=file,
                upstream=str(self._own),
                reason="it is this DNS server itself",
            )
        if others:
            self._log.info(log_events.UPSTREAMS_READ, file=file, upstreams=others)
        else:
            self._log.warning(
                log_events.UPSTREAMS_LOST,
                reason=f"{file} names no other resolver, so only internal names can be resolved; "
                "give an upstream resolver to the sidecar",
            )
        return others


def parse_nameservers(text: str) -> tuple[SocketAddress, ...]:
    """Return the resolvers that the text of a resolv.conf names; other lines are skipped.

    ``0.0.0.0`` and ``::`` mean this machine, as they do when a client connects to them.
    """
    found: dict[SocketAddress, None] = {}
    for line in text.splitlines():
        match line.split():
            case ["nameserver", host, *_]:
                address = _parse(host)
                if address is not None:
                    found[address] = None
            case _:
                pass
    return tuple(found)[:_MOST]


def _canonical(address: SocketAddress) -> SocketAddress | None:
    """Return an address in its canonical notation, of several that it may have; None for a name."""
    try:
        return SocketAddress(str(ipaddress.ip_address(address.host)), address.port)
    except ValueError:
        return None


def _parse(host: str) -> SocketAddress | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.is_unspecified:
        return SocketAddress("127.0.0.1" if address.version == 4 else "::1", DNS_PORT)
    return SocketAddress(str(address), DNS_PORT)
