"""How one setting is read: from text (a flag or a variable) or from a TOML value.

The rule of this module: a reader returns the value, or refuses it in one sentence that names the
value and the rule. A reader does not know where the value came from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

from control_plane.errors import InvalidArgument
from control_plane.names import MAX_HOSTNAME_OCTETS, is_host_label, parse_address, shown

T = TypeVar("T")
_Choice = TypeVar("_Choice", bound=StrEnum)
Reader = Callable[[object], T]

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,18})(B|KiB|MiB|GiB)?", re.ASCII)
_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_BYTES = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class LogLevel(StrEnum):
    """The least important events that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """What a log line looks like; ``auto`` is ``console`` on a terminal and ``json`` elsewhere."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where a server listens or can be reached: an IP address or host name, and a port (0: any)."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the notation that is read, with IPv6 in brackets (RFC 3986, section 3.2.2)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_every(self) -> bool:
        """Tell whether it means every address of a machine, so that no client can connect to it."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104 - nothing is bound here


def read_text(value: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"must be a text that is not empty: {shown(value)}")
    return value


def read_bool(value: object) -> bool:
    """Return a switch: true, yes, on and 1, or false, no, off and 0, in any letter case."""
    if isinstance(value, bool):
        return value
    text = value.lower() if isinstance(value, str) else ""
    if text not in _TRUE | _FALSE:
        raise InvalidArgument(f"must be true or false: {shown(value)}")
    return text in _TRUE


def read_listen_address(value: object) -> SocketAddress:
    """Return where to listen: an IP address and a port; a name could mean several addresses.

    The address is in its canonical form, and an IPv4-mapped address becomes IPv4: certificates name
    the address, Envoys admit clients that come from it, and the address that means every address is
    recognised by it.
    """
    address = _split_address(value, first_port=0)
    try:
        parsed = ipaddress.ip_address(address.host)
    except ValueError:
        raise InvalidArgument(
            f"must be an IP address and a port, as in 127.0.0.1:18000: {shown(value)}"
        ) from None
    if getattr(parsed, "scope_id", None):
        raise InvalidArgument(f"must be an address without a scope: {shown(value)}")
    host = getattr(parsed, "ipv4_mapped", None) or parsed
    return SocketAddress(str(host), address.port)


def read_server_address(value: object) -> SocketAddress:
    """Return where a server is reached: an IP address or host name, and a port.

    A final dot stays, by which a resolver knows that the name is complete (RFC 1034, section 3.1)
    and tries no search domain.
    """
    address = _split_address(value, first_port=1)
    name = address.host.removesuffix(".")
    read_host(address.host if _is_address(name) else name)
    return address


def read_host(value: object) -> str:
    """Return an IP address or a host name (RFC 1123, section 2.1), the latter in lower case."""
    text = read_text(value)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        labels = text.split(".")
    # Four numbers are a malformed address, and no host has such a name (RFC 1123, 2.1).
    if (
        len(text) > MAX_HOSTNAME_OCTETS
        or labels[-1].isdigit()
        or not all(map(is_host_label, labels))
    ):
        raise InvalidArgument(f"not an IP address or host name: {shown(text)}")
    return text.lower()


def read_server_name(value: object) -> str:
    """Return a name of a server, or an address in the form that its certificate has."""
    host = read_host(value)
    try:
        return parse_address(host) if _is_address(host) else host
    except InvalidArgument:
        rule = "must be a host name, or an address that any client can connect to"
        raise InvalidArgument(f"{rule}: {shown(value)}") from None


def _is_address(host: str) -> bool:
    """Tell an IP address from a host name."""
    return ":" in host or host.replace(".", "").isdigit()


def duration_between(least: timedelta, most: timedelta) -> Reader[timedelta]:
    """Return a reader of durations such as 500ms, 10m or 1h30m."""

    def read(value: object) -> timedelta:
        text = value if isinstance(value, str) else ""
        if not _DURATION.fullmatch(text):
            raise InvalidArgument(
                f"must be a number and a unit (ms, s, m, h, d), as in 10m or 24h: {shown(value)}"
            )
        try:
            duration = sum(
                (float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text)),
                timedelta(),
            )
        except OverflowError:
            duration = timedelta.max
        if not least <= duration <= most:
            raise InvalidArgument(
                f"must be between {format_duration(least)} and {format_duration(most)}: {text}"
            )
        return duration

    return read


def format_duration(duration: timedelta) -> str:
    """Return a duration as it is written in a setting: 1h30m, 250ms; 0s for none."""
    rest, text = duration, ""
    for unit in ("d", "h", "m", "s", "ms"):
        number, rest = divmod(rest, _UNITS[unit])
        text += f"{number}{unit}" if number else ""
    return {"1d": "24h"}.get(text, text) or "0s"


def size_between(least: int, most: int) -> Reader[int]:
    """Return a reader of sizes in bytes such as 65536, 64KiB or 4MiB."""

    def read(value: object) -> int:
        text = str(value)
        match = _SIZE.fullmatch(text)
        if match is None:
            raise InvalidArgument(
                f"must be bytes or a number and B, KiB, MiB or GiB, as in 4MiB: {shown(value)}"
            )
        size = int(match[1]) * _BYTES[match[2]]
        if not least <= size <= most:
            raise InvalidArgument(f"must be between {least} and {most} bytes: {text}")
        return size

    return read


def count_between(least: int, most: int) -> Reader[int]:
    """Return a reader of whole numbers."""

    def read(value: object) -> int:
        text = str(value)
        if not re.fullmatch(r"\d{1,18}", text, re.ASCII) or not least <= int(text) <= most:
            raise InvalidArgument(
                f"must be a whole number between {least} and {most}: {shown(value)}"
            )
        return int(text)

    return read


def choice_of(kind: type[_Choice]) -> Reader[_Choice]:
    """Return a reader of one of a few words."""

    def read(value: object) -> _Choice:
        try:
            return kind(read_text(value))
        except (InvalidArgument, ValueError):
            known = ", ".join(kind)
            raise InvalidArgument(f"must be one of {known}: {shown(value)}") from None

    return read


def list_of(read_one: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return a reader of lists: a list in TOML, values separated by commas elsewhere.

    A value that occurs twice counts once, at its first position.
    """

    def read(value: object) -> tuple[T, ...]:
        given = value if isinstance(value, list | tuple) else read_text(value).split(",")
        parts = (part.strip() if isinstance(part, str) else part for part in given)
        return tuple(dict.fromkeys(read_one(part) for part in parts))

    return read


def _split_address(value: object, *, first_port: int) -> SocketAddress:
    text = value if isinstance(value, str) else ""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or (":" in host and not bracketed):
        raise InvalidArgument(
            f"must be HOST:PORT, an IPv6 address in brackets, as in [::1]:18000: {shown(value)}"
        )
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not first_port <= int(port) <= 65535:
        raise InvalidArgument(f"port must be {first_port}-65535: {shown(value)}")
    return SocketAddress(host[1:-1] if bracketed else host, int(port))
