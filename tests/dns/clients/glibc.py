"""Resolve names by glibc's getaddrinfo at a server on any port.

Usage: glibc.py HOST PORT FLAGS NAME...

glibc takes servers from /etc/resolv.conf, which is the machine's, and always asks port 53. But what
a thread has in its resolver state (resolver(3)) it takes from there, so that is what is set.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

RES_INIT = 0x00000001
RES_NORELOAD = 0x02000000

OPTIONS_OFFSET = 8  # struct __res_state: int retrans, retry; unsigned long options;
COUNT_OFFSET = 16  # int nscount;
SERVERS_OFFSET = 20  # struct sockaddr_in nsaddr_list[3];


def use(host: str, port: int, flags: int) -> None:
    """Make this thread ask one server."""
    libc = ctypes.CDLL(None)
    libc.__res_state.restype = ctypes.c_void_p
    libc.__res_init()
    state = libc.__res_state()
    options = ctypes.c_ulong.from_address(state + OPTIONS_OFFSET)
    options.value |= RES_INIT | RES_NORELOAD | flags
    ctypes.c_int.from_address(state + COUNT_OFFSET).value = 1
    server = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host)
    ctypes.memmove(state + SERVERS_OFFSET, server + bytes(8), 16)


def resolve(name: str) -> str:
    """Return the addresses of a name in one line, or the error."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return f"error: {error.strerror}"
    return " ".join(str(each[4][0]) for each in found)


if __name__ == "__main__":
    use(sys.argv[1], int(sys.argv[2]), int(sys.argv[3], 16))
    for each in sys.argv[4:]:
        print(resolve(each))  # noqa: T201 - what the test reads
