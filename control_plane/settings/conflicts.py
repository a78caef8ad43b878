"""Rules that single settings keep but several break together.

The rule of this module: each rule says which settings it is about, so that it is not checked if one
of them could not be read at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from control_plane.errors import ConfigurationError
from control_plane.names import Domain, shown
from control_plane.settings.paths import why_no_file
from control_plane.settings.retired import why_not_used
from control_plane.settings.values import SocketAddress

MAX_SOCKET_PATH_OCTETS = 107
"""unix(7): ``sun_path`` has 108 octets, the last of them NUL."""

MAX_TRUSTED_CA_OCTETS = 512 * 1024
"""Cloud Foundry's limit on the CA certificates that an Envoy is told to trust."""

_LISTENERS = ("xds_address", "enroll_address", "http_address", "admin_address")


class Conflict(NamedTuple):
    """A rule that settings break together."""

    names: frozenset[str]
    sentence: str


def admin_socket(data_dir: Path) -> Path:
    """Return the Unix socket on which a server with this data directory answers its operator."""
    return data_dir / "admin.sock"


def socket_target(path: Path) -> str:
    """Return the URI by which gRPC finds a Unix socket; the path has to be quoted in it."""
    return f"unix:{quote(str(path))}"


def conflicts(values: Mapping[str, Any]) -> Iterator[Conflict]:
    """Yield every rule that these settings break.

    Args:
        values: every setting by its name.
    """
    yield from _half_given(
        values, "ca_cert", "ca_key", "an own CA needs its certificate and its private key"
    )
    yield from _missing_key(values["ca_cert"], values["ca_key"], values["data_dir"])
    yield from _half_given(
        values, "router_ca", "router_sans", "routers are admitted by CA and name together"
    )
    yield from _shared_addresses(values)
    yield from _oversize_bundle(values["router_ca"])
    yield from _long_socket_path(values["data_dir"])
    yield from _split_socket_path(values["data_dir"])
    yield from _unclear_domains(values["internal_domains"])


def _half_given(values: Mapping[str, Any], one: str, other: str, why: str) -> Iterator[Conflict]:
    if bool(values[one]) != bool(values[other]):
        given, missing = (one, other) if values[one] else (other, one)
        yield Conflict(frozenset({one, other}), f"{given} is set and {missing} is not: {why}")


def _missing_key(certificate: Path | None, key: Path | None, data_dir: Path) -> Iterator[Conflict]:
    """Report a missing key, unless that is as it should be because its CA was retired."""
    if key is None or not (reason := why_no_file(key)):
        return
    try:
        is_used = certificate is None or not why_not_used(certificate, data_dir)
    except ConfigurationError:
        is_used = True
    if is_used:
        yield Conflict(frozenset({"ca_key", "data_dir"}), f"ca_key: {reason}: {shown(str(key))}")


def _unclear_domains(domains: Sequence[Domain]) -> Iterator[Conflict]:
    names = frozenset({"internal_domains"})
    if not domains:
        yield Conflict(
            names, "internal_domains is empty: no route could be mapped, name at least one domain"
        )
    for domain, above in permutations(domains, 2):
        if domain.endswith(f".{above}"):
            yield Conflict(
                names,
                f"internal_domains has {domain} below {above}: a route of one app there could be "
                "the per-index name of another here, so name only one of them",
            )


def _shared_addresses(values: Mapping[str, Any]) -> Iterator[Conflict]:
    given: list[tuple[str, SocketAddress]] = [
        (name, values[name]) for name in _LISTENERS if values[name] is not None
    ]
    for (one, here), (other, there) in combinations(given, 2):
        # Port 0 is a different free port each time.
        if here.port != there.port or here.port == 0:
            continue
        names = frozenset({one, other})
        if here == there:
            yield Conflict(
                names, f"{one} and {other} are both {here}: each needs an address of its own"
            )
        elif (here.is_every or there.is_every) and (":" in here.host) == (":" in there.host):
            yield Conflict(
                names, f"{one} {here} and {other} {there} overlap: each needs a port of its own"
            )


def _oversize_bundle(path: Path | None) -> Iterator[Conflict]:
    size = path.stat().st_size if path and path.is_file() else 0
    if size > MAX_TRUSTED_CA_OCTETS:
        yield Conflict(
            frozenset({"router_ca"}),
            f"router_ca has {size} bytes and may have {MAX_TRUSTED_CA_OCTETS}: {path}",
        )


def _long_socket_path(data_dir: Path) -> Iterator[Conflict]:
    octets = len(bytes(admin_socket(data_dir)))
    if octets > MAX_SOCKET_PATH_OCTETS:
        yield Conflict(
            frozenset({"data_dir"}),
            f"data_dir is too long, its admin socket would have a path of {octets} octets and may "
            f"have {MAX_SOCKET_PATH_OCTETS}: {data_dir}",
        )


def _split_socket_path(data_dir: Path) -> Iterator[Conflict]:
    # gRPC splits the path after it has unquoted the URI, so quoting the comma does not help.
    if "," in str(data_dir):
        yield Conflict(
            frozenset({"data_dir"}),
            "data_dir must not have a comma in its path, since gRPC would take that of the admin "
            f"socket for two: {data_dir}",
        )
