"""IP addresses and ports as Envoy writes them.

The rule of this module: an address has been parsed before (``control_plane.names``), so it is never
resolved as a name, neither here nor by Envoy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import Address, SocketAddress

_IPV6 = 6
_FIRST_COMPATIBLE = 1 << 16
"""Below this are ``::``, ``::1`` and others that are written like any IPv6 address."""


def socket_address(address: str, port: int) -> Address:
    """Return a TCP address to connect to."""
    return Address(socket_address=SocketAddress(address=address, port_value=port))


def host_prefix_len(address: str) -> int:
    """Return the prefix length that covers exactly this address: 32, or 128 for IPv6."""
    return _parsed(address).max_prefixlen


def as_envoy_writes(address: str) -> str:
    """Return an address in the form in which Envoy's matchers know it, that of ``inet_ntop``.

    It is Python's form too, except for IPv4-compatible addresses (RFC 4291, section 2.5.5.1).
    """
    ip = _parsed(address)
    if ip.version == _IPV6 and _FIRST_COMPATIBLE <= int(ip) < 1 << 32:
        return f"::{ipaddress.IPv4Address(int(ip))}"
    return str(ip)


def in_order(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses without repetition in numerical order, IPv4 first.

    The caller's order must not show in the bytes: the same set of sources gives the same message.
    """
    return _in_order(tuple(addresses))


# The listeners of all instances of an app have the same sources, and are made one after another. A
# thousand sources take 16 KiB: the strings are the caller's, unless these are written differently.
@lru_cache(maxsize=128)
def _in_order(addresses: tuple[str, ...]) -> tuple[str, ...]:
    given = {each: each for each in addresses}
    parsed = sorted(set(map(_parsed, addresses)), key=lambda ip: (ip.version, int(ip)))
    return tuple(given.get(text, text) for text in map(str, parsed))


@lru_cache(maxsize=16384)
def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address)
