"""What systemd is told by a service of ``Type=notify`` (sd_notify(3)): that it serves, or stops.

The rule of this module: whoever started this process may be systemd or not, and may be gone. To
tell it something changes nothing else and fails for nobody.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY = "READY=1"
"""A start that was asked for is over: without this ``systemctl start`` says done at once, also of a
server that ends a moment later since its settings are wrong."""

STOPPING = "STOPPING=1"
"""It stops, be it of its own accord."""

_PATIENCE_SECONDS = 1.0
"""Nothing else is done while systemd does not read."""


def tell_supervisor(state: str) -> None:
    """Tell systemd, if that started this process and wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    # An @ stands for the zero byte with which the name of an abstract socket begins.
    name = "\0" + address[1:] if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_PATIENCE_SECONDS)
        sender.sendto(state.encode(), name)
