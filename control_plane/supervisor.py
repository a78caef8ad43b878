"""What a service of ``Type=notify`` tells systemd (sd_notify(3)): that it serves, or stops.

The rule of this module: this process may have been started by systemd or not, and systemd may not
listen any more. Telling it something changes nothing else, and never fails.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = "READY=1"
"""The start is complete. Without this, ``systemctl start`` would report success at once, even for a
process that ends a moment later because its settings are wrong."""

STOPPING = "STOPPING=1"
"""This process stops, perhaps by itself."""

_PATIENCE_SECONDS = 1.0
"""How long this process waits, and does nothing else, while systemd does not read."""


def tell_supervisor(state: str) -> None:
    """Tell systemd, if it started this process and wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An @ stands for the zero byte with which the name of an abstract socket begins.
    name = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_PATIENCE_SECONDS)
        sender.sendto(state.encode(), name)
