"""Which server a command talks to, and what it says when that does not work."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

import grpc
import pytest

from control_plane.api.v1.app_pb2 import App, ListAppsResponse
from control_plane.app import ControlPlane
from control_plane.ca import (
    DEFAULT_TRUST_DOMAIN,
    Authority,
    C2CRequest,
    IdentityRequest,
    OperatorRequest,
    Profile,
    Request,
    ServerRequest,
    create_authority,
    issue,
    new_key_pair,
)
from control_plane.cli import client, reach
from control_plane.cli.reach import Away, Credentials, try_tls
from control_plane.names import SERVER_NAME
from control_plane.settings import Settings, SocketAddress
from control_plane.store.files import write_private
from tests.api import world
from tests.faults.proxy import Proxy, delay
from tests.unit.cli.running import Ran, Run, run_c2c

ANY_PORT = SocketAddress("127.0.0.1", 0)
ENDS = {"cert": ".pem", "key": ".key", "ca": "-ca.pem"}
TITLES = ["name", "issued", "asked for by", "expires", "revoked", "serial"]
NEXT_STEP = "start one with 'c2c serve', set C2C_DATA_DIR, or C2C_SERVER if it is elsewhere"


def test_no_server_answers(tmp_path: Path) -> None:
    """Without a socket, and with one that nobody listens on any more, it says what to do."""
    path = tmp_path / "admin.sock"
    expected = Ran(
        1,
        "Getting apps in org default / space default...\nFAILED\n",
        f"No server answers at {path}: {NEXT_STEP}\n",
    )

    assert run_c2c("apps", C2C_DATA_DIR=str(tmp_path)) == expected
    with closing(socket.socket(socket.AF_UNIX)) as left_behind:
        left_behind.bind(str(path))
    assert run_c2c("apps", C2C_DATA_DIR=str(tmp_path)) == expected
    ran = run_c2c("apps", C2C_DATA_DIR=str(path))
    assert ran.err == f"No server answers at {path}/admin.sock: {NEXT_STEP}\n"


def test_a_socket_that_nobody_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not use the socket is told who may (root may always, so the refusal is made up)."""

    def refuse(_socket: socket.socket, _path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    ran = run_c2c("apps", C2C_DATA_DIR=str(tmp_path))

    assert ran.err == (
        f"No permission to use {tmp_path}/admin.sock: only the user who runs the server has it\n"
    )


def test_a_path_that_is_no_socket(tmp_path: Path) -> None:
    """A path too long for a socket is named, with what the system says."""
    ran = run_c2c("apps", C2C_DATA_DIR=str(tmp_path / ("d" * 120)))

    assert ran.err.startswith(f"Cannot connect to {tmp_path}/ddd")
    assert "AF_UNIX path too long" in ran.err


def test_the_data_directory_is_found_before_and_after_the_command(
    world: world.ControlPlane, tmp_path: Path
) -> None:
    """What stands after the command wins over what stands before it, and that over a variable.

    Of a file nothing else counts, also where it has what `serve` and `check` refuse.
    """
    directory = str(world.socket.parent)
    config = tmp_path / "c2c.toml"
    config.write_text(f'data_dir = "{directory}"\nlog_level = "loud"\nof_a_newer_release = 1\n')

    assert run_c2c("--data-dir", directory, "apps", C2C_DATA_DIR="/nowhere").code == 0
    assert run_c2c("apps", "--data-dir", directory, C2C_DATA_DIR="/nowhere").code == 0
    assert run_c2c("--data-dir", "/nowhere", "apps", "--data-dir", directory).code == 0
    assert run_c2c("apps", "--config", str(config)).code == 0
    assert run_c2c("apps", C2C_CONFIG=str(config)).code == 0
    assert "Unknown setting 'of_a_newer_release'" in run_c2c("check", C2C_CONFIG=str(config)).err
    assert run_c2c("--data-dir", "/nowhere", "apps", C2C_DATA_DIR=directory).code == 1


def test_a_typed_data_directory_wins_over_the_variable_of_another_server(
    world: world.ControlPlane, tmp_path: Path
) -> None:
    """Whoever types which server is meant talks to that one; to type two is a mistake."""
    directory = str(world.socket.parent)
    config = tmp_path / "c2c.toml"
    config.write_text(f'data_dir = "{directory}"\n')
    elsewhere = {"C2C_SERVER": "127.0.0.1:1"}

    assert "--server needs" in run_c2c("apps", C2C_DATA_DIR=directory, **elsewhere).err
    for typed in (("--data-dir", directory), ("--config", str(config))):
        assert run_c2c(*typed, "apps", **elsewhere).code == 0
        assert run_c2c("apps", *typed, **elsewhere).code == 0
        assert run_c2c(*typed, "apps", "--server", "127.0.0.1:1").err.startswith(
            f"Incorrect Usage: {typed[0]} and --server cannot be used together"
        )


@pytest.mark.parametrize("flag", ["--cert", "--key", "--ca"])
def test_credentials_are_for_a_server_at_an_address(world: world.ControlPlane, flag: str) -> None:
    """Whoever forgets the address did not mean the server on this machine."""
    directory = str(world.socket.parent)
    rule = f"Incorrect Usage: {flag} needs --server (C2C_SERVER) as well"

    for environ in ({"C2C_DATA_DIR": directory}, {"C2C_CERT": "x", "C2C_DATA_DIR": directory}):
        assert run_c2c("apps", **environ).code == 0
        assert run_c2c(flag, "x", "apps", **environ).err.startswith(rule)
    elsewhere = {"C2C_SERVER": "127.0.0.1:1"}
    ran = run_c2c("apps", "--data-dir", directory, flag, "x", **elsewhere)
    assert ran.err.startswith(rule)


def test_a_command_that_the_server_names_goes_to_the_same_server(
    world: world.ControlPlane,
) -> None:
    """As those do that are named here: what was typed is said again, and no variable is."""
    directory = str(world.socket.parent)
    typed = run_c2c("app", "nope", "--data-dir", directory, C2C_DATA_DIR="/nowhere").err
    by_variable = run_c2c("app", "nope", C2C_DATA_DIR=directory).err

    assert typed.endswith(f": 'c2c apps --all --data-dir {directory}' lists every app\n")
    assert by_variable.endswith(": 'c2c apps --all' lists every app\n")


def test_the_target_is_found_before_and_after_the_command(c2c: Run) -> None:
    """Org and space, likewise."""
    c2c("create-app", "app-b", C2C_ORG="o1", C2C_SPACE="s1")

    assert c2c("app", "app-b", "-o", "o1", "-s", "s1", C2C_SPACE="other").code == 0
    assert c2c("--org", "o1", "--space", "s1", "app", "app-b").code == 0
    assert c2c("app", "app-b").code == 1
    assert "in org o1 / space s1...\n" in c2c("apps", C2C_ORG="o1", C2C_SPACE="s1").out


def test_who_means_the_output_by_o_is_told(c2c: Run) -> None:
    """It is the org, as in ``cf``, and one may be called that; so nothing is refused."""
    meant, org = c2c("apps", "-o", "json"), c2c("apps", "-o", "o1")

    assert meant.err == "-o is the org, as in cf, and not the output: '--output json' prints JSON\n"
    assert (meant.code, org.code, org.err) == (0, 0, "")
    assert meant.out == org.out.replace("org o1", "org json")
    assert c2c("apps", C2C_ORG="json").err == ""


@pytest.mark.parametrize("command", ["trust-bundle", "events"])
def test_a_server_that_hangs_up(tmp_path: Path, command: str) -> None:
    """A socket behind which no control plane is leads to a sentence, not to a stack of gRPC."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "admin.sock"))
        listener.listen()
        stop = threading.Event()

        def hang_up() -> None:
            listener.settimeout(0.05)
            while not stop.is_set():
                try:
                    listener.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hang_up)
        thread.start()
        ran = run_c2c(command, C2C_DATA_DIR=str(tmp_path))
        stop.set()
        thread.join(20)

    assert ran.code == 1
    assert ran.err.startswith(f"The server at {tmp_path}/admin.sock cannot do this now: ")


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, Path]]:
    """A whole control plane with an operator's port, and a directory with alice's certificate."""
    directory = tmp_path_factory.mktemp("operator")
    settings = Settings(
        data_dir=directory / "data %41#?",
        xds_address=ANY_PORT,
        enroll_address=ANY_PORT,
        http_address=ANY_PORT,
        admin_address=ANY_PORT,
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> ControlPlane:
        return await ControlPlane(settings).__aenter__()

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    issued = run_c2c(
        "issue-operator-cert", "alice", "--dir", str(directory), C2C_DATA_DIR=str(settings.data_dir)
    )
    assert issued.code == 0
    yield running, directory
    stop = running.__aexit__(None, None, None)
    asyncio.run_coroutine_threadsafe(stop, loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


def as_alice(
    operator: tuple[ControlPlane, Path], *words: str, server: str = "", **files: str
) -> Ran:
    """Run a command over mTLS with alice's files, or with others in their place."""
    running, directory = operator
    given = {"cert": "alice.pem", "key": "alice.key", "ca": "alice-ca.pem", **files}
    options = [
        word for name, file in given.items() for word in (f"--{name}", str(directory / file))
    ]
    return run_c2c("--server", server or str(running.ports.admin_address), *options, *words)


def test_an_operator_works_from_another_machine(operator: tuple[ControlPlane, Path]) -> None:
    """With an operator's certificate, everything works as on the socket."""
    assert as_alice(operator, "create-app", "remote").code == 0
    assert "remote" in as_alice(operator, "apps").out


def test_a_data_directory_may_be_called_as_one_likes(
    operator: tuple[ControlPlane, Path],
) -> None:
    """GRPC takes the socket for a URI, in which some of these characters mean something else."""
    data_dir = operator[0].admin_socket.parent
    ran = run_c2c("apps", C2C_DATA_DIR=str(data_dir))

    assert data_dir.name == "data %41#?"
    assert (ran.code, ran.err) == (0, "")


def test_an_operator_may_be_far_away(operator: tuple[ControlPlane, Path]) -> None:
    """Half a second for each round trip is no reason to give up before the connection is made."""

    async def from_far_away() -> Ran:
        server_address = operator[0].ports.admin_address
        assert server_address is not None
        proxy = Proxy(server_address, fault=delay(0.25))
        async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ran = await asyncio.to_thread(as_alice, operator, "apps", server=address)
            await proxy.close()
        return ran

    ran = asyncio.run(from_far_away())

    assert (ran.code, ran.err) == (0, "")


def test_the_operators_key_is_private_and_not_replaced(
    operator: tuple[ControlPlane, Path],
) -> None:
    """Its file is its owner's only; a second run does not overwrite it unless it is told to."""
    running, directory = operator
    data_dir = {"C2C_DATA_DIR": str(running.admin_socket.parent)}
    before = (directory / "alice.key").read_bytes()
    again = ("issue-operator-cert", "alice", "--dir", str(directory))

    assert (directory / "alice.key").stat().st_mode & 0o777 == 0o600
    ran = run_c2c(*again, **data_dir)
    assert ran.code == 1
    assert ran.err == (
        f"{directory}/alice.pem, {directory}/alice.key, {directory}/alice-ca.pem exist: "
        "add -f to replace them\n"
    )
    assert (directory / "alice.key").read_bytes() == before
    (printed,) = run_c2c(
        "issue-operator-cert", "bob", "--dir", str(directory), "--output", "json", **data_dir
    ).json()
    assert printed["name"] == "bob"
    assert Path(printed["key"]).read_text().startswith("-----BEGIN")


def test_operators_are_listed_and_revoked(
    operator: tuple[ControlPlane, Path], tmp_path: Path
) -> None:
    """By name or by serial, with all that they asked for; who is gone is told so."""
    running, _ = operator
    data_dir = {"C2C_DATA_DIR": str(running.admin_socket.parent)}
    issue = ("issue-operator-cert", "--dir", str(tmp_path))
    erins = {name: str(tmp_path / f"erin{end}") for name, end in ENDS.items()}
    assert run_c2c(*issue, "erin", **data_dir).code == 0
    for name in ("frank", "grace"):
        assert as_alice(operator, *issue, name, **erins).code == 0

    known = run_c2c("operator-certs", "--output", "json", **data_dir).json()
    asked = {each["name"]: each["issued_by"] for each in known if each["revoked_at"] is None}
    assert asked.items() >= {("alice", ""), ("erin", ""), ("frank", "erin"), ("grace", "erin")}
    lines = run_c2c("operator-certs", **data_dir).out.splitlines()
    assert lines[:2] == ["Getting operator certificates...", ""]
    assert re.split(" {3,}", lines[2]) == TITLES
    serials = {each["name"]: each["serial"] for each in known}
    (shown,) = (line for line in lines[3:] if line.startswith("frank "))
    assert re.split(" {3,}", shown)[2:] == ["erin", "in 29d", "no", serials["frank"]]

    revoke = ("revoke-operator-cert", "--serial", serials["grace"], "--output", "json")
    (revoked,) = run_c2c(*revoke, **data_dir).json()
    assert (revoked["name"], revoked["serial"]) == ("grace", serials["grace"])
    lines = run_c2c("revoke-operator-cert", "erin", **data_dir).out.splitlines()
    assert lines[:3] == ["Revoking operator certificates of erin...", "OK", ""]
    assert [line.split()[0] for line in lines[3:]] == ["name", "erin", "frank"]
    again = run_c2c("revoke-operator-cert", "erin", **data_dir)
    assert again.out.endswith("\nNo such certificate was valid: see 'c2c operator-certs'.\nOK\n")
    assert as_alice(operator, "apps", **erins).err == (
        "Client certificate was revoked: connect with another one\n"
    )
    assert as_alice(operator, "apps").code == 0


def test_revoked_operators_for_programs(
    operator: tuple[ControlPlane, Path], tmp_path: Path
) -> None:
    """They read an object for each; if there was none, one with what was asked for."""
    running, _ = operator
    data_dir = {"C2C_DATA_DIR": str(running.admin_socket.parent)}
    assert run_c2c("issue-operator-cert", "ivan", "--dir", str(tmp_path), **data_dir).code == 0
    known = run_c2c("operator-certs", "--output", "json", **data_dir).json()
    (ivan,) = (each for each in known if each["name"] == "ivan")

    (revoked,) = run_c2c("revoke-operator-cert", "ivan", "--output", "json", **data_dir).json()
    assert revoked["revoked_at"]
    assert revoked.pop("revision") > 0
    assert revoked == {**ivan, "revoked_at": revoked["revoked_at"], "already": False}
    for name, serial in (("ivan", ""), ("", ivan["serial"])):
        words = ("revoke-operator-cert", *([name] if name else ["--serial", serial]))
        (found,) = run_c2c(*words, "--output", "json", **data_dir).json()
        assert found.keys() == {*ivan, "already", "revision"}
        assert found["already"] is True
        assert (found["name"], found["serial"], found["revoked_at"]) == (name, serial, None)


def test_who_can_be_revoked_is_completed(
    operator: tuple[ControlPlane, Path], tmp_path: Path
) -> None:
    """Each name once; who is revoked already, and what has no name, is not offered."""
    data_dir = {"C2C_DATA_DIR": str(operator[0].admin_socket.parent)}
    for name in ("heidi", "heidi", "henry"):
        issued = run_c2c("issue-operator-cert", name, "--dir", mkdtemp(dir=tmp_path), **data_dir)
        assert issued.code == 0
    assert run_c2c("revoke-operator-cert", "henry", **data_dir).code == 0
    assert run_c2c("revoke-operator-cert", "--serial", "1", **data_dir).code == 0

    words = {"COMP_WORDS": "c2c revoke-operator-cert h", "COMP_CWORD": "2"}
    ran = run_c2c(_C2C_COMPLETE="bash_complete", **words, **data_dir)
    assert (ran.code, ran.out.split(), ran.err) == (0, ["plain,heidi"], "")


def test_a_serial_that_nobody_knows_is_revoked_with_a_warning(
    operator: tuple[ControlPlane, Path],
) -> None:
    """It may have been mistyped, or have been issued after the backup that was restored."""
    data_dir = {"C2C_DATA_DIR": str(operator[0].admin_socket.parent)}
    ran = run_c2c("revoke-operator-cert", "--serial", "0a:ff", **data_dir)

    assert ran.code == 0
    assert ran.err == (
        "The control plane knows no certificate with this serial, and will refuse it if somebody "
        "shows one\n"
    )
    assert ran.out.splitlines()[-1].split() == ["-", "-", "-", "in", "3649d", "0s", "ago", "aff"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "either NAME or --serial is needed"),
        (("alice", "--serial", "1"), "NAME and --serial cannot be used together"),
    ],
    ids=["neither", "both"],
)
def test_a_name_or_a_serial_is_revoked(words: tuple[str, ...], sentence: str) -> None:
    """What is ambiguous is refused before any server is asked."""
    ran = run_c2c("revoke-operator-cert", *words)

    assert ran.code == 1
    assert ran.err.startswith(f"Incorrect Usage: {sentence}\n")


def test_an_operators_file_that_is_a_link_leads_nowhere(
    operator: tuple[ControlPlane, Path], tmp_path: Path
) -> None:
    """A link is a file that exists, and what it leads to is not what is replaced."""
    data_dir = {"C2C_DATA_DIR": str(operator[0].admin_socket.parent)}
    kept, nothing = tmp_path / "kept", tmp_path / "nothing"
    kept.write_text("of somebody else")
    (tmp_path / "dave.pem").symlink_to(kept)
    (tmp_path / "dave-ca.pem").symlink_to(nothing)
    command = ("issue-operator-cert", "dave", "--dir", str(tmp_path))

    ran = run_c2c(*command, **data_dir)
    assert ran.err == (
        f"{tmp_path}/dave.pem, {tmp_path}/dave-ca.pem exist: add -f to replace them\n"
    )
    assert run_c2c(*command, "-f", **data_dir).code == 0
    assert (kept.read_text(), nothing.exists()) == ("of somebody else", False)
    assert (tmp_path / "dave.pem").read_text().startswith("-----BEGIN CERTIFICATE")
    assert (tmp_path / "dave-ca.pem").read_text().startswith("-----BEGIN CERTIFICATE")


def test_key_and_certificate_are_always_of_one_run(
    operator: tuple[ControlPlane, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up while they are replaced leaves those of before, which fit together."""
    data_dir = {"C2C_DATA_DIR": str(operator[0].admin_socket.parent)}
    command = ("issue-operator-cert", "heidi", "--dir", str(tmp_path))
    assert run_c2c(*command, **data_dir).code == 0
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    fsync = os.fsync

    def full(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().name == "heidi.pem.new":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    ran = run_c2c(*command, "-f", **data_dir)

    assert ran.code == 1
    assert ran.err == f"File '{tmp_path}/heidi.pem' was not written: No space left on device\n"
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_the_operators_files_can_be_put_below_the_home(
    operator: tuple[ControlPlane, Path], tmp_path: Path
) -> None:
    """A shell leaves the ~ of ``--dir=~/keys`` to the program, which makes no directory ``~``."""
    (printed,) = run_c2c(
        *("issue-operator-cert", "carol", "--dir=~/keys", "--output", "json"),
        C2C_DATA_DIR=str(operator[0].admin_socket.parent),
        HOME=str(tmp_path),
    ).json()

    assert printed["key"] == str(tmp_path / "keys" / "carol.key")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("of/../it",), "Incorrect Usage: NAME must not have a '/', it names files: 'of/../it'"),
        (("no name",), "Operator name "),
        (("x", "--server", "127.0.0.1:1"), "Incorrect Usage: --server needs --cert and"),
        (("x", "--data-dir", "/nowhere"), "No server answers at /nowhere/admin.sock: "),
    ],
    ids=["of files", "name", "option", "server"],
)
def test_what_is_refused_leaves_no_directory(
    operator: tuple[ControlPlane, Path], tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    """Bad input changes nothing: only directories that were there before are there after it."""
    (tmp_path / "kept").mkdir()
    for directory in (tmp_path / "new" / "one", tmp_path / "kept", tmp_path / "kept" / "one"):
        ran = run_c2c(
            *("issue-operator-cert", *words, "--dir", str(directory)),
            C2C_DATA_DIR=str(operator[0].admin_socket.parent),
        )
        assert ran.code == 1
        assert ran.err.startswith(sentence)

    assert [*tmp_path.rglob("*")] == [tmp_path / "kept"]


def test_what_is_wrong_with_a_remote_server_is_told(operator: tuple[ControlPlane, Path]) -> None:
    """Nobody there, an unknown name, another CA, no PEM, a missing file: each its own sentence."""
    _, directory = operator
    (directory / "noise.pem").write_text("noise")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    for ran, sentence in (
        (
            as_alice(operator, "apps", server=nobody),
            f"No server answers at {nobody}: Connection refused: start one with 'c2c serve ",
        ),
        (
            as_alice(operator, "apps", server="host.invalid:1"),
            "Host name not found: host.invalid: ",
        ),
        (
            as_alice(operator, "apps", ca="noise.pem"),
            f"No certificates in PEM in {directory}/noise",
        ),
        (as_alice(operator, "apps", ca="nowhere.pem"), f"Cannot read {directory}/nowhere.pem: No"),
        (
            as_alice(operator, "apps", cert="noise.pem"),
            f"Files {directory}/noise.pem and {directory}/alice.key are no certificate and its key",
        ),
        (as_alice(operator, "apps", cert="gone.pem"), f"Cannot read {directory}/gone.pem: No"),
        (
            as_alice(operator, "apps", key="gone.key"),
            f"File '{directory}/gone.key' cannot be used: No such file",
        ),
    ):
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert ran.err.startswith(sentence)
    for server, advice in (
        (nobody, "'c2c serve --admin-address' there, or set --server (C2C_SERVER)"),
        ("host.invalid:1", "set --server (C2C_SERVER) to the --admin-address of 'c2c serve'"),
    ):
        assert as_alice(operator, "apps", server=server).err.endswith(f"{advice}\n")


def test_a_final_dot_is_no_part_of_the_name_that_a_server_proves(
    operator: tuple[ControlPlane, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It only tells a resolver that the name is complete; certificates have none."""
    running, directory = operator
    files = Credentials(*(directory / each for each in ("alice.pem", "alice.key", "alice-ca.pem")))
    there = running.ports.admin_address
    assert there is not None
    place = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (there.host, there.port))
    asked = []

    def find(host: str, *_: object, **__: object) -> list[object]:
        asked.append(host)
        return [place]

    monkeypatch.setattr(socket, "getaddrinfo", find)

    try_tls(SocketAddress(f"{SERVER_NAME}.", there.port), files)

    assert asked == [f"{SERVER_NAME}."]


def test_a_server_that_may_come_back_is_told_apart(operator: tuple[ControlPlane, Path]) -> None:
    """Who waits for one tries again where its name is gone, or what stands before it hangs up."""
    _, directory = operator
    files = Credentials(*(directory / each for each in ("alice.pem", "alice.key", "alice-ca.pem")))
    with closing(socket.create_server(("127.0.0.1", 0))) as front:

        def hang_up() -> None:
            with closing(front.accept()[0]) as connection:
                connection.recv(1 << 16)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(Away, match=r"it is away, or that is no operator's port \(see --admin"):
            try_tls(SocketAddress("127.0.0.1", front.getsockname()[1]), files)
        thread.join(20)
    with pytest.raises(Away, match="host name not found"):
        try_tls(SocketAddress("host.invalid", 1), files)


def test_a_server_that_says_nothing_is_waited_for_so_long(
    operator: tuple[ControlPlane, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been stopped for a while; until it goes on nobody waits for ever."""
    _, directory = operator
    files = Credentials(*(directory / each for each in ("alice.pem", "alice.key", "alice-ca.pem")))
    monkeypatch.setattr(reach, "SECONDS", 0.1)
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as silent,
        pytest.raises(Away, match=r"says nothing for 0\.1s: it hangs, somebody has stopped it"),
    ):
        try_tls(SocketAddress("127.0.0.1", silent.getsockname()[1]), files)


def test_nobody_who_answers_is_waited_for_so_long(
    operator: tuple[ControlPlane, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be behind a firewall that is opened later; until then nobody waits for ever."""
    _, directory = operator
    files = Credentials(*(directory / each for each in ("alice.pem", "alice.key", "alice-ca.pem")))
    monkeypatch.setattr(reach, "SECONDS", 0.1)
    # No more fit into the queue of this one, so the kernel answers nothing at all.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as waiting:
        waiting.connect(full.getsockname())
        with pytest.raises(Away, match=r"within 0\.1s: a firewall is on the way"):
            try_tls(SocketAddress("127.0.0.1", full.getsockname()[1]), files)


def test_a_port_without_tls_is_told_apart(operator: tuple[ControlPlane, Path]) -> None:
    """Nobody waits for that to become another one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as web:

        def answer() -> None:
            with closing(web.accept()[0]) as connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{web.getsockname()[1]}"
        ran = as_alice(operator, "apps", server=address)
        thread.join(20)

    assert ran.err.startswith(f"No TLS with the server at {address}: ")
    assert ran.err.endswith(": that is no operator's port (see --admin-address)\n")


def test_an_operators_key_that_others_may_read_is_not_used(
    operator: tuple[ControlPlane, Path],
) -> None:
    """Whoever has it can do all that the operator can; the command that mends it is said."""
    _, directory = operator
    copy = directory / "copy.key"
    copy.write_bytes((directory / "alice.key").read_bytes())
    copy.chmod(0o644)

    assert as_alice(operator, "apps", key="copy.key").err == (
        f"File '{copy}' cannot be used: it has mode 0644, not 0600 or 0400: run chmod 600 {copy}\n"
    )
    copy.chmod(0o600)
    assert as_alice(operator, "apps", key="copy.key").code == 0


def test_another_ca_is_found_out_by_either_side(operator: tuple[ControlPlane, Path]) -> None:
    """A server of another CA is not trusted, and a certificate of another CA is not taken."""
    running, directory = operator
    now = datetime.now(UTC)
    other = create_authority(
        "other CA", now=now, lifetime=timedelta(days=1), key=new_key_pair(), serial=1
    )
    write_pair(directory / "mallory", other, OperatorRequest(DEFAULT_TRUST_DOMAIN, "mallory"))
    (directory / "other-ca.pem").write_bytes(other.trust_bundle_pem)
    address = running.ports.admin_address

    untrusted = as_alice(operator, "apps", ca="other-ca.pem")
    assert untrusted.err.startswith(f"The server at {address} cannot be trusted: ")
    assert untrusted.err.endswith(
        f"{directory}/other-ca.pem has to be its CA (c2c trust-bundle prints it)\n"
    )
    ran = as_alice(operator, "apps", cert="mallory.pem", key="mallory.key")
    assert ran.err == (
        f"The server at {address} does not take {directory}/mallory.pem: it has to be a valid "
        "operator's certificate of the server's CA (c2c issue-operator-cert makes one)\n"
    )


def test_an_alert_that_refuses_a_certificate_is_understood(
    operator: tuple[ControlPlane, Path],
) -> None:
    """In TLS 1.3 it comes after the client's handshake, where others just hang up."""
    _, directory = operator
    now = datetime.now(UTC)
    by = create_authority("CA", now=now, lifetime=timedelta(days=1), key=new_key_pair(), serial=1)
    (directory / "by.pem").write_bytes(by.trust_bundle_pem)
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, (SERVER_NAME,), ("127.0.0.1",))
    leaf = issue(by, Profile(), request, key=new_key_pair, now=now, serial=2)
    (directory / "pair.pem").write_bytes((leaf.private_key_pem or b"") + leaf.certificate_chain_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=directory / "by.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(directory / "pair.pem")
    with closing(socket.create_server(("127.0.0.1", 0))) as front:

        def refuse() -> None:
            with closing(front.accept()[0]) as connection, suppress(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=refuse)
        thread.start()
        server = f"127.0.0.1:{front.getsockname()[1]}"
        ran = as_alice(operator, "apps", server=server, ca="by.pem")
        thread.join(20)

    assert ran.err.startswith(f"The server at {server} does not take {directory}/alice.pem: ")


@pytest.mark.parametrize(
    ("days", "what"), [(-3, "certificate has expired"), (3, "certificate is not yet valid")]
)
def test_clocks_that_disagree_are_said_to(
    operator: tuple[ControlPlane, Path], days: int, what: str
) -> None:
    """The CA is right, so what to look at is what the clock of either machine says."""
    _, directory = operator
    now = datetime.now(UTC) + timedelta(days=days)
    start, lifetime = now - timedelta(days=9), timedelta(days=18)
    by = create_authority("CA", now=start, lifetime=lifetime, key=new_key_pair(), serial=1)
    (directory / "by.pem").write_bytes(by.trust_bundle_pem)
    request = ServerRequest(DEFAULT_TRUST_DOMAIN, (), ("127.0.0.1",))
    leaf = issue(by, Profile(), request, key=new_key_pair, now=now, serial=2)
    (directory / "pair.pem").write_bytes((leaf.private_key_pem or b"") + leaf.certificate_chain_pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "pair.pem")
    with closing(socket.create_server(("127.0.0.1", 0))) as front:

        def shake_hands() -> None:
            with closing(front.accept()[0]) as connection, suppress(ssl.SSLError):
                context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=shake_hands)
        thread.start()
        server = f"127.0.0.1:{front.getsockname()[1]}"
        ran = as_alice(operator, "apps", server=server, ca="by.pem")
        thread.join(20)

    assert re.fullmatch(
        rf"The server at {server} cannot be trusted: {what}, and the clock of this machine says "
        r"\S+Z: set the clock here, or there, if one is wrong; else "
        rf"{directory}/by\.pem is too old \(c2c trust-bundle prints it\)\n",
        ran.err,
    )


@pytest.mark.parametrize("host", ["::ffff:127.0.0.1", "c2c.example"])
def test_a_name_that_the_server_has_no_certificate_for_is_named(
    operator: tuple[ControlPlane, Path], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CA is the right one, so what helps is another name, here or there."""
    running, _ = operator
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *more: look_up("127.0.0.1", *more))
    assert running.ports.admin_address is not None
    address = SocketAddress(host, running.ports.admin_address.port)

    assert as_alice(operator, "apps", server=str(address)).err == (
        f"The server at {address} has no certificate for {address.host}: use a name that 'c2c "
        "serve' has as --server-name, or add this one there\n"
    )


@pytest.mark.parametrize("looks_first", [True, False])
def test_an_app_at_the_servers_address_is_no_server(
    operator: tuple[ControlPlane, Path], monkeypatch: pytest.MonkeyPatch, *, looks_first: bool
) -> None:
    """Its certificate is of the same CA and names the address, so that alone is no proof."""
    running, directory = operator
    identity = {"instance_guid": "i-1", "app_guid": "guid-b", "org": "o", "space": "s"}
    request = C2CRequest(**identity, hostnames=("localhost.example",), index=0, address="127.0.0.1")
    write_pair(directory / "app", running.core.authority, request)
    pair = [(directory / name).read_bytes() for name in ("app.key", "app.pem")]
    credentials = grpc.ssl_server_credentials([(pair[0], pair[1])])
    asked: list[object] = []

    def invent(_: bytes, context: grpc.ServicerContext) -> bytes:
        asked.append(context)
        return ListAppsResponse(apps=[App(name="invented")]).SerializeToString()

    if not looks_first:
        monkeypatch.setattr(client, "try_tls", lambda *_: None)
    with futures.ThreadPoolExecutor() as threads:
        server = grpc.server(threads)
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]]
        handlers = {"ListApps": grpc.unary_unary_rpc_method_handler(invent)}
        service = grpc.method_handlers_generic_handler("c2c.v1.AppService", handlers)
        server.add_generic_rpc_handlers([service])
        address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
        server.start()
        ran = as_alice(operator, "apps", server=address)
        server.stop(None).wait()

    assert (ran.code, asked) == (1, [])
    assert "invented" not in ran.out
    if looks_first:
        assert ran.err == (
            f"The server at {address} cannot be trusted: the right CA signed its certificate, but "
            "it is not that of a control plane, and may be that of an app\n"
        )


def test_another_port_of_the_server_is_told_apart(operator: tuple[ControlPlane, Path]) -> None:
    """It has the right certificate, and knows none of the commands."""
    running, _ = operator
    xds = running.xds_address

    assert as_alice(operator, "apps", server=str(xds)).err == (
        f"The server at {xds} does not know this command: that is no operator's port (see "
        "--admin-address), or the server is older\n"
    )


def test_an_instance_is_no_operator(operator: tuple[ControlPlane, Path]) -> None:
    """A certificate of the right CA for another purpose is refused with the server's sentence."""
    running, directory = operator
    request = IdentityRequest(
        trust_domain=DEFAULT_TRUST_DOMAIN,
        instance_guid="i-1",
        app_guid="guid-b",
        org="default",
        space="default",
        address="127.0.0.1",
    )
    write_pair(directory / "instance", running.core.authority, request)

    assert as_alice(operator, "apps", cert="instance.pem", key="instance.key") == Ran(
        1,
        "Getting apps in org default / space default...\nFAILED\n",
        "Only an operator may do this, with an operator's certificate\n",
    )


def write_pair(path: Path, authority: Authority, request: Request) -> None:
    """Issue a certificate, and write it and its key as ``issue-operator-cert`` does."""
    leaf = issue(
        authority, Profile(), request, key=new_key_pair, now=datetime.now(UTC), serial=2**64
    )
    assert leaf.private_key_pem is not None

    path.with_suffix(".pem").write_bytes(leaf.certificate_chain_pem)
    write_private(path.with_suffix(".key"), leaf.private_key_pem)
