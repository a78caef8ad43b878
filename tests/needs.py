"""What a test needs of the machine that it runs on.

The rule of this module: in CI (the variable CI is set) what is missing fails the test and says what
to install, so that nothing is left out unseen; elsewhere it skips the test.
"""

from __future__ import annotations

import os
import shutil
import socket
from typing import NoReturn

import pytest

from control_plane.settings.values import SocketAddress


def lacks(what: str) -> NoReturn:
    """Give up a test that this machine cannot run."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def need_command(command: str, package: str) -> str:
    """Return the path of a command, which a Debian package has."""
    path = shutil.which(command)
    return path or lacks(f"this test needs {command}: apt-get install {package}")


def need_ipv6() -> None:
    """Require the loopback address of IPv6."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        lacks(f"this test needs the address ::1: {error}")


def need_port_53() -> SocketAddress:
    """Return an address of this process's own with the one port that musl can ask."""
    number = os.getpid()
    address = SocketAddress(f"127.{100 + number % 100}.{number >> 8 & 255}.{number & 255}", 53)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address.host, address.port))
    except PermissionError:
        lacks(
            "this test needs port 53: run it as root, or allow it to all by "
            "sysctl net.ipv4.ip_unprivileged_port_start=53"
        )
    return address
