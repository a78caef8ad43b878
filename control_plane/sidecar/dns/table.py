"""The names that one instance may resolve, and their addresses.

The rule of this module: a table that exists was checked as a whole, so a bad one changes nothing.
Names are compared label by label, in lower case ("domain name labels are compared in a
case-insensitive fashion", RFC 4343, section 3), never as text, because a label on the wire may
contain any octet, even a dot.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType

from dns.rdatatype import AAAA, ANY, A, RdataType

from control_plane.api.v1 import name_table_pb2
from control_plane.errors import InvalidArgument
from control_plane.names import MAX_HOSTNAME_OCTETS, parse_address, parse_domain, shown

Labels = tuple[bytes, ...]
"""A name as its labels in lower case, without the empty label of the root."""

_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")

_NO_ADDRESSES: Mapping[RdataType, tuple[bytes, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NameTable:
    """What an instance may resolve.

    Attributes:
        version: the version of the resource, as the control plane stated it.
        domains: the internal domains; a name that is neither one of them nor below one is external.
        names: packed addresses by name and by the type of record that carries them.
    """

    version: str
    domains: frozenset[Labels]
    names: Mapping[Labels, Mapping[RdataType, tuple[bytes, ...]]]

    @classmethod
    def of(cls, message: name_table_pb2.NameTable, version: str) -> NameTable:
        """Read a table as the control plane delivers it.

        Raises:
            InvalidArgument: a name is not a DNS name, is outside the table's domains or occurs
                twice, an address is not an IP address, or there is no domain.
        """
        if not message.domains:
            # Otherwise a table that lost its content would send every internal name to the
            # upstreams.
            raise InvalidArgument(
                "a name table needs at least one internal domain", field="domains"
            )
        domains = frozenset(
            labels_of(parse_domain(each, field="domains")) for each in message.domains
        )
        packed: dict[str, tuple[RdataType, bytes]] = {}
        names: dict[Labels, Mapping[RdataType, tuple[bytes, ...]]] = {}
        for entry in message.names:
            labels = _parse_name(entry.name, domains)
            if labels in names:
                raise InvalidArgument(f"name occurs twice: {shown(entry.name)}", field="names")
            names[labels] = _by_type(entry.addresses, packed)
        return cls(version, domains, MappingProxyType(names))

    def is_internal(self, name: Labels) -> bool:
        """Tell whether a name is one of the internal domains or below one."""
        return any(name[start:] in self.domains for start in range(len(name)))

    def lookup(self, name: Labels, rdtype: RdataType) -> tuple[bytes, ...]:
        """Return the packed addresses that a type of record carries for an internal name.

        ANY asks for all addresses; an answer may contain only some of them (RFC 8482, section 4.1).

        The result is empty for an unknown name, too. Cloud Foundry's adapter answers NOERROR
        without records then. An NXDOMAIN, which stub resolvers may apply to all types, would be
        wrong for a name whose instances are about to come.
        """
        by_type = self.names.get(name, _NO_ADDRESSES)
        if rdtype == ANY:
            return tuple(chain.from_iterable(by_type.values()))
        return by_type.get(rdtype, ())


def labels_of(name: str) -> Labels:
    """Return the labels of a validated name: lower case, no final dot."""
    return tuple(name.encode("ascii").split(b"."))


def text_of(name: Labels) -> str:
    """Return the text of a validated name."""
    return b".".join(name).decode("ascii")


def _parse_name(text: str, domains: frozenset[Labels]) -> Labels:
    name = text.lower()
    if len(name) > MAX_HOSTNAME_OCTETS or not _NAME.fullmatch(name):
        raise InvalidArgument(
            "a name must be labels of 1 to 63 letters, digits, '-' and '_', "
            f"{MAX_HOSTNAME_OCTETS} characters in all: {shown(text)}",
            field="names",
        )
    labels = labels_of(name)
    if not any(labels[start:] in domains for start in range(1, len(labels))):
        raise InvalidArgument(f"name outside the internal domains: {shown(text)}", field="names")
    return labels


def _by_type(
    addresses: Iterable[str], packed: dict[str, tuple[RdataType, bytes]]
) -> Mapping[RdataType, tuple[bytes, ...]]:
    """Sort addresses by type; `packed` caches those that were parsed, because most occur twice."""
    found: dict[RdataType, dict[bytes, None]] = {}
    for text in addresses:
        if text not in packed:
            packed[text] = _pack(text)
        rdtype, address = packed[text]
        found.setdefault(rdtype, {})[address] = None
    return {rdtype: tuple(members) for rdtype, members in found.items()}


def _pack(text: str) -> tuple[RdataType, bytes]:
    address = parse_address(text, field="addresses")
    if ":" in address:
        return AAAA, socket.inet_pton(socket.AF_INET6, address)
    return A, socket.inet_pton(socket.AF_INET, address)
