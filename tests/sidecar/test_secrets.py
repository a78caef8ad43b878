"""Nothing secret where anybody could find it."""

from __future__ import annotations

import re
import resource
import stat
import sys
from contextlib import suppress
from pathlib import Path

from tests.sidecar.process import limited
from tests.sidecar.scene import scene

PRIVATE = b"PRIVATE KEY"


async def test_keys_and_token_are_in_private_files_only(tmp_path: Path) -> None:
    """At debug level, with an app and after a renewal: no key and no token in any other place."""
    async with scene(tmp_path) as here:
        unspent = (await here.cf.ticket("app-b")).token
        command = ("sh", "-c", "env; echo ready; sleep 60")
        async with here.instance("--log-level", "debug", command=command) as first:
            await here.caller.reaches(here.address)
            given = first.token
            children = [(await first.logged(f"{each}.started"))["pid"] for each in ("envoy", "app")]
            listed = _listed()
            environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in children]
            await first.stop()
        async with here.instance_without_token("--log-level", "debug") as second:
            await here.caller.reaches(here.address)
            await second.stop()
        exposed = "\n".join([*first.lines, *first.output, *second.lines, *second.output, listed])

        assert given not in exposed
        assert PRIVATE.decode() not in exposed
        assert not any(given.encode() in each for each in environments)
        assert _holding(tmp_path, PRIVATE) == {
            ("control-plane/ca.pem", 0o600),
            ("sidecar/identity.json", 0o600),
        }
        for each in (given, unspent):
            assert _holding(tmp_path, each.encode()) == set()
        assert not stat.S_IMODE(here.directory.stat().st_mode) & 0o022


async def test_the_token_on_the_command_line_reaches_nobody_else(tmp_path: Path) -> None:
    """Whoever types the token shows it to ps; Envoy and the app still do not get it."""
    async with scene(tmp_path) as here:
        ticket = await here.cf.ticket("app-b")
        told = ("--token", ticket.token, "--fingerprint", ticket.fingerprint)
        command = ("sh", "-c", "env; sleep 60")
        variables = {"ANOTHER_NAME": f"token={ticket.token}"}
        async with here.instance_without_token(
            *told, command=command, variables=variables
        ) as instance:
            await here.caller.reaches(here.address)

        assert not [line for line in instance.output if ticket.token in line]


async def test_an_envoy_that_crashes_leaves_no_file_with_its_keys(tmp_path: Path) -> None:
    """Its memory has them, so it is dumped nowhere; that of the app is dumped as ever."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    async with scene(tmp_path, app=None) as here:
        with limited(resource.RLIMIT_CORE, most):
            async with here.instance(command=command) as instance:
                envoy, app = [
                    (await instance.logged(f"{each}.started"))["pid"] for each in ("envoy", "app")
                ]

                assert resource.prlimit(envoy, resource.RLIMIT_CORE) == (0, most)
                assert resource.prlimit(app, resource.RLIMIT_CORE) == (most, most)


def _listed() -> str:
    """Return every process as anybody on this machine sees it, by ``ps`` or as here."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # of a process that has ended
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return "\n".join(found)


def _holding(directory: Path, content: bytes) -> set[tuple[str, int]]:
    """Return the files with this in them, as it is or in JSON, and their modes."""
    pattern = re.compile(re.escape(content))
    return {
        (str(path.relative_to(directory)), stat.S_IMODE(path.stat().st_mode))
        for path in directory.rglob("*")
        if path.is_file() and pattern.search(path.read_bytes())
    }
