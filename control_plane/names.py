"""Names and numbers of the domain, parsed, or refused with the exact rule.

The rule of this module: a value from outside has one of these types once it was checked here.
Values from disk, and what gRPC says about who is connected, are trusted without a check. Host and
domain names follow the rules of Cloud Foundry's API (RFC 1035 lengths, letters in any case,
underscore allowed in the host of a route). They are compared and stored in lower case, since DNS is
case-insensitive (RFC 4343).
"""

from __future__ import annotations

import ipaddress
import re
from typing import NewType

from control_plane.errors import InvalidArgument

AppGuid = NewType("AppGuid", str)
AppName = NewType("AppName", str)
InstanceGuid = NewType("InstanceGuid", str)
Domain = NewType("Domain", str)
Hostname = NewType("Hostname", str)
Address = NewType("Address", str)
Port = NewType("Port", int)

C2C_PORT = Port(61443)
"""The port on which every instance serves HTTPS to other containers."""

DEFAULT_APP_PORT = Port(8080)
"""The port that an app listens on unless its definition says otherwise."""

DEFAULT_APP_ADDRESS = Address("127.0.0.1")
"""Where an app listens that shares its network namespace with its Envoy and is reached only through
it."""

SERVER_NAME = "c2c-control-plane.internal"
"""A name in every control plane's certificate, by which clients verify it wherever it runs. No
route of an app can have this name: a route is a host in a domain of at least two labels."""

MAX_LABEL_OCTETS = 63
"""RFC 1035, section 2.3.4."""

MAX_HOSTNAME_OCTETS = 253
"""RFC 1035, section 2.3.4: 255 octets on the wire, less the root label and one length octet."""

_HOST_LABEL = re.compile(r"[A-Za-z0-9_-]+")
_LDH_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")
_APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_SHOWN = 80
_OVERLONG_WORD = re.compile(r"\S{299,}[^\s:;,]")
_LONGEST = 2000


def shown(value: object) -> str:
    """Return a value as an error message may quote it: escaped, and cut if it is too long."""
    return _cut(repr(value), _SHOWN)


def abridged(sentence: str, most: int = _LONGEST) -> str:
    """Return an error message in which overlong words, such as a very long path, are cut.

    A path of usual length stays whole.

    Args:
        sentence: the message.
        most: how many characters of the whole message are left.
    """
    words = _OVERLONG_WORD.sub(lambda word: _cut(word[0], _SHOWN), sentence)
    return _cut(words, most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def is_text(value: str) -> bool:
    """Tell whether a string can be written as UTF-8.

    The system's arguments, variables and paths are bytes. Where these are not UTF-8, Python puts
    lone surrogates into the string (PEP 383).
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_host(text: str, *, field: str = "hostname") -> str:
    """Return the first label of an internal route in lower case.

    Raises:
        InvalidArgument: it is empty, a wildcard, more than one label, too long, or has characters
            other than letters, digits, ``-`` and ``_``.
    """
    if not text:
        raise InvalidArgument("hostname missing: an internal route needs a host", field=field)
    if "*" in text:
        raise InvalidArgument(
            f"wildcard hosts are not supported for internal domains: {shown(text)}", field=field
        )
    if "/" in text:
        raise InvalidArgument(
            f"paths are not supported for internal domains: {shown(text)}", field=field
        )
    if not _HOST_LABEL.fullmatch(text):
        raise InvalidArgument(
            f"hostname may only have letters, digits, '-' and '_' in one label: {shown(text)}",
            field=field,
        )
    if len(text) > MAX_LABEL_OCTETS:
        raise InvalidArgument(
            f"hostname label longer than {MAX_LABEL_OCTETS} octets: {shown(text)}", field=field
        )
    return text.lower()


def is_host_label(text: str) -> bool:
    """Tell whether a host name may have this label: letters, digits and inner ``-`` (RFC 1123)."""
    return len(text) <= MAX_LABEL_OCTETS and _LDH_LABEL.fullmatch(text) is not None


def parse_domain(text: str, *, field: str = "domain") -> Domain:
    """Return a domain name of at least two labels in lower case, without a final dot.

    Raises:
        InvalidArgument: it does not comply with RFC 1035, section 2.3, or has one label only.
    """
    name = text.removesuffix(".")
    if not name:
        raise InvalidArgument("domain missing", field=field)
    if len(name) > MAX_HOSTNAME_OCTETS:
        raise InvalidArgument(
            f"domain longer than {MAX_HOSTNAME_OCTETS} octets: {shown(text)}", field=field
        )
    labels = name.split(".")
    if len(labels) < 2:
        raise InvalidArgument(f"domain needs at least two labels: {shown(text)}", field=field)
    for label in labels:
        if len(label) > MAX_LABEL_OCTETS:
            raise InvalidArgument(
                f"domain label longer than {MAX_LABEL_OCTETS} octets: {shown(label)}", field=field
            )
        if not _LDH_LABEL.fullmatch(label):
            raise InvalidArgument(
                f"domain does not comply with RFC 1035: {shown(text)}", field=field
            )
    return Domain(name.lower())


def route_hostname(host: str, domain: Domain, *, field: str = "hostname") -> Hostname:
    """Join a parsed host and domain to the full name of an internal route.

    Raises:
        InvalidArgument: the name would be longer than DNS allows.
    """
    name = f"{host}.{domain}"
    if len(name) > MAX_HOSTNAME_OCTETS:
        raise InvalidArgument(
            f"host combined with domain name must be no more than {MAX_HOSTNAME_OCTETS} "
            f"characters: {len(name)} in {shown(name)}",
            field=field,
        )
    return Hostname(name)


def parse_app_name(text: str, *, field: str = "name") -> AppName:
    """Return the name of an app.

    Raises:
        InvalidArgument: it is empty, longer than 63 characters, has characters other than letters,
            digits, ``-``, ``_`` and ``.``, or does not start with a letter or digit.
    """
    if not text:
        raise InvalidArgument("app name missing", field=field)
    if len(text) > MAX_LABEL_OCTETS:
        raise InvalidArgument(
            f"app name longer than {MAX_LABEL_OCTETS} characters: {shown(text)}", field=field
        )
    if not _APP_NAME.fullmatch(text):
        raise InvalidArgument(
            "app name must start with a letter or digit and have only letters, digits, '.', '-' "
            f"and '_': {shown(text)}",
            field=field,
        )
    return AppName(text)


def parse_guid(text: str, *, field: str) -> str:
    """Return a GUID that can be a DNS label and a certificate's common name.

    Raises:
        InvalidArgument: it is empty, longer than 63 characters, has characters other than letters,
            digits and ``-``, or starts or ends with ``-``.
    """
    if not text:
        raise InvalidArgument(f"{field.replace('_', ' ')} missing", field=field)
    if not is_host_label(text):
        raise InvalidArgument(
            f"guid must be 1 to {MAX_LABEL_OCTETS} letters, digits and '-', with '-' neither first "
            f"nor last: {shown(text)}",
            field=field,
        )
    return text


def parse_port(value: int, *, field: str = "port") -> Port:
    """Return a TCP or UDP port number.

    Raises:
        InvalidArgument: it is not in 1-65535.
    """
    if not 1 <= value <= 65535:
        raise InvalidArgument(f"invalid port {value}, must be in range 1-65535", field=field)
    return Port(value)


def at_ports(address: str, *ports: int) -> str:
    """Return ports of an address as people read them, an IPv6 address in brackets."""
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{', '.join(map(str, ports))}"


def parse_address(text: str, *, field: str = "address") -> Address:
    """Return an IPv4 or IPv6 address in its canonical form; an IPv4-mapped one becomes IPv4.

    Raises:
        InvalidArgument: it is not an IP address, or is one that no instance can have (unspecified,
            multicast, broadcast, or an IPv6 address that is link-local or has a scope).
    """
    if not text:
        raise InvalidArgument(f"{field.replace('_', ' ')} missing", field=field)
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(f"not an IP address: {shown(text)}", field=field) from None
    # A socket of both families shows an IPv4 peer as IPv4-mapped (RFC 4291, section 2.5.5.2).
    address = getattr(parsed, "ipv4_mapped", None) or parsed
    if (
        address.is_unspecified
        or address.is_multicast
        or address == _BROADCAST
        # Without the interface nobody can listen on it or call it (RFC 4007, section 6).
        or (address.version == 6 and address.is_link_local)
        or getattr(parsed, "scope_id", None)
    ):
        raise InvalidArgument(
            "an instance cannot have an unspecified, multicast, broadcast, IPv6 link-local or "
            f"scoped address: {shown(text)}",
            field=field,
        )
    return Address(str(address))
