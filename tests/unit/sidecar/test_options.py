"""What a sidecar may be told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.errors import ConfigurationError, InvalidArgument
from control_plane.settings import SocketAddress
from control_plane.sidecar import SidecarOptions, parse_fingerprint, parse_instance_address

SERVER = SocketAddress("10.0.0.5", 18001)
DIGITS = "3f" * 32


def test_the_token_does_not_show_itself() -> None:
    """Options are logged by mistake one day, and then without the token."""
    options = SidecarOptions(server=SERVER, token="c2cjt_secret")

    assert "secret" not in repr(options)


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (
            {"fingerprint": f"sha256:{DIGITS}", "ca_file": Path("ca.pem")},
            "--fingerprint and --ca-file both say whom to trust: give one of them",
        ),
        ({"concurrency": 0}, "concurrency must be at least 1, not 0"),
        (
            {"drain_time": timedelta(seconds=-1)},
            "drain time must not be negative: -1 day, 23:59:59",
        ),
    ],
    ids=["two kinds of trust", "no worker", "time before now"],
)
def test_a_contradiction_is_named(wrong: dict[str, Any], problem: str) -> None:
    """What cannot be meant is refused before anything is done."""
    with pytest.raises(ConfigurationError) as refused:
        SidecarOptions(server=SERVER, **wrong)

    assert refused.value.problems == (problem,)


def test_every_contradiction_is_named_at_once() -> None:
    """Nobody has to start three times to hear of three mistakes."""
    with pytest.raises(ConfigurationError) as refused:
        SidecarOptions(
            server=SERVER,
            concurrency=0,
            drain_time=timedelta(seconds=-1),
            stop_time=timedelta(seconds=-1),
        )

    assert len(refused.value.problems) == 3


@pytest.mark.parametrize(
    "text",
    [
        f"sha256:{DIGITS}",
        DIGITS,
        f" {DIGITS.upper()}\n",
        f"SHA256:{DIGITS}",
        ":".join(["3F"] * 32),
    ],
    ids=["ours", "bare", "upper case", "upper prefix", "openssl"],
)
def test_a_fingerprint_is_read_as_tools_print_it(text: str) -> None:
    """The digits count, not how somebody's tool groups them."""
    assert parse_fingerprint(text) == f"sha256:{DIGITS}"


@pytest.mark.parametrize("text", ["", "sha256:", DIGITS[:-1], DIGITS + "0", "sha1:" + "0" * 40])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    """A fingerprint that is cut short would be one that nobody can have, or that many have."""
    with pytest.raises(InvalidArgument, match="fingerprint must be SHA-256, 64 hexadecimal digits"):
        parse_fingerprint(text)


def test_an_address_is_one_or_auto() -> None:
    """``auto`` leaves it to the route to the server."""
    assert parse_instance_address("auto") is None
    assert parse_instance_address("::ffff:10.0.0.5") == "10.0.0.5"
    with pytest.raises(InvalidArgument, match="not an IP address: 'app-b'"):
        parse_instance_address("app-b")
