"""What a command says of a change when its connection breaks, over real sockets."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.app import ControlPlane
from control_plane.cli import client
from control_plane.cli.client import Client
from tests.faults.proxy import Fault, Pipe, Proxy, none
from tests.hangup import interruptible
from tests.installed import C2C
from tests.unit.cli.running import Ran, run_c2c
from tests.unit.cli.test_connection import as_alice, operator

__all__ = ["operator"]


def through(
    operator: tuple[ControlPlane, Path], fault: Callable[[Proxy], Fault], *words: str
) -> tuple[Ran, str]:
    """Run a command through a proxy with a fault; return what it did, and the proxy's address."""

    async def run() -> tuple[Ran, str]:
        upstream = operator[0].ports.admin_address
        assert upstream is not None
        proxy = Proxy(upstream)
        proxy.fault = fault(proxy)
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ran = await asyncio.to_thread(as_alice, operator, *words, server=address)
            await proxy.close()
        return ran, address

    return asyncio.run(run())


def has_app(running: ControlPlane, name: str) -> bool:
    """Tell whether the server has made an app."""
    return any(app.key.name == name for app in running.core.registry.state.apps.values())


def cut_before_the_answer(
    running: ControlPlane, name: str, *, is_back: bool
) -> Callable[[Proxy], Fault]:
    """Break the connection with the first octets that come once an app was created."""

    def fault_of(proxy: Proxy) -> Fault:
        async def fault(pipe: Pipe, data: bytes) -> None:
            if pipe.is_down and has_app(running, name):
                proxy.fault = none
                proxy.is_refusing = not is_back
                raise ConnectionResetError
            await pipe.send(data)

        return fault

    return fault_of


@pytest.mark.parametrize("is_back", [True, False], ids=["server answers", "server is gone"])
def test_a_change_whose_answer_is_lost_may_have_been_made(
    operator: tuple[ControlPlane, Path], *, is_back: bool
) -> None:
    """It says so, with the command that shows whether it was, of that server; here it was."""
    name = "back" if is_back else "gone"
    fault = cut_before_the_answer(operator[0], name, is_back=is_back)

    ran, where = through(operator, fault, "create-app", name, "-s", "s 1")

    assert has_app(operator[0], name)
    assert (ran.code, ran.out.splitlines()[-1]) == (1, "FAILED")
    files = operator[1] / "alice"
    doubt = (
        f"The connection to {where} broke before the answer: the change may have been made or "
        f"not, so look with 'c2c app {name} -s 's 1' -o default --server {where} "
        f"--cert {files}.pem --key {files}.key --ca {files}-ca.pem' before you repeat it"
    )
    assert ran.err == f"{doubt}\n" if is_back else ran.err.startswith(f"{doubt} (now no ")
    _, *words = shlex.split(doubt.partition("look with '")[2].partition("' before")[0])
    words[words.index(where)] = str(operator[0].ports.admin_address)
    assert run_c2c(*words).code == 0


def test_a_change_that_was_never_sent_was_not_made(operator: tuple[ControlPlane, Path]) -> None:
    """Where no second connection comes about there is no doubt, and no word of it."""

    def second_is_broken(proxy: Proxy) -> Callable[[Pipe, bytes], Awaitable[None]]:
        async def fault(pipe: Pipe, data: bytes) -> None:
            if proxy.accepted > 1:
                raise ConnectionResetError
            await pipe.send(data)

        return fault

    ran, where = through(operator, second_is_broken, "create-app", "never")

    assert not has_app(operator[0], "never")
    assert ran.code == 1
    assert ran.err.startswith(
        (f"No TLS with the server at {where}", f"No server answers at {where}")
    )
    assert "may have been made" not in ran.err


class Breaking(grpc.GenericRpcHandler):
    """Answers what only reads with nothing, and all else with the status of a broken connection.

    Attributes:
        code: that status; None for no answer at all.
        breaks_reads: whether it is the other way round.
        called: is set while somebody waits for an answer that does not come.
    """

    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE
    breaks_reads = False

    def __init__(self) -> None:
        """Start with nobody who waits."""
        self.called = threading.Event()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Return what handles any method."""
        is_read = handler_call_details.method.rpartition("/")[2].startswith(("Get", "List"))

        def handle(_request: bytes, context: Any) -> bytes:  # noqa: ANN401 - of a generic type
            if is_read is not self.breaks_reads:
                return b""
            if self.code is None:
                self.called.set()
                ended = threading.Event()
                if context.add_callback(ended.set):
                    ended.wait(20)
                return b""
            context.abort(self.code, "why")
            raise AssertionError

        return grpc.unary_unary_rpc_method_handler(handle)


@pytest.fixture
def breaking(tmp_path: Path) -> Iterator[Breaking]:
    """Serve it on the socket of a data directory."""
    with ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool)
        service = Breaking()
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"unix:{tmp_path}/admin.sock")
        server.start()
        yield service
        server.stop(0).wait(20)


ROUTE = ("web", "apps.internal", "--hostname", "web")
POLICY = ("web", "shop", "--protocol", "tcp", "--port", "61443")
LOOK = "the change may have been made or not, so look with '{}' before you repeat it"
AGAIN = "what was made, if anything, is lost, so run it again"


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("create-app", "web"), LOOK.format("c2c app web")),
        (("update-app", "web", "--port", "9191"), LOOK.format("c2c app web")),
        (("update-app", "web", "--name", "site"), LOOK.format("c2c app site")),
        (("delete-app", "web", "-f", "-o", "o1"), LOOK.format("c2c app web -s default -o o1")),
        (("map-route", *ROUTE), LOOK.format("c2c routes web")),
        (("unmap-route", *ROUTE), LOOK.format("c2c routes web")),
        (("add-network-policy", *POLICY), LOOK.format("c2c network-policies --source web")),
        (("remove-network-policy", *POLICY), LOOK.format("c2c network-policies --source web")),
        (("register-instance", "web", "--address", "10.0.0.1"), LOOK.format("c2c instances web")),
        (("remove-instance", "guid-1"), LOOK.format("c2c instances --all")),
        (("ca", "prepare"), LOOK.format("c2c ca list")),
        (("ca", "prepare", "--undo"), LOOK.format("c2c ca list")),
        (("ca", "activate"), LOOK.format("c2c ca list")),
        (("ca", "activate", "--undo"), LOOK.format("c2c ca list")),
        (("ca", "retire"), LOOK.format("c2c ca list")),
        (("join-token", "web"), AGAIN),
        (("revoke-join-tokens", "web"), LOOK.format("c2c join-tokens web")),
        (("issue-operator-cert", "alice"), AGAIN),
        (("revoke-operator-cert", "alice"), LOOK.format("c2c operator-certs")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("breaking")
def test_each_change_names_what_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], advice: str
) -> None:
    """Whatever changes something names the command that shows it, or can simply be run again."""
    monkeypatch.chdir(tmp_path)

    assert run_c2c(*words, C2C_DATA_DIR=str(tmp_path)).err == (
        f"The connection to {tmp_path}/admin.sock broke before the answer: {advice}\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("create-app web --data-dir '{}'", "c2c app web --data-dir '{}'"),
        ("--data-dir '{}' create-app web", "c2c app web --data-dir '{}'"),
        ("--data-dir /none create-app web --data-dir '{}'", "c2c app web --data-dir '{}'"),
        ("--config '{}/c2c.toml' create-app web", "c2c app web --config '{}/c2c.toml'"),
        ("--debug delete-app web -f --data-dir '{}'", "c2c app web --data-dir '{}'"),
        ("remove-instance guid-1 --data-dir '{}'", "c2c instances --all --data-dir '{}'"),
        ("ca retire --data-dir '{}'", "c2c ca list --data-dir '{}'"),
        ("revoke-operator-cert al --data-dir '{}'", "c2c operator-certs --data-dir '{}'"),
    ],
)
@pytest.mark.usefixtures("breaking")
def test_what_shows_a_change_is_asked_of_the_same_server(
    tmp_path: Path, words: str, said: str
) -> None:
    """The options that say which it is, and counted, are said again, wherever they stood."""
    directory = tmp_path / "of c2c"
    directory.mkdir()
    (directory / "c2c.toml").write_text(f'data_dir = "{directory}"\n')
    (directory / "admin.sock").symlink_to(tmp_path / "admin.sock")

    ran = run_c2c(*shlex.split(words.format(directory)))

    assert ran.err.endswith(f": {LOOK.format(said.format(directory))}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ca", "prepare"), "c2c ca activate"),
        (("ca", "activate"), "c2c ca retire"),
        (("ca", "activate", "--undo"), "c2c ca prepare --undo"),
    ],
    ids=["prepare", "activate", "undo"],
)
def test_the_next_step_is_one_of_the_same_server(
    tmp_path: Path, breaking: Breaking, words: tuple[str, ...], said: str
) -> None:
    """What is printed after a step can be pasted, wherever the options stood."""
    breaking.breaks_reads = True
    place = ("--data-dir", str(tmp_path))

    for ran in (run_c2c(*words, *place), run_c2c(*place, *words)):
        assert ran.out.endswith(f": {said} --data-dir {tmp_path}\n")
    assert run_c2c(*words, C2C_DATA_DIR=str(tmp_path)).out.endswith(f": {said}\n")


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("create-app", "web"), f"Interrupted: {LOOK.format('c2c app web')}"),
        (("join-token", "web"), f"Interrupted: {AGAIN}"),
        (("apps",), ""),
    ],
    ids=["change", "made again", "only reads"],
)
def test_who_interrupts_a_change_is_told_of_the_doubt(
    tmp_path: Path, breaking: Breaking, words: tuple[str, ...], advice: str
) -> None:
    """Ctrl-C takes nothing back that was sent; what only reads leaves no doubt."""
    breaking.code = None
    breaking.breaks_reads = words == ("apps",)
    command = [C2C, *words]
    environment = {**os.environ, "C2C_DATA_DIR": str(tmp_path)}
    with interruptible():
        c2c = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    with c2c:
        assert breaking.called.wait(20)
        c2c.send_signal(signal.SIGINT)
        _, said = c2c.communicate(timeout=20)

    assert c2c.returncode == 130
    assert said.strip() == advice


@pytest.mark.parametrize(
    ("code", "happened"),
    [
        (None, "No answer from {} within 0.2s"),
        (grpc.StatusCode.INTERNAL, "The server at {} failed, and its log says why"),
        (grpc.StatusCode.CANCELLED, "The server at {} answered CANCELLED: why"),
    ],
)
def test_whatever_is_no_refusal_leaves_a_doubt(
    breaking: Breaking,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: grpc.StatusCode | None,
    happened: str,
) -> None:
    """A deadline, a defect of the server and a call that was cut off may all come after it."""
    breaking.code = code
    monkeypatch.setattr(Client.change, "__defaults__", (0.2,))

    assert run_c2c("create-app", "web", C2C_DATA_DIR=str(tmp_path)).err == (
        f"{happened.format(tmp_path / 'admin.sock')}: {LOOK.format('c2c app web')}\n"
    )


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION])
def test_a_refusal_leaves_no_doubt(
    breaking: Breaking, tmp_path: Path, code: grpc.StatusCode
) -> None:
    """What the server refuses it has not made, and its sentence is all there is to say."""
    breaking.code = code

    assert run_c2c("create-app", "web", C2C_DATA_DIR=str(tmp_path)).err == "Why\n"


def test_what_was_done_before_a_wait_is_said_although_the_server_went_away(
    breaking: Breaking, tmp_path: Path
) -> None:
    """Who prepared a CA and waited is told that it is prepared, since that need not be repeated."""
    breaking.breaks_reads = True

    ran = run_c2c("ca", "prepare", "--wait", "--timeout", "1s", C2C_DATA_DIR=str(tmp_path))

    away = f"the server at {tmp_path}/admin.sock cannot do this now: why"
    assert ran.err == f"T{away[1:]} (trying again)\nThe CA is prepared, but {away}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("wait",),
            "No answer from {0} within 0.2s (trying again)\nNo answer from {0} within 0.2s",
        ),
        (
            ("map-route", *ROUTE, "--wait", "served"),
            f"No answer from {{0}} within 0.2s: {LOOK.format('c2c routes web')}",
        ),
        (
            ("add-network-policy", "web", "shop", "--wait", "acked"),
            "No answer from {0} within 0.2s: " + LOOK.format("c2c network-policies --source web"),
        ),
        (
            ("ca", "retire", "--wait"),
            "No answer from {0} within 0.2s (trying again)\nNo answer from {0} within 0.2s",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_wait_ends_although_the_server_hangs(
    tmp_path: Path,
    breaking: Breaking,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    """Whoever said how long to wait need not count on a server to end it."""
    breaking.code = None
    breaking.breaks_reads = words[0] in ("wait", "ca")
    monkeypatch.setattr(client, "_GRACE_SECONDS", 0.1)
    began = time.monotonic()

    ran = run_c2c(*words, "--timeout", "100ms", C2C_DATA_DIR=str(tmp_path))

    assert ran.err == said.format(tmp_path / "admin.sock") + "\n"
    assert time.monotonic() - began < 10
