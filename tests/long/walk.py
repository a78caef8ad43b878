"""A random walk over a real system: commands, crashes, restarts, and what has to be so after each.

The rule of this module: everything is the real thing, and the walk knows no more of it than what it
asked for itself. After each step every caller is asked for every name, by its own resolver and with
its own trust store: it finds who may be found, is answered by these, and by nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_plane.demo.client import Answer, get, resolve
from control_plane.demo.places import APP_PORT, DNS_PORT, DOMAIN
from tests.e2e.traffic import Calls, calling
from tests.envoy.harness import unique_address, until
from tests.faults.plane import Plane, plane
from tests.inspection.commands import c2c
from tests.sidecar.process import Sidecar, sidecar

STEADY, USER = "steady", "user"
"""An app that is only ever called, at the name like its own, and the one that calls it throughout;
their processes go on, and no command takes away what is between them."""

OTHERS = ("a", "b", "c")
HOSTS = ("h0", "h1", "h2", "h3")
CONVERGED_SECONDS = 90.0
"""Within which all is as it should be after a step; a crash is believed after 30 s at the most."""

_Action = Callable[[], Coroutine[Any, Any, object]]


@dataclass(slots=True)
class Member:
    """An instance: a sidecar with its Envoy and its app, ended and started as the walk will."""

    app: str
    label: str
    directory: Path
    address: str = field(default_factory=unique_address)
    app_address: str = field(default_factory=lambda: unique_address(APP_PORT))
    running: Sidecar | None = None
    _exit: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self, cf: Plane) -> None:
        """Start it; it enrols the first time only."""
        ticket = await cf.ticket(self.app) if not self.directory.exists() else None
        server = str(cf.settings.enroll_address)
        self.running = await self._exit.enter_async_context(
            sidecar(
                ticket,
                self.directory,
                *("--address", self.address, "--app-address", self.app_address),
                *("--dns-address", f"{self.address}:{DNS_PORT}"),
                command=(
                    *(sys.executable, "-P", "-m", "control_plane.demo.hello"),
                    *("--name", self.label, "--listen", f"{self.app_address}:{APP_PORT}"),
                ),
                variables={} if ticket else {"C2C_SIDECAR_SERVER": server},
            )
        )

    async def stop(self) -> None:
        """Ask it to end, if it runs."""
        self.running = None
        await self._exit.aclose()

    async def restart(self, cf: Plane) -> None:
        """Ask it to end, and start it again."""
        await self.stop()
        await self.start(cf)

    async def crash(self, cf: Plane) -> None:
        """Kill the sidecar alone and start it again: its Envoy and its app are left over."""
        assert self.running is not None
        self.running.process.kill()
        crashed, self._exit = self._exit, AsyncExitStack()
        await self.start(cf)
        # Whoever is left over has what the sidecar wrote to, until the new one ends it.
        await crashed.aclose()

    async def finds(self, host: str) -> set[str]:
        """Return where a name leads, by the resolver of this instance, or why it does not say."""
        try:
            return set(await resolve(f"{host}.{DOMAIN}", self.address))
        except (OSError, TimeoutError) as error:
            return {repr(error)}

    async def asks(self, host: str, address: str = "") -> Answer:
        """Send a request from here, verified in full with the trust store that its app has."""
        trust = ssl.create_default_context(cafile=self.directory / "ca.pem")
        return await get(f"{host}.{DOMAIN}", trust, address, self.address)


class Walk:
    """A system, and what was asked of it."""

    def __init__(self, cf: Plane, directory: Path, seed: int) -> None:
        """Start with nothing but a control plane.

        Args:
            directory: where instances are kept.
            seed: which walk to take.
        """
        self.cf = cf
        self.steps: list[str] = []
        self._directory = directory
        self._dice = random.Random(seed)
        self._numbers = itertools.count()
        self._ca_steps = itertools.cycle(["prepare", "activate", "retire"])
        self._members: list[Member] = []
        self._routes: set[tuple[str, str]] = set()
        self._policies: set[tuple[str, str]] = set()

    async def set_up(self) -> None:
        """Create the apps, and an instance of each."""
        for app in (STEADY, USER, *OTHERS):
            await self.cf.create_app(app)
        await self._map(STEADY, STEADY)
        await self._allow(USER, STEADY)
        await asyncio.gather(*(self._add(app) for app in (STEADY, STEADY, USER, *OTHERS)))
        await self.settled()

    async def end(self) -> None:
        """End every instance."""
        await asyncio.gather(*(each.stop() for each in self._members))

    def calls(self) -> contextlib.AbstractAsyncContextManager[Calls]:
        """Have the one call the other until the block ends."""
        (user,) = self._of(USER)

        async def call() -> None:
            answer = await user.asks(STEADY)
            assert answer.status == "200 OK", answer.status

        return calling(call)

    async def step(self) -> None:
        """Do something to a process or a CA, a few commands meanwhile, and see what comes of it."""
        name, fault = self._dice.choice(list(self._faults()))
        commands = [self._command() for _ in range(self._dice.randrange(4))]
        self.steps.append(", ".join([name, *(text for text, _ in commands)]))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(fault())
            if name.startswith("control plane"):
                await task
            for _, command in commands:
                await command()
        await self.settled()

    async def settled(self) -> None:
        """Wait until everybody finds and reaches whom it should, and nobody else."""
        wrong: list[str] = []

        async def is_right() -> bool:
            wrong[:] = [each async for each in self._wrong()]
            return not wrong

        try:
            await until(is_right, what="it is as it should be", timeout=CONVERGED_SECONDS)
        except AssertionError as error:
            error.add_note("\n".join(["still wrong:", *wrong, "after these steps:", *self.steps]))
            raise

    async def _wrong(self) -> AsyncIterator[str]:
        there = [each for each in self._members if each.running is not None]
        for caller, host in itertools.product(there, (STEADY, *HOSTS)):
            apps = {app for app, mapped in self._routes if mapped == host}
            allowed = {app for app in apps if (caller.app, app) in self._policies}
            found = {each.address for each in there if each.app in allowed | (apps & {caller.app})}
            if (finds := await caller.finds(host)) != found:
                yield f"{caller.label} finds {host} at {finds}, not at {found}"
            for other in there:
                if other.app in apps:
                    seen = await _answer(caller, host, other)
                    if (seen == other.label) is not (other.app in allowed):
                        yield f"{caller.label} asks {other.label} for {host}: {seen}"

    def _faults(self) -> Iterator[tuple[str, _Action]]:
        """Yield what may happen now to a process or a CA."""
        yield "nothing", _nothing
        yield "control plane restarts", lambda: self._restart(self.cf.stop)
        yield "control plane is killed", lambda: self._restart(self.cf.kill)
        yield "CA", self._rotate
        changing = [each for app in OTHERS for each in self._of(app)]
        one = self._dice.choice(changing)
        yield f"{one.label} restarts", lambda: one.restart(self.cf)
        yield f"{one.label} crashes", lambda: one.crash(self.cf)
        if len(changing) < 2 * len(OTHERS):
            app = self._dice.choice(OTHERS)
            yield f"another {app}", lambda: self._add(app)
        if len(self._of(one.app)) > 1:
            yield f"{one.label} leaves", lambda: self._remove(one)

    def _command(self) -> tuple[str, _Action]:
        """Return a command: it takes away what is there, and adds what is not."""
        if self._dice.random() < 0.5:
            route = self._dice.choice((STEADY, *OTHERS)), self._dice.choice(HOSTS)
            change = self._unmap if route in self._routes else self._map
            return f"route {route}", lambda: change(*route)
        policy = self._dice.choice((STEADY, USER, *OTHERS)), self._dice.choice(OTHERS)
        turn = self._forbid if policy in self._policies else self._allow
        return f"policy {policy}", lambda: turn(*policy)

    async def _map(self, app: str, host: str) -> None:
        await self._done("map-route", app, DOMAIN, "--hostname", host)
        self._routes.add((app, host))

    async def _unmap(self, app: str, host: str) -> None:
        await self._done("unmap-route", app, DOMAIN, "--hostname", host)
        self._routes.discard((app, host))

    async def _allow(self, source: str, destination: str) -> None:
        words = source, destination, "--protocol", "tcp", "--port", "61443"
        await self._done("add-network-policy", *words)
        self._policies.add((source, destination))

    async def _forbid(self, source: str, destination: str) -> None:
        words = source, destination, "--protocol", "tcp", "--port", "61443"
        await self._done("remove-network-policy", *words)
        self._policies.discard((source, destination))

    async def _rotate(self) -> None:
        step = next(self._ca_steps)
        waits = () if step == "prepare" else ("--wait", "--timeout", "60s")
        await self._done("ca", step, *waits)

    async def _restart(self, end: _Action) -> None:
        await end()
        await self.cf.start()

    async def _add(self, app: str) -> None:
        label = f"{app}-{next(self._numbers)}"
        member = Member(app, label, self._directory / label)
        await member.start(self.cf)
        self._members.append(member)

    async def _remove(self, member: Member) -> None:
        await member.stop()
        self._members.remove(member)
        known = await self.cf.instances()
        (guid,) = (each.guid for each in known if each.address == member.address)
        await self.cf.remove(guid)

    async def _done(self, *words: str) -> None:
        ran = await c2c(self.cf, *words)
        assert ran.code == 0, (words, ran)

    def _of(self, app: str) -> list[Member]:
        return [each for each in self._members if each.app == app]


async def _nothing() -> None:
    """Let commands be alone."""


async def _answer(caller: Member, host: str, other: Member) -> str:
    """Return who answers there, or why nobody does."""
    try:
        answer = await caller.asks(host, other.address)
    except (OSError, TimeoutError) as error:
        return repr(error)
    return answer.body.split()[2].rstrip(",") if answer.status == "200 OK" else answer.status


@asynccontextmanager
async def a_walk(directory: Path, seed: int) -> AsyncIterator[Walk]:
    """Set up a system for a walk, and end it with the block."""
    async with plane(directory) as cf:
        walk = Walk(cf, directory, seed)
        try:
            await walk.set_up()
            yield walk
        finally:
            await walk.end()
