"""Connect to a port without saying anything, and tell what happens.

Usage: knock.py ADDRESS PORT

Prints `refused`, `closed` (accepted, and closed without a byte), or what came instead.
"""

from __future__ import annotations

import socket
import sys

SECONDS = 5.0


def knock(address: str, port: int) -> str:
    """Return what happens to a client that waits."""
    try:
        with socket.create_connection((address, port), timeout=SECONDS) as connection:
            said = connection.recv(1)
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        return "closed"
    except TimeoutError:
        return "nothing happens"
    return f"it says {said!r}" if said else "closed"


if __name__ == "__main__":
    print(knock(sys.argv[1], int(sys.argv[2])))  # noqa: T201 - what the test reads
