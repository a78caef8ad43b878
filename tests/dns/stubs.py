"""The resolvers that applications bring: glibc, musl, Go's own and c-ares, as they are.

The rule of this module: each is the real code of its library, told by a way of its own which server
to ask; what it makes of a name is returned as the application would see it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import ctypes
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pycares

from control_plane.settings.values import SocketAddress
from tests.dns.world import PATIENCE
from tests.needs import lacks, need_command

PROGRAMS = Path(__file__).parent / "clients"

Found = list[str] | str
"""The addresses of a name, sorted; or what the application is told instead."""


class Stub(Protocol):
    """A resolver of applications."""

    async def resolve(self, server: SocketAddress, names: Sequence[str]) -> list[Found]:
        """Look up names, one after the other, at one server."""


class Glibc:
    """``getaddrinfo`` of glibc, which nearly all programs on Debian and Red Hat use."""

    EDNS0 = 0x00100000
    USE_VC = 0x00000008

    def __init__(self, flags: int = 0) -> None:
        """Set options of resolv.conf(5)."""
        self._flags = f"{flags:x}"

    async def resolve(self, server: SocketAddress, names: Sequence[str]) -> list[Found]:
        """Run a Python that has this libc."""
        if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
            lacks("this test needs a Python that is linked to glibc")
        program = str(PROGRAMS / "glibc.py")
        host, port = server.host, str(server.port)
        return await _run(sys.executable, program, host, port, self._flags, *names)


class Musl:
    """``getaddrinfo`` of musl, which programs on Alpine use."""

    def __init__(self, directory: Path) -> None:
        """Compile and run in a directory."""
        self._directory = directory

    async def resolve(self, server: SocketAddress, names: Sequence[str]) -> list[Found]:
        """Run a static program; musl asks port 53 only."""
        program = self._directory / "musl"
        compiler = need_command("musl-gcc", "musl-tools gcc")
        source = PROGRAMS / "musl.c"
        await asyncio.to_thread(_build, compiler, "-static", "-O1", "-o", program, source)
        resolv_conf = self._directory / "resolv.conf"
        resolv_conf.write_text(f"nameserver {server.host}\n")
        return await _run(program, *names, RESOLV_CONF=str(resolv_conf))


class Go:
    """The resolver in Go's standard library, which static Go programs use."""

    def __init__(self, directory: Path) -> None:
        """Compile in a directory."""
        self._directory = directory

    async def resolve(self, server: SocketAddress, names: Sequence[str]) -> list[Found]:
        """Run a program without cgo."""
        program = self._directory / "netgo"
        compiler = need_command("go", "golang-go")
        await asyncio.to_thread(_build, compiler, "build", "-o", program, PROGRAMS / "netgo.go")
        return await _run(program, str(server), *names)


class CAres:
    """c-ares, which Node.js, curl and gRPC use."""

    async def resolve(self, server: SocketAddress, names: Sequence[str]) -> list[Found]:
        """Ask in this process; the library has a thread of its own."""
        channel = pycares.Channel(
            servers=[server.host], udp_port=server.port, tcp_port=server.port, lookups="b"
        )
        try:
            return [await asyncio.wrap_future(_by_ares(channel, name)) for name in names]
        finally:
            channel.close()


def _by_ares(channel: pycares.Channel, name: str) -> concurrent.futures.Future[Found]:
    """Start to look up both families of addresses."""
    future: concurrent.futures.Future[Found] = concurrent.futures.Future()

    def answered(result: pycares.AddrInfoResult | None, error: int | None) -> None:
        if result is None:
            future.set_result(f"error: {pycares.errno.strerror(error or 0)!s}")
        else:
            future.set_result(sorted(each.addr[0].decode() for each in result.nodes))

    channel.getaddrinfo(name, None, callback=answered)
    return future


def _build(*command: str | Path) -> None:
    built = subprocess.run(
        command, env={**os.environ, "CGO_ENABLED": "0"}, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr


async def _run(*command: str | Path, **environment: str) -> list[Found]:
    """Return what a program prints, a line for each name."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 0, errors.decode()
    lines = output.decode().splitlines()
    return [line if line.startswith("error") else sorted(line.split()) for line in lines]
