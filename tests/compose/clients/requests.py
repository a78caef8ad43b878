"""Ask one name again and again, as an app does: resolve, connect, verify, send, read.

Usage: requests.py HOST, until standard input ends; then it prints what happened, as JSON.

Each request is a new connection, verified with the trust store that SSL_CERT_FILE names. It runs in
a container that has no more than Python.
"""

from __future__ import annotations

import collections
import json
import select
import socket
import ssl
import sys
import time

PORT = 61443
PAUSE = 0.02
SECONDS = 2.0


def resolve(host: str) -> str:
    """Return the first of the addresses; the resolver shuffles them."""
    return str(socket.getaddrinfo(host, PORT, type=socket.SOCK_STREAM)[0][4][0])


def ask(host: str, address: str, context: ssl.SSLContext) -> str:
    """Send one request, and return the serial of the certificate."""
    with (
        socket.create_connection((address, PORT), timeout=SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        certificate = connection.getpeercert() or {}
        connection.sendall(f"GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    if not answer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"answer {answer[:60]!r}")
    return str(certificate["serialNumber"])


def main(host: str) -> None:
    """Ask until standard input ends."""
    context = ssl.create_default_context()
    answered: collections.Counter[str] = collections.Counter()
    serials: dict[str, dict[str, float]] = {}
    failures = []
    while not select.select([sys.stdin], [], [], PAUSE)[0]:
        started, address = time.time(), ""
        try:
            address = resolve(host)
            serial = ask(host, address, context)
        except (OSError, KeyError) as error:
            failures.append({"at": started, "address": address, "why": str(error)})
        else:
            answered[address] += 1
            serials.setdefault(address, {}).setdefault(serial, started)
    json.dump({"answered": answered, "serials": serials, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
