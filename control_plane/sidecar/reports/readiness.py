"""How the instance is, as seen from beside it.

The rule of this module: what is reported was tried just now, by connecting as a client would. A
connection that proves something is closed at once, and nothing is sent on it. Whether Envoy
accepted it is for Envoy to say; if Envoy does not say, its last answer holds. An app that is too
busy to accept a connection counts as listening; otherwise its callers would lose its name at that
very moment.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from control_plane.clock import Clock
from control_plane.names import C2C_PORT, Address, Port
from control_plane.reconciler.served.probe import Prober
from control_plane.sidecar.enrolment.enrol import is_of_this_machine
from control_plane.sidecar.processes.envoy_admin import EnvoyAdmin
from control_plane.sidecar.reports.app_ports import AppPorts

CONNECT_SECONDS = 1.0

NOT_SERVING_SECONDS = 10.0
"""How long port 61443 may show no certificate before that is reported. On a busy machine one
handshake may fail, and a name that is withdrawn and published again costs every client that
resolves it."""


@dataclass(frozen=True, slots=True)
class Observation:
    """How the instance is.

    Attributes:
        listening: whether the app accepts connections on each port that it is called on.
        exposed_ports: the ports of the app that can be reached by TCP past Envoy and its policies;
            for UDP ports this cannot be observed, because they do not answer a mere probe.
        served_serial: the serial of the certificate that port 61443 shows, in hexadecimal; "" if it
            shows none.
        open_ports: the ports on which the app accepts connections.
        closed_ports: the ports on which it should, but does not.
        not_serving: whether port 61443 has shown no certificate for a while, although it did before
            or although Envoy is running and does not answer.
        c2c_port: the port that 61443 leads to; None if the operator named the ports.
    """

    listening: bool
    exposed_ports: tuple[Port, ...]
    served_serial: str
    open_ports: tuple[Port, ...] = ()
    closed_ports: tuple[Port, ...] = ()
    c2c_port: Port | None = None
    not_serving: bool = False


UNSEEN = Observation(listening=False, exposed_ports=(), served_serial="")
"""What is known of an instance before the first observation."""


class Observer(Protocol):
    """Observes an instance."""

    async def observe(self) -> Observation:
        """Return how the instance is now."""


class InstanceObserver:
    """Observes the instance beside which this sidecar runs."""

    def __init__(
        self,
        address: Callable[[], Address],
        app_address: Address,
        ports: Callable[[], AppPorts],
        admin: EnvoyAdmin,
        clock: Clock,
    ) -> None:
        """Observe an instance and its app.

        Args:
            address: returns the address of the instance.
            app_address: the address of its app.
            ports: returns the ports of the app.
            admin: the admin interface of its Envoy.
            clock: tells for how long Envoy has hung.
        """
        self._address = address
        self._app_address = app_address
        self._ports = ports
        self._admin = admin
        self._clock = clock
        self._prober = Prober()
        self._has_served = False
        self._well_at = clock.monotonic()
        self._looks_since = 0
        self._exposed: dict[tuple[Address, Port], bool] = {}

    async def observe(self) -> Observation:
        """Return how the instance is now."""
        ports, address = self._ports(), self._address()
        accepting, exposed, serial = await asyncio.gather(
            asyncio.gather(*(_accepts(self._app_address, port) for port in ports.every)),
            asyncio.gather(*(self._is_exposed(address, port) for port in ports.every)),
            self._served_serial(address),
        )
        open_ports = tuple(itertools.compress(ports.every, accepting))
        return Observation(
            listening=set(ports.needed) <= set(open_ports),
            exposed_ports=tuple(itertools.compress(ports.every, exposed)),
            served_serial=serial,
            open_ports=open_ports,
            closed_ports=tuple(port for port in ports.every if port not in open_ports),
            c2c_port=ports.c2c,
            not_serving=await self._hangs(serial),
        )

    async def _hangs(self, serial: str) -> bool:
        """Tell whether port 61443 shows no certificate because Envoy hangs, for a while already.

        If it never showed one, there may be nothing to serve yet; but then Envoy itself answers.
        One look does not suffice: if this process stood still for a while, as in a container that
        was paused, the look that was under way then has no time left.
        """
        self._has_served = self._has_served or bool(serial)
        self._looks_since += 1
        if serial or not (self._has_served or await self._admin.is_silent()):
            self._well_at, self._looks_since = self._clock.monotonic(), 0
        is_long = self._clock.monotonic() - self._well_at >= NOT_SERVING_SECONDS
        return is_long and self._looks_since > 1

    async def _is_exposed(self, address: Address, port: Port) -> bool:
        if not await _accepts(address, port):
            return False
        # A port of the app may be a listener of Envoy too, where the operator allows unproxied
        # mappings.
        is_envoys = await self._admin.listens_on(address, port)
        if is_envoys is not None:
            self._exposed[address, port] = not is_envoys
        return self._exposed.get((address, port), False)

    async def _served_serial(self, address: Address) -> str:
        # Connect from the instance's own address, as a network policy may admit no other.
        found = await self._prober.served_serial(address, C2C_PORT, source=address)
        return f"{found:x}" if isinstance(found, int) else ""


async def _accepts(address: Address, port: Port) -> bool:
    """Tell whether a process accepts TCP connections there, or will."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        # A machine refuses connections to those of its own ports on which nothing listens. A port
        # that stays silent has a full accept queue; Envoy retries for 30 s.
        return is_of_this_machine(address)
    except OSError:
        return False
    ours, theirs = (writer.get_extra_info(each) for each in ("sockname", "peername"))
    writer.transport.abort()
    # If nothing listens on the port, the kernel may choose that very port as the source, and so
    # connect the socket to itself.
    return bool(ours != theirs)
