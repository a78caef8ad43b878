"""Print what a TLS server shows, if it shows anything: its names, one a line.

Usage: certificate.py ADDRESS HOST [PORT]

Without a certificate it prints why there is none.
"""

from __future__ import annotations

import socket
import ssl
import sys

SECONDS = 3.0


def main(address: str, host: str, port: int) -> None:
    """Shake hands, verified in full."""
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((address, port), timeout=SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            certificate = connection.getpeercert() or {}
    except OSError as error:
        print(f"none: {error}")  # noqa: T201 - what the test reads
    else:
        for each in certificate["subjectAltName"]:
            print(each[1])  # noqa: T201 - likewise


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 61443)
