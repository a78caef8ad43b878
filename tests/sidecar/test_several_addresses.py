"""A control plane whose name has several addresses, with ``--address auto``."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from control_plane.ca import new_key_pair
from control_plane.errors import Unauthenticated
from control_plane.names import parse_address
from control_plane.settings import SocketAddress
from control_plane.sidecar.enrolment.enrol import address_towards, enrol
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.retry import Retry
from tests.needs import need_ipv6
from tests.sidecar.test_enrolment import TOKEN, authority, recorder, server_pair
from tests.unit.ca.forge import ca_pem
from tests.unit.reconciler.clocks import ManualClock


def _leads_to(monkeypatch: pytest.MonkeyPatch, port: int, *hosts: str) -> None:
    """Let every name have these addresses, in this order, for all but gRPC."""

    def found(_host: str, _port: int, _family: int, kind: int, *_: int) -> list[tuple[object, ...]]:
        families = (socket.AF_INET6 if ":" in host else socket.AF_INET for host in hosts)
        return [
            (family, kind, 0, "", (host, port))
            for family, host in zip(families, hosts, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)


async def test_the_address_is_the_one_that_the_server_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first address of the server does not answer, it is the way to the one that does."""
    by = authority("c2c CA")
    (tmp_path / "ca.pem").write_bytes(ca_pem(by))
    async with recorder(*server_pair(by)) as service:
        _leads_to(monkeypatch, service.port, "::1", "127.0.0.1")
        options = SidecarOptions(
            server=SocketAddress("localhost", service.port),
            token=TOKEN,
            ca_file=tmp_path / "ca.pem",
            directory=tmp_path,
        )
        with pytest.raises(Unauthenticated):
            await enrol(options, new_key=new_key_pair, retry=Retry(ManualClock(), lambda: 0.5))

    assert service.callers == [("127.0.0.1", "ipv4:127.0.0.1")]


async def test_an_address_that_leads_there_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance does not move because the addresses of the server are told in another order."""
    need_ipv6()
    _leads_to(monkeypatch, 18000, "127.0.0.1", "::1")
    server = SocketAddress("control-plane.example", 18000)

    assert await address_towards(server) == "127.0.0.1"
    assert await address_towards(server, parse_address("::1")) == "::1"
    assert await address_towards(server, parse_address("10.255.0.4")) == "127.0.0.1"
