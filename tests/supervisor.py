"""Who listens as systemd does, to what a service of ``Type=notify`` tells it (sd_notify(3))."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

DEADLINE = 30.0


@contextmanager
def supervisor(address: str) -> Iterator[socket.socket]:
    """Listen at the address for ``NOTIFY_SOCKET``, until the block ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + address[1:] if address.startswith("@") else address)
        listening.settimeout(DEADLINE)
        yield listening


def was_told_no_more(listening: socket.socket) -> None:
    """Check that nothing is left to read."""
    listening.settimeout(0)
    with pytest.raises(BlockingIOError):
        listening.recv(100)
