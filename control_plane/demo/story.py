"""The story: nobody may talk, a policy lets app-a reach app-b, certificates follow routes.

The rule of this module: every claim is checked against what a client sees, and one that does not
hold makes the whole story fail.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path

import structlog
from rich.console import Console

from control_plane.demo.client import Answer, Connection, RequestLoop, get, resolve
from control_plane.demo.ending import Ending
from control_plane.demo.invitation import invitation
from control_plane.demo.places import (
    CALLER,
    DOMAIN,
    EVERYBODY,
    FIRST_HOST,
    SECOND_HOST,
    SERVER_APP,
    SERVERS,
)
from control_plane.demo.telling import Stopwatch, Telling
from control_plane.demo.vacancy import check_vacant
from control_plane.demo.world import World
from control_plane.names import C2C_PORT
from control_plane.sidecar.processes.envoy_process import find_envoy

FIRST = f"{FIRST_HOST}.{DOMAIN}"
SECOND = f"{SECOND_HOST}.{DOMAIN}"
_READY_SECONDS = 25.0
_LOAD_SECONDS = 1.0

Answers = tuple[Answer, ...]
"""What each instance of app-b answered, in the order of ``SERVERS``."""


async def tell(*, keep: bool) -> int:
    """Tell the story; return 0 if every claim of it held.

    Raises:
        ConfigurationError: there is no Envoy, or the addresses are taken, for example by another
            demo.
    """
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    find_envoy(None)
    check_vacant(EVERYBODY)
    with Ending() as ending:
        try:
            return await _told_to_the_end(Console(), keep=keep)
        except asyncio.CancelledError:
            if ending.code is None:
                raise
            return ending.code


async def _told_to_the_end(console: Console, *, keep: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="c2c-demo-", ignore_cleanup_errors=True) as directory:
        async with World(Path(directory)) as world:
            telling = Telling(console)
            try:
                await _tell(world, telling)
            except (OSError, RuntimeError) as error:
                telling.check(holds=False, text=str(error))
            _conclude(telling, console)
            if keep:
                await _kept(world, console)
    return 1 if telling.wrong else 0


async def _tell(world: World, telling: Telling) -> None:
    await _begin(world, telling)
    trust = ssl.create_default_context(cadata=await world.trust_bundle())
    before = await _denied_then_allowed(world, telling, trust)
    await _rotated(world, telling, trust, before)
    await _forbidden(world, telling, trust)


async def _begin(world: World, telling: Telling) -> None:
    telling.chapter("A control plane, and three instances of two apps, each with its own Envoy")
    watch = Stopwatch()
    await world.create_app(CALLER.app)
    await world.create_app(SERVER_APP)
    with telling.waiting("starting three sidecars and three Envoys"):
        # Instances are numbered as they enrol, and app-b/0 is to be the first of its app.
        await asyncio.gather(*(world.start_sidecar(place) for place in (CALLER, SERVERS[0])))
        await world.registered(SERVERS[0], _READY_SECONDS)
        await world.start_sidecar(SERVERS[1])
        await world.ready(_READY_SECONDS)
    envoys = await _envoys(world)
    telling.table(
        ("instance", "address", "app (plain HTTP)", "Envoy's pid"),
        [(p.label, p.address, f"{p.app_address}:8080", str(envoys[p.label][0])) for p in EVERYBODY],
    )
    telling.fact(f"enrolled with join tokens, connected by mTLS, ready after {watch}")


async def _denied_then_allowed(world: World, telling: Telling, trust: ssl.SSLContext) -> Answers:
    telling.chapter(f"c2c map-route app-b {DOMAIN} --hostname {FIRST_HOST}")
    watch = Stopwatch()
    mapped = await world.map_route(FIRST_HOST)
    telling.check(holds=mapped.complete, text=f"both Envoys serve a certificate for it: {watch}")
    telling.check(
        holds=await _closed(FIRST, trust, SERVERS[0].address),
        text="app-a connects to app-b and is closed at once: no policy lets it in",
    )
    telling.check(holds=not await resolve(FIRST), text=f"and {FIRST} does not resolve for app-a")

    telling.chapter(f"c2c add-network-policy app-a app-b --protocol tcp --port {C2C_PORT}")
    watch = Stopwatch()
    await world.allow()
    answer = await get(FIRST, trust)
    telling.fact(f"curl https://{FIRST}:{C2C_PORT} from app-a, {watch} after the command:")
    telling.fact(f"  HTTP {answer.status}: {answer.body}")
    addresses = await resolve(FIRST)
    telling.check(
        holds=set(addresses) == {place.address for place in SERVERS},
        text=f"app-a's own DNS leads to both instances: {', '.join(sorted(addresses))}",
    )
    telling.check(
        holds=FIRST in answer.names, text=f"verified with its host name and our CA: {FIRST}"
    )
    before = await _of_each(FIRST, trust)
    _show_certificate(telling, before)
    return before


async def _rotated(world: World, telling: Telling, trust: ssl.SSLContext, before: Answers) -> None:
    envoys = await _envoys(world)
    long_lived = await Connection.open(FIRST, trust)
    handshake = await long_lived.get(FIRST)
    loop = RequestLoop(trust, [FIRST])
    loop.start()
    try:
        await asyncio.sleep(_LOAD_SECONDS)
        await _mapped(world, telling, trust, before)
        loop.names = [FIRST, SECOND]
        await asyncio.sleep(_LOAD_SECONDS)
        loop.names = [SECOND]
        await _unmapped(world, telling, trust)
        await asyncio.sleep(_LOAD_SECONDS)
    finally:
        await loop.stop()

    telling.chapter("What the clients noticed")
    telling.check(
        holds=not loop.failures and loop.sent > 0,
        text=f"{loop.sent} requests over as many new connections, {len(loop.failures)} failed",
    )
    for failure in loop.failures[:3]:
        telling.fact(failure)
    answer = await long_lived.get(FIRST)
    telling.check(
        holds=(answer.serial, answer.body) == (handshake.serial, handshake.body),
        text="the connection from before is still open, on the certificate of its handshake",
    )
    long_lived.close()
    now = await _envoys(world)
    telling.check(
        holds=now == envoys and all(epoch == 0 for _, epoch in now.values()),
        text="no Envoy was restarted: "
        + ", ".join(f"{label} pid {pid} epoch {epoch}" for label, (pid, epoch) in now.items()),
    )


async def _mapped(world: World, telling: Telling, trust: ssl.SSLContext, before: Answers) -> None:
    telling.chapter(f"c2c map-route app-b {DOMAIN} --hostname {SECOND_HOST}, while requests run")
    watch = Stopwatch()
    mapped = await world.map_route(SECOND_HOST)
    telling.check(holds=mapped.complete, text=f"served by both Envoys: {watch}")
    after = await _of_each(SECOND, trust)
    _show_certificate(telling, after)
    telling.check(
        holds=all(
            now.serial != then.serial and {FIRST, SECOND} <= set(now.names)
            for then, now in zip(before, after, strict=True)
        ),
        text="both have a new certificate, with both names",
    )


async def _unmapped(world: World, telling: Telling, trust: ssl.SSLContext) -> None:
    telling.chapter(f"c2c unmap-route app-b {DOMAIN} --hostname {FIRST_HOST}, while requests run")
    watch = Stopwatch()
    unmapped = await world.unmap_route(FIRST_HOST)
    telling.check(
        holds=unmapped.complete, text=f"the name went first, the certificate after it: {watch}"
    )
    after = await _of_each(SECOND, trust)
    _show_certificate(telling, after)
    telling.check(
        holds=not any(FIRST in each.names for each in after),
        text=f"{FIRST} is in no certificate any more",
    )
    telling.check(holds=not await resolve(FIRST), text="and does not resolve any more")


async def _envoys(world: World) -> dict[str, tuple[int, int]]:
    """Return the pid and the restart epoch of each Envoy."""
    return {place.label: await world.envoy(place.label) for place in EVERYBODY}


async def _forbidden(world: World, telling: Telling, trust: ssl.SSLContext) -> None:
    telling.chapter(f"c2c remove-network-policy app-a app-b --protocol tcp --port {C2C_PORT}")
    kept = await Connection.open(SECOND, trust)
    await kept.get(SECOND)
    watch = Stopwatch()
    await world.forbid()
    answer = await kept.get(SECOND)
    telling.check(
        holds=answer.status.startswith("403"),
        text=f"the next request on the open connection: HTTP {answer.status}, {watch} later",
    )
    kept.close()
    telling.check(
        holds=await _closed(SECOND, trust, SERVERS[0].address),
        text="a new connection is closed at once",
    )


async def _closed(name: str, trust: ssl.SSLContext, address: str) -> bool:
    """Tell whether the connection is accepted and closed at once; a dead Envoy does neither."""
    try:
        await get(name, trust, address)
    except (ConnectionResetError, BrokenPipeError):
        return True
    except OSError:
        return False
    return False


async def _of_each(name: str, trust: ssl.SSLContext) -> Answers:
    """Return what each instance answers; the name alone leads to any of them."""
    return tuple([await get(name, trust, place.address) for place in SERVERS])


def _show_certificate(telling: Telling, answers: Answers) -> None:
    """Show a certificate, always of the same instance, so that readers can compare."""
    first = answers[0]
    telling.fact(f"serial {first.serial} at {first.address}")
    telling.fact(f"SAN    {', '.join(first.names)}")


def _conclude(telling: Telling, console: Console) -> None:
    if telling.wrong:
        console.print(f"\n[bold red]{len(telling.wrong)} of these were not as they should be.[/]")
    else:
        console.print("\n[bold green]All of it true.[/bold green]")


async def _kept(world: World, console: Console) -> None:
    """Leave the demo running until a signal asks for the end."""
    if not await world.is_up(EVERYBODY):
        console.print("It is not kept running: not all of its instances are up.")
        return
    for line in invitation(world.directory):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
