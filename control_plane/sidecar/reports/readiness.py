"""How the instance is, seen from beside it.

The rule of this module: what is told was tried just now, by connecting as others would. A
connection that proves something is closed at once; nothing is sent on it. Whether it was Envoy who
accepted it is for Envoy to say; where it does not, what it said last holds. An app that is too busy
to accept listens: to say otherwise would leave its callers without a name just then.
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
"""How long port 61443 may show no certificate before it is said. On a machine that is busy one
handshake may fail, and names that go and come again cost all who resolve them."""


@dataclass(frozen=True, slots=True)
class Observation:
    """How the instance is.

    Attributes:
        listening: whether the app accepts connections on each port that it is called on.
        exposed_ports: those of them at which it can be reached by TCP past Envoy and its policies;
            a UDP port answers nobody who only looks.
        served_serial: what port 61443 shows, in hexadecimal; "" if it shows nothing.
        open_ports: where the app accepts connections.
        closed_ports: where it does not, and should.
        not_serving: whether port 61443 has shown nothing for a while, and did before.
        c2c_port: the port that 61443 leads to; None if people named the ports.
    """

    listening: bool
    exposed_ports: tuple[Port, ...]
    served_serial: str
    open_ports: tuple[Port, ...] = ()
    closed_ports: tuple[Port, ...] = ()
    c2c_port: Port | None = None
    not_serving: bool = False


UNSEEN = Observation(listening=False, exposed_ports=(), served_serial="")
"""What can be told of an instance that nobody has looked at."""


class Observer(Protocol):
    """Looks at an instance."""

    async def observe(self) -> Observation:
        """Return how the instance is now."""


class InstanceObserver:
    """Looks at the instance beside which this runs."""

    def __init__(
        self,
        address: Callable[[], Address],
        app_address: Address,
        ports: Callable[[], AppPorts],
        admin: EnvoyAdmin,
        clock: Clock,
    ) -> None:
        """Look at an instance, and at its app.

        Args:
            address: returns that of the instance.
            app_address: of its app.
            ports: returns those of the app.
            admin: of its Envoy.
            clock: tells for how long port 61443 has shown nothing.
        """
        self._address = address
        self._app_address = app_address
        self._ports = ports
        self._admin = admin
        self._clock = clock
        self._prober = Prober()
        self._served_at: float | None = None
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
            not_serving=self._has_ceased(serial),
        )

    def _has_ceased(self, serial: str) -> bool:
        """Tell whether port 61443 has shown nothing for a while; one that never did may not be."""
        now = self._clock.monotonic()
        if serial:
            self._served_at = now
        return self._served_at is not None and now - self._served_at >= NOT_SERVING_SECONDS

    async def _is_exposed(self, address: Address, port: Port) -> bool:
        if not await _accepts(address, port):
            return False
        # An app's own port may be Envoy's too, where the operator allows unproxied mappings.
        is_envoys = await self._admin.listens_on(address, port)
        if is_envoys is not None:
            self._exposed[address, port] = not is_envoys
        return self._exposed.get((address, port), False)

    async def _served_serial(self, address: Address) -> str:
        # From the instance's own address: a network policy may let nobody else in.
        found = await self._prober.served_serial(address, C2C_PORT, source=address)
        return f"{found:x}" if isinstance(found, int) else ""


async def _accepts(address: Address, port: Port) -> bool:
    """Tell whether somebody accepts TCP connections there, or will."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        # Of its own ports a machine refuses those that nobody has. One that says nothing has a
        # queue that is full; Envoy tries again for 30 s.
        return is_of_this_machine(address)
    except OSError:
        return False
    ours, theirs = (writer.get_extra_info(each) for each in ("sockname", "peername"))
    writer.transport.abort()
    # To a port that nobody has, the system may connect from that very port, and so to itself.
    return bool(ours != theirs)
