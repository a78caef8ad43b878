"""The DNS server of a sidecar is there before the app that asks it."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.sidecar.platform import free_port
from tests.sidecar.process import Ticket, sidecar
from tests.sidecar.scene import scene


async def test_the_app_starts_when_its_names_can_be_looked_up(tmp_path: Path) -> None:
    """An app may resolve a name in its first line."""
    async with scene(tmp_path) as here:
        options = ("--dns-address", f"127.0.0.1:{free_port()}")
        async with here.instance(*options, command=("sleep", "60")) as instance:
            await instance.logged("app.started")

    first_table, *_ = instance.events("name_table.applied")
    (started,) = instance.events("app.started")
    assert first_table["timestamp"] < started["timestamp"]


async def test_an_address_that_dns_cannot_have_stops_the_start(tmp_path: Path) -> None:
    """An app that would find no name is not started at all, and the sentence says what to do."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with scene(tmp_path) as here:
            options = ("--dns-address", address)
            async with here.instance(*options, command=("sleep", "60")) as instance:
                assert await instance.ended() == 1
            assert not here.directory.exists()

    (said,) = [line for line in instance.lines if not line.startswith("{")]
    assert said.startswith(f"Cannot serve DNS on {address}: Address already in use; ")
    assert instance.events("envoy.started") == instance.events("app.started") == []


async def test_what_dns_cannot_be_served_by_spends_no_token(tmp_path: Path) -> None:
    """The sentence says what is wrong before anybody is asked for an identity."""
    refused: dict[tuple[str, ...], str] = {
        ("--dns-address", "0.0.0.0:53"): "DNS is served on one address, which 0.0.0.0 is not: ",
        ("--dns-address", "localhost:53"): "DNS is served on one address, which localhost is not: ",
    }
    server, free = f"127.0.0.1:{free_port()}", ("--dns-address", f"127.0.0.1:{free_port()}")
    refused |= {
        (*free, "--dns-upstream", free[1]): f"Upstream resolver {free[1]} is this DNS server",
        (*free, "--dns-upstream", "ns:53"): "Upstream resolver ns:53 is a name: give its IP",
    }
    ticket = Ticket(server, "c2cjt_unspent", f"sha256:{'0' * 64}")
    for options, sentence in refused.items():
        async with sidecar(ticket, tmp_path / "sidecar", "--address", "auto", *options) as instance:
            assert await instance.ended() == 1
        (said,) = instance.lines
        assert said.startswith(sentence)
    assert not (tmp_path / "sidecar").exists()
