"""Take the network link of this container down, or up again; addresses stay.

Usage: link.py (down | up), with CAP_NET_ADMIN.

Whatever was on its way is lost, and nobody is told: no connection is closed or reset.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys

# linux/sockios.h and linux/if.h
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
IFREQ = struct.Struct("16sh14x")


def main(interface: bytes, *, up: bool) -> None:
    """Set the interface's state."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        found = fcntl.ioctl(any_socket, SIOCGIFFLAGS, IFREQ.pack(interface, 0))
        flags = IFREQ.unpack(found)[1]
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, IFREQ.pack(interface, flags))


if __name__ == "__main__":
    main(b"eth0", up=sys.argv[1] == "up")
