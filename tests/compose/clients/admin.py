"""Print what the Envoy of this container answers at its admin socket.

Usage: admin.py PATH
"""

from __future__ import annotations

import http.client
import socket
import sys


class Admin(http.client.HTTPConnection):
    """A connection to the socket in the sidecar's directory."""

    def connect(self) -> None:
        """Connect to it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/c2c/admin.sock")


if __name__ == "__main__":
    admin = Admin("envoy")
    admin.request("GET", sys.argv[1])
    sys.stdout.write(admin.getresponse().read().decode())
