"""The containers of docker-compose.yml, handled as a person handles them.

The rule of this module: everything goes through the commands of Docker and of c2c. A stack has a
project name of its own, so that several can run on one machine, and nothing of it is left after
``down`` but the images.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.needs import lacks

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
ROUTE = "app-b.apps.internal"

COMMAND_SECONDS = 120.0
BUILD_SECONDS = 900.0
DEADLINE = 40.0
"""How long anything may take that has no reason to take long, in seconds."""


def need_engine() -> tuple[str, ...]:
    """Return the command of compose, where a Docker engine answers."""
    if shutil.which("docker") is None or _run("docker", "info").returncode:
        lacks("these tests need a Docker engine: see .ci/docker-engine")
    if not _run("docker", "compose", "version").returncode:
        return "docker", "compose"
    if shutil.which("docker-compose") is None:
        lacks("these tests need Docker's compose: apt-get install docker-compose")
    return ("docker-compose",)


def run(
    *command: str,
    seconds: float = COMMAND_SECONDS,
    check: bool = True,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Return what a command prints.

    Raises:
        AssertionError: it failed; the message is what it wrote.
    """
    done = _run(*command, seconds=seconds, variables=variables)
    if check and done.returncode:
        words = " ".join(command)
        raise AssertionError(f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def until(probe: Callable[[], T], *, what: str, seconds: float = DEADLINE) -> T:
    """Return the first result that is true, asked for again and again.

    Raises:
        AssertionError: nothing true in time; it says ``what`` was awaited.
    """
    deadline = time.monotonic() + seconds
    while not (result := probe()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}; last: {result!r}"
        time.sleep(0.1)
    return result


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a stack, which may run or not."""

    id: str
    name: str
    service: str

    def exec(self, *command: str, check: bool = True) -> str:
        """Return what a command prints inside."""
        return run("docker", "exec", self.id, *command, check=check)

    def python(self, program: str, *arguments: str) -> str:
        """Run one of our client programs inside."""
        return self.exec("python3", "-c", (CLIENTS / program).read_text(), *arguments).strip()

    def envoy(self, path: str) -> str:
        """Return what its Envoy's admin interface answers."""
        return self.python("admin.py", path)

    def stats(self, prefix: str) -> dict[str, int]:
        """Return the counters and gauges of its Envoy whose name starts like that."""
        lines = self.envoy(f"/stats?filter=^{prefix}").splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def inspect(self) -> dict[str, Any]:
        """Return what Docker knows of it."""
        [found] = json.loads(run("docker", "inspect", self.id))
        return dict(found)

    @property
    def address(self) -> str:
        """Where it is reached; "" while it does not run."""
        networks = self.inspect()["NetworkSettings"]["Networks"]
        return "".join(each["IPAddress"] for each in networks.values())

    def set_link(self, state: str) -> None:
        """Take its network ``down`` or ``up``, by a helper in its network namespace."""
        words = ("--rm", "--network", f"container:{self.id}", "--cap-add", "NET_ADMIN")
        program = (CLIENTS / "link.py").read_text()
        image = self.inspect()["Image"]
        entry = ("--user", "0", "--entrypoint", "python3", image, "-c", program)
        run("docker", "run", *words, *entry, state)


@dataclass(frozen=True, slots=True)
class Stack:
    """All containers of one project.

    Attributes:
        project: its name, which nobody else uses.
        command: how compose is called.
        files: what describes it.
    """

    project: str
    command: tuple[str, ...]
    files: tuple[Path, ...] = (ROOT / "docker-compose.yml", Path(__file__).parent / "images.yml")

    def compose(
        self,
        *words: str,
        seconds: float = COMMAND_SECONDS,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command of compose, with variables that the files may use."""
        files = [word for file in self.files for word in ("-f", str(file))]
        command = (*self.command, *files, "-p", self.project, *words)
        return run(*command, seconds=seconds, variables=variables)

    def build(self) -> None:
        """Build the images from the tree as it is."""
        self.compose("build", seconds=BUILD_SECONDS)

    def up(self, *words: str) -> None:
        """Start what does not run, and wait until app-a can call app-b."""
        self.compose("up", "--detach", *words)

    def down(self) -> None:
        """Stop and remove all of it, data too."""
        self.compose("down", "--volumes", "--remove-orphans")

    def containers(self, service: str = "") -> list[Container]:
        """Return the containers of a service, or of all of them, in the order of their numbers."""
        label = f"label=com.docker.compose.project={self.project}"
        form = '{{.ID}} {{.Names}} {{.Label "com.docker.compose.service"}}'
        lines = run("docker", "ps", "--all", "--filter", label, "--format", form).splitlines()
        found = sorted((Container(*line.split()) for line in lines), key=lambda each: each.name)
        return [each for each in found if service in {"", each.service}]

    def container(self, service: str) -> Container:
        """Return the only container of a service."""
        [found] = self.containers(service)
        return found

    def c2c(self, *words: str) -> str:
        """Run a command of c2c next to the control plane."""
        return self.container("control-plane").exec("c2c", *words)

    def c2c_json(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects that a command of c2c prints."""
        return list(json.loads(self.c2c(*words, "--output", "json")))

    def instances(self) -> dict[str, str]:
        """Return the GUIDs of all connected instances by their addresses, if anybody answers."""
        command = ("c2c", "instances", "--output", "json")
        answer = self.container("control-plane").exec(*command, check=False)
        found = json.loads(answer or "[]")
        return {each["address"]: each["guid"] for each in found if each["connected"]}

    def identities(self) -> set[str]:
        """Return the GUIDs of all connected instances; Docker may give out addresses anew."""
        return set(self.instances().values())

    def resolve(self, host: str) -> set[str]:
        """Return the addresses of a name, as app-a's libc finds them."""
        lines = self.container("app-a").exec("getent", "ahostsv4", host, check=False).splitlines()
        return {line.split()[0] for line in lines}

    def until_answered(self) -> None:
        """Return once the control plane answers its operators."""

        def probe() -> bool:
            state = self.container("control-plane").inspect()["State"]
            return bool(state["Health"]["Status"] == "healthy")

        until(probe, what="the control plane answers")

    def until_resolved(self, host: str, addresses: Sequence[str]) -> None:
        """Return once app-a finds exactly these addresses."""
        wanted = set(addresses)
        until(lambda: self.resolve(host) == wanted, what=f"{host} is at {sorted(wanted)} only")

    def until_ready(self, replicas: int = 2) -> None:
        """Return once app-a finds so many replicas of app-b, and all are connected."""

        def probe() -> bool:
            connected = self.instances()
            found = self.resolve(ROUTE)
            return len(found) == replicas and found <= connected.keys()

        until(probe, what=f"{replicas} replicas of app-b are ready")

    def until_reached(self) -> None:
        """Return once nothing is missing between app-a and app-b, as operators are told it."""
        command = ("c2c", "why", "app-a", "app-b", "--output", "json")

        def probe() -> bool:
            answer = self.container("control-plane").exec(*command, check=False)
            chains = json.loads(answer or "[]")
            return bool(chains) and all(each["complete"] for each in chains)

        until(probe, what="app-a reaches app-b")

    def keep_evidence(self, directory: Path) -> None:
        """Write logs, state and Envoy's statistics of every container to files."""
        directory.mkdir(parents=True, exist_ok=True)
        for each in self.containers():
            done = _run("docker", "logs", "--timestamps", each.id)
            (directory / f"{each.name}.log").write_text(done.stdout + done.stderr)
            state = json.dumps(each.inspect()["State"], indent=2)
            (directory / f"{each.name}.state.json").write_text(state)
            if each.service in {"app-a-sidecar", "app-b"}:
                program = (CLIENTS / "admin.py").read_text()
                for page in ("stats", "certs", "listeners"):
                    asked = ("docker", "exec", each.id, "python3", "-c", program, f"/{page}")
                    done = _run(*asked)
                    (directory / f"{each.name}.{page}").write_text(done.stdout + done.stderr)


def _run(
    *command: str,
    seconds: float = COMMAND_SECONDS,
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
        # Operators of several stacks on one machine would want the same port.
        env={**os.environ, "ADMIN_PORT": "0", **(variables or {})},
        cwd=ROOT,
    )
