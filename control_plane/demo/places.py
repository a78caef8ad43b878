"""The addresses and directories of the demo, on this machine only.

The rule of this module: every instance has an address of its own in 127.0.0.0/8, as a container
would have. Its app listens on another address, as it would on the loopback address of the
container.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One instance of the demo.

    Attributes:
        address: where other instances reach its Envoy.
        app_address: where its app listens, on 8080.
    """

    app: str
    label: str
    address: str
    app_address: str

    @property
    def directory(self) -> str:
        """The name of the instance's directory."""
        return self.label.replace("/", "-")


CALLER = Place("app-a", "app-a/0", "127.0.1.10", "127.0.2.10")
SERVERS = (
    Place("app-b", "app-b/0", "127.0.1.1", "127.0.2.1"),
    Place("app-b", "app-b/1", "127.0.1.2", "127.0.2.2"),
)
EVERYBODY = (CALLER, *SERVERS)

SERVER_APP = "app-b"
DOMAIN = "apps.internal"
FIRST_HOST = "app-b"
SECOND_HOST = "backend"
APP_PORT = 8080
DNS_PORT = 10053
"""Ordinary users cannot bind port 53."""
