"""The commands that need no server: serve, check, version; and bootstrap, which needs an Envoy."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control_plane.ca import create_authority, new_key_pair
from control_plane.cli.main import GRPC_VARIABLES
from control_plane.names import shown
from control_plane.settings.own_authority import ROTATION_FILE
from control_plane.settings.retired import RETIRED_FILE
from control_plane.store.files import write_private
from tests.api.world import ControlPlane
from tests.envoy.harness import envoy_binary
from tests.full_disk import need_full_disk, on_a_full_disk
from tests.hangup import hangup
from tests.installed import C2C, C2C_WORD
from tests.needs import lacks, need_command
from tests.unit.ca.forge import ca_pem, lax_ca_files
from tests.unit.cli.running import Ran, Run, run_c2c

DEADLINE = 60.0
"""Seconds after which a server does not start, answer or end any more, also on a busy machine."""


def test_serve_reports_every_problem_and_does_not_start(tmp_path: Path) -> None:
    """Problems of flags, variables and the file, one a line; the data directory is not touched."""
    config = tmp_path / "c2c.toml"
    config.write_text('log_level = "loud"\n')
    ran = run_c2c(
        "serve",
        "--config",
        str(config),
        "--drain-time",
        "soon",
        C2C_DATA_DIR=str(tmp_path / "data"),
        C2C_XDS_ADDRESS="nowhere",
    )

    assert ran == Ran(
        1,
        "",
        "C2C_XDS_ADDRESS: must be HOST:PORT, an IPv6 address in brackets, as in [::1]:18000: "
        "'nowhere'\n"
        f"log_level in {config}: must be one of debug, info, warning, error: 'loud'\n"
        "--drain-time: must be a number and a unit (ms, s, m, h, d), as in 10m or 24h: 'soon'\n",
    )
    assert not (tmp_path / "data").exists()


def test_an_empty_data_directory_is_none(tmp_path: Path) -> None:
    """An option that a variable of the shell left empty does not mean another directory."""
    ran = run_c2c("check", "--data-dir", "", C2C_DATA_DIR=str(tmp_path))

    assert ran.code == 1
    assert ran.err == "--data-dir: must be a text that is not empty: ''\n"


def test_check_shows_each_setting_and_where_it_comes_from(tmp_path: Path) -> None:
    """An operator sees what would count, before it counts; nothing is made."""
    words = ("check", "--internal-domain", "a.internal", "--internal-domain", "b.internal")
    ran = run_c2c(*words, C2C_DATA_DIR=str(tmp_path / "data"), C2C_DRAIN_TIME="1m30s")
    rows = {line.split("   ")[0]: line.split()[1:] for line in ran.out.splitlines()[3:-2]}

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Checking settings...\n\nsetting  ")
    assert ran.out.endswith("\n\nOK\n")
    assert rows["internal_domains"] == ["a.internal,b.internal", "--internal-domain"]
    assert rows["drain_time"] == ["1m30s", "C2C_DRAIN_TIME"]
    assert rows["data_dir"] == [str(tmp_path / "data"), "C2C_DATA_DIR"]
    assert rows["xds_address"] == ["127.0.0.1:18000", "default"]
    assert rows["unproxied_port_mappings"] == ["false", "default"]
    assert not (tmp_path / "data").exists()


def test_check_says_what_is_hardly_meant(tmp_path: Path) -> None:
    """It is beside the answer, on standard error, and no failure; the server logs the same."""
    words = ("check", "--enroll-address", "0.0.0.0:18101")
    ran = run_c2c(*words, "--output", "json", C2C_DATA_DIR=str(tmp_path))

    assert ran.code == 0
    assert len(json.loads(ran.out)) > 10
    assert ran.err == (
        "enroll_address: nobody can connect to 0.0.0.0:18101: set --server-name to where "
        "sidecars reach this server, so that join-token can tell them\n"
    )
    assert run_c2c(*words, "--server-name", "c2c.example", C2C_DATA_DIR=str(tmp_path)).err == ""


def test_a_variable_that_is_misspelt_is_told(tmp_path: Path) -> None:
    """It would be passed over in silence; what looks like none of ours is somebody else's."""
    kubernetes = {"C2C_SERVICE_HOST": "10.0.0.1", "C2C_SERVICE_PORT": "18000", "C2C_PORT": "tcp:"}
    theirs = {"C2C_SIDECAR_SERVER": "10.0.0.1:18001", "C2C_ORG": "a", **kubernetes}
    home = {"C2C_DATA_DIR": str(tmp_path)}
    assert run_c2c("check", **home, **theirs).err == ""

    ran = run_c2c("check", **home, **theirs, C2C_XDS_ADRESS="0.0.0.0:1", C2C_SERVER_NAME="x")

    assert (ran.code, ran.err.splitlines()) == (
        0,
        [
            f"{wrong}: nothing reads this variable: did you mean {meant}?"
            for wrong, meant in (
                ("C2C_SERVER_NAME", "C2C_SERVER_NAMES"),
                ("C2C_XDS_ADRESS", "C2C_XDS_ADDRESS"),
            )
        ],
    )


def test_check_takes_options_before_the_command_too(tmp_path: Path) -> None:
    """--data-dir and --config are global options, also for the commands that have them."""
    (tmp_path / "c2c.toml").write_text('trust_domain = "file.internal"\n')
    words = ("--data-dir", "/before", "--config", str(tmp_path / "c2c.toml"), "check")
    printed = {each["setting"]: each for each in run_c2c(*words, "--output", "json").json()}

    assert printed["data_dir"] == {
        "setting": "data_dir",
        "value": "/before",
        "origin": "--data-dir",
    }
    assert printed["trust_domain"]["value"] == "file.internal"
    after = run_c2c(*words, "--data-dir", "/after", "--output", "json").json()
    assert {each["setting"]: each["value"] for each in after}["data_dir"] == "/after"


def test_check_looks_into_an_own_ca(tmp_path: Path) -> None:
    """A key that belongs to another certificate is found out before the server would start."""
    made = [
        create_authority(
            name, now=datetime.now(UTC), lifetime=timedelta(days=1), key=new_key_pair(), serial=1
        )
        for name in ("one", "other")
    ]
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    certificate.write_bytes(ca_pem(made[0]))
    words = ("check", "--ca-cert", str(certificate), "--ca-key", str(key))
    for authority, code in ((made[0], 0), (made[1], 1)):
        key.write_bytes(authority.key.private_pem())
        key.chmod(0o600)
        assert run_c2c(*words, C2C_DATA_DIR=str(tmp_path)).code == code
    assert run_c2c(*words).err.startswith(
        f"Files '{certificate}' and '{key}': CA key does not belong to the CA certificate"
    )
    key.chmod(0o644)
    assert str(key) in run_c2c(*words).err


@pytest.mark.parametrize("word", ["check", "serve"])
def test_what_is_wrong_with_each_file_is_told_at_once(tmp_path: Path, word: str) -> None:
    """A key that others may read keeps nobody from hearing of CAs of routers that are none."""
    key, router = tmp_path / "ca.key", tmp_path / "router.pem"
    for each in (key, router):
        each.write_text("none")
    key.chmod(0o644)
    own = ("--ca-cert", str(key), "--ca-key", str(key))
    routers = ("--router-ca", str(router), "--router-san", "gorouter.service.cf.internal")

    ran = run_c2c(word, *own, *routers, C2C_DATA_DIR=str(tmp_path / "data"))
    assert ran.code == 1
    assert ran.err == (
        f"File '{key}' cannot be used: it has mode 0644, not 0600 or 0400: run chmod 600 {key}\n"
        f"File '{router}': not X.509 certificates in PEM\n"
    )


def test_check_asks_no_more_of_an_own_ca_than_the_server(tmp_path: Path) -> None:
    """One that was retired is not used, so its key may be gone; one that leaves may have ended."""
    now = datetime.now(UTC)
    made = create_authority(
        "own", now=now - timedelta(days=2), lifetime=timedelta(days=1), key=new_key_pair(), serial=1
    )
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    certificate.write_bytes(ca_pem(made))
    write_private(key, made.key.private_pem())
    words = ("check", "--ca-cert", str(certificate), "--ca-key", str(key))
    home = {"C2C_DATA_DIR": str(tmp_path)}
    assert "expired on" in run_c2c(*words, **home).err

    write_private(tmp_path / ROTATION_FILE, b"{}")
    assert (run_c2c(*words, **home).code, run_c2c(*words, **home).err) == (0, "")
    key.unlink()
    assert run_c2c(*words, **home).err == f"ca_key: file not found: {shown(str(key))}\n"

    write_private(tmp_path / RETIRED_FILE, f"{made.fingerprint}\n".encode())
    ran = run_c2c(*words, **home)
    assert ran.code == 0
    assert ran.err == (
        "ca_cert: this CA was retired, so it is not used: remove the settings ca_cert and ca_key, "
        f"or name the files of the CA in '{tmp_path}/ca.pem'\n"
    )


@pytest.mark.parametrize("name", ["check", "serve"])
def test_cas_of_routers_that_envoy_could_not_read_are_refused(tmp_path: Path, name: str) -> None:
    """Each Envoy would refuse them, and no instance be ready; whoever starts or checks is told."""
    routers = tmp_path / "routers.pem"
    routers.write_text("not yet written\n")
    options = ("--data-dir", str(tmp_path / "data"), "--router-ca", str(routers))

    ran = run_c2c(name, *options, "--router-san", "gorouter.service.internal")

    assert ran.code == 1
    assert f"File {str(routers)!r}: not X.509 certificates in PEM\n" in ran.err


def test_a_variable_that_is_not_called_as_its_option_is_told() -> None:
    """Where an option is said once for each value, the help names the variable that has all."""
    text = " ".join(run_c2c("help", "serve").out.split())

    for name in ("SERVER_NAMES", "INTERNAL_DOMAINS", "ROUTER_SANS"):
        assert f" [for several, repeat it; in C2C_{name}, use commas] --" in text


def test_check_says_what_strict_clients_miss(tmp_path: Path) -> None:
    """An own CA that they would refuse is no failure, and told of."""
    certificate, key_file = lax_ca_files(tmp_path, "own")
    ran = run_c2c("check", "--ca-cert", str(certificate), "--ca-key", str(key_file))

    assert ran.code == 0
    assert ran.err == (
        "ca_cert: strict clients, such as Python 3.13, refuse what this CA signs: "
        "CA certificate 'CN=own' has no key usage (RFC 5280, section 4.2.1.3); "
        "CA certificate 'CN=own' has no subject key identifier (RFC 5280, section 4.2.1.2)\n"
    )


def test_version_names_what_matters_for_a_report() -> None:
    """The versions that an issue needs, on one line or as JSON."""
    line = run_c2c("version").out
    (printed,) = run_c2c("version", "--output", "json").json()

    assert line.startswith(f"c2c version {printed['c2c']} (grpc {printed['grpc']}, ")
    assert printed["python"] == ".".join(map(str, sys.version_info[:3]))


def test_bootstrap_prints_what_envoy_accepts(c2c: Run, tmp_path: Path) -> None:
    """The bootstrap of an instance, by GUID or app and index, passes ``envoy --mode validate``."""
    c2c("create-app", "app-b")
    c2c("register-instance", "app-b", "--address", "127.0.1.1", "--guid", "i-1")
    here = tmp_path / "envoy"
    here.mkdir()
    words = ("--xds-server", "127.0.0.1:18000", "--dir", str(here))
    ran = c2c("bootstrap", "app-b/0", *words)

    assert ran.code == 0
    assert ran.err == (
        f"Envoy does not start before {here}/identity.json and {here}/trust.json exist: see "
        "'c2c help bootstrap'\n"
    )
    assert ran == c2c("bootstrap", "i-1", *words)
    assert '"i-1"' in ran.out
    assert "DELTA_GRPC" in ran.out
    assert '"spiffe://c2c.internal/control-plane"' in ran.out
    for name in ("identity.json", "trust.json"):
        (here / name).write_text(json.dumps({"resources": []}))
    assert c2c("bootstrap", "i-1", *words) == Ran(0, ran.out, "")
    (here / "envoy.yaml").write_text(ran.out)
    subprocess.run(
        [envoy_binary(), "--mode", "validate", "-c", here / "envoy.yaml"],
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )


def test_bootstrap_needs_an_address_that_can_be_reached(c2c: Run, world: ControlPlane) -> None:
    """By default it is what the server says of itself, which may be none to connect to."""
    c2c("create-app", "app-b")
    c2c("register-instance", "app-b", "--address", "127.0.1.1")
    ran = c2c("bootstrap", "app-b/0", C2C_XDS_ADDRESS="127.0.0.9:1")

    assert ran.code == 0
    assert '"203.0.113.7"' in ran.out
    assert "18000" in ran.out
    say = "use --xds-server to say where Envoy finds the control plane"
    for text, sentence in (
        ("0.0.0.0:1", f"No Envoy can connect to 0.0.0.0:1, where the server listens: {say}, or "),
        ("[::]:1", f"No Envoy can connect to [::]:1, where the server listens: {say}, or start "),
        ("", f"The server does not tell its xDS port, it may be older: {say}"),
    ):
        world.places.xds = text
        ran = c2c("bootstrap", "app-b/0")
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith(sentence)
        assert c2c("bootstrap", "app-b/0", "--xds-server", "localhost:18000").code == 0


def test_bootstrap_looks_for_an_app_in_the_space(c2c: Run) -> None:
    """Apps of one name in two spaces both have an instance 0; a GUID is good anywhere."""
    for space, address in (("default", "127.0.1.1"), ("other", "127.0.1.2")):
        c2c("create-app", "app-b", "-s", space)
        command = ("register-instance", "app-b", "-s", space, "--address", address)
        c2c(*command, "--guid", f"of-{space}")

    assert '"of-default"' in c2c("bootstrap", "app-b/0").out
    assert '"of-other"' in c2c("bootstrap", "app-b/0", "-s", "other").out
    assert '"of-other"' in c2c("bootstrap", "of-other").out
    assert c2c("bootstrap", "of-nobody").err == (
        "Instance 'of-nobody' not found: 'c2c instances --all' lists them\n"
    )
    assert c2c("bootstrap", "app-b/7", "-s", "other").err == (
        "Instance 'app-b/7' not found: 'c2c instances app-b -s other -o default' lists them\n"
    )


@pytest.mark.parametrize("blocks", [0, 20])
def test_a_start_without_room_is_one_sentence(tmp_path: Path, blocks: int) -> None:
    """Whichever file cannot be written, it is said where and why, and nothing is running."""
    any_port = {f"C2C_{name}_ADDRESS": "127.0.0.1:0" for name in ("XDS", "ENROLL", "HTTP", "ADMIN")}
    data = tmp_path / "data"
    ran = subprocess.run(
        ["sh", "-c", f"ulimit -f {blocks} && exec {C2C_WORD} serve --log-level error"],
        env={**os.environ, **any_port, "C2C_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )

    assert (ran.returncode, ran.stdout) == (1, "")
    (sentence,) = ran.stderr.splitlines()
    assert re.fullmatch(
        rf"(Directory|State database|File) '{data}[^']*' "
        r"(cannot be used|was not written): \S.*",
        sentence,
    )


def test_a_first_start_on_a_disk_that_is_full_says_so(tmp_path: Path) -> None:
    """There is no database yet; who reads it at night learns that room is what is missing."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    (data / "lock").write_text("1\n")
    script = f"exec {C2C_WORD} serve --data-dir {data} --log-level error"
    ran = subprocess.run(
        on_a_full_disk(data, script, size="1m"),
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    need_full_disk(ran.returncode, ran.stderr)

    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"State database '{data}/c2c.db' cannot be used: database or disk is full "
        "(No space left on device): mend that, and start again\n"
    )


def test_the_first_process_of_a_container_ends_before_it_listens_for_signals() -> None:
    """SIGTERM counts from the first moment, though the kernel would keep it from PID 1."""
    unshare = need_command("unshare", "util-linux")
    # It stands for the imports of a server. /proc is that of this test, and so is the number in it.
    code = (
        "import os, signal\n"
        "from control_plane.cli import main as module\n"
        "def importing(**_):\n"
        "    print(os.getpid(), os.readlink('/proc/self'), flush=True)\n"
        "    signal.pause()\n"
        "module.program.main = importing\n"
        "module.main()\n"
    )
    with subprocess.Popen(
        [unshare, "--map-root-user", "--fork", "--pid", "--kill-child", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        inside, _, outside = process.stdout.readline().partition(" ")
        if not inside:
            lacks(f"this test needs process numbers of its own: {process.communicate()[1]}")
        try:
            os.kill(int(outside), signal.SIGTERM)
            code_of_exit = process.wait(DEADLINE)
        finally:
            process.kill()

    assert (inside, code_of_exit) == ("1", 128 + signal.SIGTERM)


@pytest.mark.parametrize("variable", GRPC_VARIABLES)
@pytest.mark.parametrize("said", [None, "debug"])
def test_what_is_said_to_grpc_here_is_not_for_the_app(variable: str, said: str | None) -> None:
    """What a sidecar starts gets no variable that the sidecar did not get."""
    code = (
        "import ctypes, os\n"
        "import control_plane.cli.main as module\n"
        "read = ctypes.CDLL(None).getenv\n"
        "read.restype = ctypes.c_char_p\n"
        "def starting(**_):\n"
        f"    print(os.environ.get('{variable}'), read(b'{variable}').decode())\n"
        "module.program.main = starting\n"
        "module.main()\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != variable}
    if said is not None:
        environ[variable] = said
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == [str(said), said or GRPC_VARIABLES[variable]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """A server in a process of its own, and the environment in which commands find it."""
    any_port = {f"C2C_{name}_ADDRESS": "127.0.0.1:0" for name in ("XDS", "ENROLL", "HTTP", "ADMIN")}
    environ = {**os.environ, **any_port, "C2C_DATA_DIR": str(tmp_path / "data")}
    with hangup(signal.SIG_DFL):
        process = subprocess.Popen([C2C, "serve"], env=environ, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + DEADLINE
    try:
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(str(tmp_path / "data" / "admin.sock"))
                    break
                except OSError:
                    assert process.poll() is None, process.communicate()[1]
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
        yield process, environ
    finally:
        process.kill()
        process.communicate()


def test_a_terminal_that_is_closed_stops_it_cleanly(
    served: tuple[subprocess.Popen[str], dict[str, str]],
) -> None:
    """SIGHUP is what it sends, and streams end in order then too."""
    process, _ = served
    process.send_signal(signal.SIGHUP)
    _, log = process.communicate(timeout=DEADLINE)

    assert process.returncode == 0
    assert "server.stopped" in log


def test_nohup_keeps_it_from_that(tmp_path: Path) -> None:
    """Whoever starts it with SIGHUP ignored means it to outlive the terminal."""
    listening = tmp_path / "d" / "admin.sock"
    any_port = {f"C2C_{name}_ADDRESS": "127.0.0.1:0" for name in ("XDS", "ENROLL", "HTTP")}
    process = subprocess.Popen(
        ["nohup", C2C, "serve", "--data-dir", str(listening.parent), "--log-format", "json"],
        env={**os.environ, **any_port},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        log = iter(process.stderr.readline, "")
        assert any("server.started" in line for line in log)
        # What the kernel does not hand over cannot stop it: see proc_pid_status(5).
        [ignored] = re.findall(
            r"^SigIgn:\t(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE
        )
        assert int(ignored, 16) & 1 << (signal.SIGHUP - 1)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=DEADLINE)[1]
    finally:
        process.kill()
        process.communicate()

    assert process.returncode == 0
    assert rest.count("server.stopping") == 1


def test_serve_is_found_by_its_data_dir_and_stops_cleanly(
    served: tuple[subprocess.Popen[str], dict[str, str]],
) -> None:
    """What `serve` and the other commands share is C2C_DATA_DIR; SIGTERM ends it with 0."""
    process, environ = served

    def run(*words: str) -> str:
        return subprocess.run(
            [C2C, *words], env=environ, check=True, capture_output=True, text=True, timeout=DEADLINE
        ).stdout

    assert run("create-app", "app-b").endswith("OK\n")
    assert [each["name"] for each in json.loads(run("apps", "--output", "json"))] == ["app-b"]
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=DEADLINE)
    told = {each["event"]: each for each in map(json.loads, log.splitlines())}
    assert process.returncode == 0
    assert next(iter(told)) == "ca.created"
    assert "server.stopped" in told
    # Every place where it listens, with the ports that it got.
    for name in ("xds", "enroll", "http", "admin_address"):
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d+", told["server.started"][name])
    assert told["server.started"]["admin"].endswith("/data/admin.sock")
