"""``c2c why`` names what is missing, and the command that it prints helps.

With real sidecars, real Envoys and real apps, except where the point is that there is none.
"""

from __future__ import annotations

import asyncio
import shlex
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.api.v1 import (
    inspection_pb2,
    instance_pb2,
    instance_pb2_grpc,
    progress_pb2,
)
from control_plane.cli.errors import capitalised
from control_plane.names import InstanceGuid
from tests.envoy.apps import http1, tcp_app
from tests.envoy.harness import unique_address, until
from tests.inspection import world
from tests.inspection.commands import c2c
from tests.inspection.world import Operator
from tests.sidecar.platform import Platform, free_port
from tests.sidecar.process import Sidecar
from tests.sidecar.scene import NAME, Scene, scene
from tests.unit.model.refusals import no_app

CALLER = "caller-of-app-b"


async def why(cf: Platform, source: str, destination: str) -> inspection_pb2.Chain:
    """Ask over the API, and return the one chain."""
    async with cf.operator() as channel:
        return await Operator(channel).why(source, destination)


async def missing(
    cf: Platform, kind: str, sentence: str, source: str = CALLER
) -> inspection_pb2.Link:
    """Wait until this is the first that is missing; it is what c2c says too."""
    last = inspection_pb2.Link()

    async def probe() -> bool:
        last.CopyFrom((await why(cf, source, "app-b")).missing)
        return (last.kind, last.sentence) == (kind, sentence)

    await until(probe, what=f"{kind}: {sentence}")
    link = last
    ran = await c2c(cf, "why", source, "app-b")
    assert (ran.code, ran.err) == (1, f"{capitalised(link.sentence)}\n")
    assert f"   MISSING  {kind:<12} {link.sentence}\n" in ran.out
    assert ran.out.endswith(f"\nTIP: {': '.join(filter(None, (link.advice, link.command)))}\n")
    return link


async def is_complete(cf: Platform, source: str = CALLER) -> inspection_pb2.Chain:
    """Wait until nothing is missing, and nothing has to wait."""

    async def probe() -> inspection_pb2.Chain | None:
        chain = await why(cf, source, "app-b")
        waits = any(each.state == inspection_pb2.LINK_STATE_WAITS for each in chain.links)
        return chain if chain.complete and not waits else None

    chain = await until(probe, what=f"{source} reaches app-b")
    assert chain is not None
    return chain


async def do(cf: Platform, command: str) -> None:
    """Paste a command that was printed."""
    program, *words = shlex.split(command)
    assert program == "c2c"
    ran = await c2c(cf, *words)
    assert (ran.code, ran.err) == (0, "")


async def test_nothing_is_missing(tmp_path: Path) -> None:
    """Every link holds and is told in words, and a request by that name is answered."""
    async with scene(tmp_path) as here, here.instance():
        chain = await is_complete(here.cf)
        ran = await c2c(here.cf, "why", CALLER, NAME)
        printed = await c2c(here.cf, "why", CALLER, NAME, "--output", "json")

        assert {each.state for each in chain.links} == {inspection_pb2.LINK_STATE_HOLDS}
        assert chain.route == NAME
        assert printed.json()[0]["complete"] is True
        assert (await here.caller.call(here.address)).status == 200
        assert (ran.code, ran.err) == (0, "")
        assert f"{CALLER} to https://{NAME}:61443\n" in ran.out
        assert ran.out.count("   ok       ") == len(chain.links)
        assert "TIP" not in ran.out
        assert ran.out.endswith(
            "\n\nNot looked at: firewalls in between, which resolver "
            f"{CALLER} asks, the app's answers\n"
        )


@pytest.mark.parametrize("columns", [40, 60, 80])
async def test_narrow_terminals_have_room_for_it(tmp_path: Path, columns: int) -> None:
    """Sentences and tables end before the edge; a word that cannot be broken may pass it."""
    async with scene(tmp_path) as here, here.instance():
        await is_complete(here.cf)
        for words, titles in ((("why", CALLER, NAME), 4), (("status",), 2), (("certs",), 2)):
            ran = await c2c(here.cf, *words, columns=columns)
            wide = await c2c(here.cf, *words)

            assert (ran.code, ran.err) == (0, "")
            for line in ran.out.splitlines()[titles:]:
                assert len(line) <= columns or len(line.split()) <= 2, line
            if words[0] == "why":
                assert ran.out.split()[10:] == wide.out.split()[10:]


async def test_no_policy(tmp_path: Path) -> None:
    """A stranger misses a policy, and the command that is printed lets it in."""
    async with scene(tmp_path) as here, here.instance():
        await is_complete(here.cf)
        await _register(here.cf, "stranger")
        sentence = "no network policy lets stranger connect to app-b"
        link = await missing(here.cf, "policy", sentence, "stranger")
        await do(here.cf, link.command)
        await is_complete(here.cf, "stranger")


async def test_no_route(tmp_path: Path) -> None:
    """An app without a route has no name; the command that is printed gives it one."""
    async with scene(tmp_path) as here, here.instance():
        await is_complete(here.cf)
        await do(here.cf, "c2c unmap-route app-b apps.internal --hostname app-b")
        link = await missing(here.cf, "name", "no internal route is mapped to app-b")
        await do(here.cf, link.command)
        assert (await is_complete(here.cf)).route == NAME


async def test_wrong_app_port(tmp_path: Path) -> None:
    """61443 leads where nobody listens; the command that is printed leads it to the app."""
    async with scene(tmp_path) as here, _named_port(here):
        await is_complete(here.cf)
        wrong = free_port()
        await here.cf.use_ports("app-b", wrong)
        sentence = f"61443 leads to port {wrong} of app-b/0, which listens on {here.port}"
        link = await missing(here.cf, "port", sentence)
        await do(here.cf, link.command)
        await is_complete(here.cf)
        await here.caller.reaches(here.address)


async def test_instance_gone(tmp_path: Path) -> None:
    """An instance that left is told apart from one that never was; it needs no new token."""
    async with scene(tmp_path) as here:
        await missing(here.cf, "name", f"{NAME} leads nowhere: app-b has no instances")
        async with here.instance() as instance:
            await is_complete(here.cf)
            await instance.stop()
        sentence = f"{NAME} leads nowhere: every instance of app-b is gone"
        link = await missing(here.cf, "name", sentence)
        status = await c2c(here.cf, "status", "app-b")
        certs = await c2c(here.cf, "certs", "app-b")

        assert status.out.splitlines()[3].split()[2] == "gone"
        assert status.out.splitlines()[3].split()[-1] == "-"
        assert "served" not in certs.out
        assert link.advice.startswith("start its sidecar again; ")
        async with here.instance_without_token():
            await is_complete(here.cf)


async def _reached_by_a_stranger(here: world.Scene) -> None:
    """Have an app that is called "stranger" reach app-b, and return once it does."""
    await here.until_served()
    await _register(here.cf, "stranger")
    await here.cf.allow("stranger", "app-b")
    await is_complete(here.cf, "stranger")


async def test_certificate_not_acked(tmp_path: Path) -> None:
    """An Envoy that does not answer is named with what it was sent; the command waits for it."""
    async with world.scene(tmp_path) as here, here.envoy() as envoy:
        await _reached_by_a_stranger(here)
        envoy.pause()
        await here.map_route("second")
        sentence = (
            "app-b/0 has no certificate for it yet: sent and not answered yet: c2c-cert-and-key"
        )
        link = await missing(here.cf, "certificate", sentence, "stranger")

        assert link.command == "c2c wait app-b"
        envoy.resume()
        await do(here.cf, link.command)
        chain = await is_complete(here.cf, "stranger")
        unknown = {e.kind for e in chain.links if e.state == inspection_pb2.LINK_STATE_UNKNOWN}
        assert unknown == {"app", "isolation"}  # there is no sidecar to tell


async def test_what_is_unknown(tmp_path: Path) -> None:
    """If nobody can tell whether a link holds, the command is named that shows what is known."""
    async with world.scene(tmp_path) as here, here.envoy():
        await _reached_by_a_stranger(here)
        ran = await c2c(here.cf, "why", "stranger", "app-b")

    assert (ran.code, ran.err) == (0, "")
    assert (
        "   unknown  app          no sidecar tells whether app-b/0 accepts connections\n" in ran.out
    )
    assert "\n\nTIP: see what is known of its instances: c2c status app-b\nNot looked" in ran.out


async def test_certificate_not_served(tmp_path: Path) -> None:
    """An Envoy that does not serve what it ACKed is not waited for: somebody has to look at it."""
    async with world.scene(tmp_path) as here, here.envoy():
        await _reached_by_a_stranger(here)
        served = (await here.until_served()).served_serial
        await here.report(listening=True, served_serial="bad")
        sentence = (
            "app-b/0 does not serve the certificate that it ACKed: "
            "the last TLS handshake with port 61443 showed serial bad"
        )
        link = await missing(here.cf, "certificate", sentence, "stranger")

        assert link.command == ""
        assert link.advice == (
            "if that lasts, restart its sidecar, and Envoy with it; if that does not help, see "
            "whether a firewall there drops what is sent to 61443"
        )
        await here.report(listening=True, served_serial=served)
        await is_complete(here.cf, "stranger")


async def test_certificate_cannot_be_issued(tmp_path: Path) -> None:
    """The old one is ACKed and served, and that does not make all well; once it can be, it is."""
    async with scene(tmp_path) as here, here.instance():
        await is_complete(here.cf)
        custody = here.cf.running.core.custody
        able = custody._custodian
        custody._custodian = replace(able, new_serial=lambda: 0)
        await here.cf.map_route("app-b", "second", wait=progress_pb2.WAIT_COMMITTED)

        async def failed() -> str:
            return custody.failure(InstanceGuid(here.instance_guid))

        failure = await until(failed, what="issuing fails")
        sentence = "app-b/0 has no certificate for it yet: no certificate could be issued: "
        await missing(here.cf, "certificate", sentence + failure)

        custody._custodian = able
        await is_complete(here.cf)


async def test_certificate_not_seen_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy ACKed it and nobody has looked: there is nothing to do, and it is not all well."""
    async with world.scene(tmp_path) as here:
        prober, may_look = here.cf.running.core.observed.proof._sight._prober, asyncio.Event()
        look = prober.served_serial

        async def look_later(address: str, port: int, *, source: str | None = None) -> int | str:
            await may_look.wait()
            return await look(address, port, source=source)

        monkeypatch.setattr(prober, "served_serial", look_later)
        await _register(here.cf, "stranger")
        await here.cf.allow("stranger", "app-b")
        async with here.envoy():

            async def waits() -> bool:
                link = (await why(here.cf, "stranger", "app-b")).missing
                # It is missing before it is ACKed.
                return (link.kind, link.state) == ("certificate", inspection_pb2.LINK_STATE_WAITS)

            await until(waits, what="only the certificate is open")
            chain = await why(here.cf, "stranger", "app-b")
            ran = await c2c(here.cf, "why", "stranger", "app-b")
            may_look.set()
            await is_complete(here.cf, "stranger")

    sentence = "app-b/0 ACKed its certificate, and is not seen to serve it yet"
    assert not chain.complete
    assert (chain.missing.state, chain.missing.sentence) == (
        inspection_pb2.LINK_STATE_WAITS,
        sentence,
    )
    assert (ran.code, ran.err) == (1, f"{sentence}\n")
    assert f"   waits    certificate  {sentence}\n" in ran.out
    assert "TIP" not in ran.out


async def test_app_not_listening(tmp_path: Path) -> None:
    """The app is the cause, and the name waits for it; once it listens nothing is missing."""
    async with scene(tmp_path, app=None) as here, here.instance():
        sentence = f"app-b/0 does not accept connections on 127.0.0.1:{here.port}"
        link = await missing(here.cf, "app", sentence)
        start = f"start the app on 127.0.0.1:{here.port}, or say on which port it listens"
        assert link.advice == f"{start}: c2c update-app app-b --port PORT"
        assert link.command == ""
        chain = await why(here.cf, CALLER, "app-b")
        status = await c2c(here.cf, "status", "app-b")

        reason = f"its app does not accept connections on 127.0.0.1:{here.port}"
        assert f"app-b/0 is not ready: {reason}\n" in status.out
        states = {each.kind: each.state for each in chain.links}
        assert states["name"] == inspection_pb2.LINK_STATE_WAITS
        async with tcp_app(http1(), port=here.port):
            await is_complete(here.cf)


async def test_app_reachable_past_envoy(tmp_path: Path) -> None:
    """Everything works, and the app is open to everybody all the same: that is missing."""
    async with (
        scene(tmp_path, app=None) as here,
        tcp_app(http1(), address="0.0.0.0", port=here.port),
        here.instance(),
    ):
        sentence = (
            f"app-b/0 can be reached past Envoy on tcp {here.address}:{here.port}, where no "
            "network policy holds"
        )
        link = await missing(here.cf, "isolation", sentence)
        status = await c2c(here.cf, "status", "app-b")

        assert (link.advice, link.command) == ("have the app listen on 127.0.0.1 only", "")
        assert f"app-b/0 can be reached past Envoy on tcp {here.port}\n" in status.out


async def test_another_port_is_not_looked_at(tmp_path: Path) -> None:
    """Who forgot the port in a URL, or names another one, is told which one the answer is about."""
    async with scene(tmp_path) as here, here.instance():
        await is_complete(here.cf)
        for destination, port in (
            (f"https://{NAME}/cart", 443),
            (f"http://{NAME}", 80),
            (f"{NAME}:8080", 8080),
            (f"https://{NAME}:61443/cart", None),
            ("app-b/0", None),
            (here.address, None),
        ):
            ran = await c2c(here.cf, "why", CALLER, destination)

            note = f"Note: port {port} was not looked at, only 61443, where HTTPS is\n"
            assert (ran.code, ran.err) == (0, "")
            assert ran.out.endswith(note) if port else "Note" not in ran.out


async def test_one_instance_is_asked_about(tmp_path: Path) -> None:
    """By its own name, by its address and as tables call it, the answer is about that one."""
    async with scene(tmp_path) as here, here.instance():
        await is_complete(here.cf)
        for destination, called, whose in (
            (f"0.{NAME}", f"0.{NAME}", f"0.{NAME} leads to {here.address}"),
            ("app-b/0", f"0.{NAME}", f"0.{NAME} leads to {here.address}"),
            (f"https://{here.address}:61443/", here.address, f"{here.address} is the address of"),
        ):
            ran = await c2c(here.cf, "why", CALLER, destination)

            assert (ran.code, ran.err) == (0, "")
            assert f"{CALLER} to https://{called}:61443\n" in ran.out
            assert f"   ok       name         {whose}" in ran.out
            assert f"app-b/0 serves its certificate with {called}\n" in ran.out


async def test_a_route_that_works_is_preferred(tmp_path: Path) -> None:
    """An app is asked about by one of its routes that leads to it, not by the first of them."""
    async with world.scene(tmp_path) as here, here.envoy() as envoy:
        await _reached_by_a_stranger(here)
        envoy.pause()
        await here.map_route("a-new-one")
        chain = await why(here.cf, "stranger", "app-b")
        envoy.resume()

    assert chain.route == NAME


async def test_each_app_of_a_route_is_asked_about(tmp_path: Path) -> None:
    """A route that two apps have has a chain of links to each, and each says to whom it leads."""
    async with scene(tmp_path) as here:
        mapped = await c2c(here.cf, "map-route", CALLER, "apps.internal", "--hostname", "app-b")
        ran = await c2c(here.cf, "why", CALLER, NAME)

    assert (mapped.code, ran.code) == (0, 1)
    for app in (CALLER, "app-b"):
        assert ran.out.count(f"{CALLER} to https://{NAME}:61443 of {app}\n") == 1


async def test_a_name_that_is_nobody_s(tmp_path: Path) -> None:
    """A name without an app is answered too; what is no name at all is refused."""
    async with scene(tmp_path) as here:
        ran = await c2c(here.cf, "why", CALLER, "nobody.apps.internal")
        alone = await c2c(here.cf, "why", "nobody.apps.internal")
        place = ("--data-dir", str(here.cf.settings.data_dir))
        there = await c2c(here.cf, "why", "nobody.apps.internal", *place)
        refused = await c2c(here.cf, "why", CALLER, "nobody")
        elsewhere = await c2c(here.cf, "why", "https://shop.example.com:61443/cart")

    assert ran.code == alone.code == refused.code == 1
    assert alone.err == ran.err == "No app has the route nobody.apps.internal\n"
    assert "TIP: c2c map-route APP apps.internal --hostname nobody\n" in alone.out
    assert there.out == alone.out.replace("nobody\n", f"nobody {' '.join(place)}\n")
    assert "anybody to https://shop.example.com:61443\n" in elsewhere.out
    assert elsewhere.out.endswith("\nTIP: internal domains are: apps.internal\n")
    assert refused.err == f"{capitalised(no_app('nobody'))}\n"


async def _register(cf: Platform, name: str) -> None:
    """Make an app with an instance that is only registered, which may call."""
    await cf.create_app(name)
    async with cf.operator() as channel:
        await instance_pb2_grpc.InstanceServiceStub(channel).RegisterInstance(
            instance_pb2.RegisterInstanceRequest(app=name, address=unique_address())
        )


def _named_port(here: Scene) -> AbstractAsyncContextManager[Sidecar]:
    """Run an instance whose sidecar was told by hand where the app listens."""
    return here.instance("--app-port", str(here.port))
