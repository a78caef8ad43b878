"""Which upstream resolvers are found, and that this server is never one of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from control_plane import log_events
from control_plane.errors import ConfigurationError
from control_plane.settings.values import SocketAddress
from control_plane.sidecar.dns.resolv_conf import UpstreamList, parse_nameservers

OWN = SocketAddress("127.0.0.1", 53)
OTHER = SocketAddress("10.0.0.2", 53)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", []),
        ("nameserver 10.0.0.2\n", ["10.0.0.2"]),
        ("nameserver\t10.0.0.2 # the first\nnameserver fd00::2", ["10.0.0.2", "fd00::2"]),
        ("search example.com\noptions ndots:5\nnameserver 10.0.0.2", ["10.0.0.2"]),
        ("# nameserver 10.0.0.2\n;nameserver 10.0.0.3\n", []),
        ("nameserver\nnameserver resolver.example.com\nnameserver 10.0.0\n", []),
        ("nameserver 10.0.0.2\nnameserver 10.0.0.2", ["10.0.0.2"]),
        ("nameserver fe80::1%eth0", ["fe80::1%eth0"]),
        ("nameserver 0.0.0.0\nnameserver ::", ["127.0.0.1", "::1"]),
        (
            "\n".join(f"nameserver 10.0.0.{n}" for n in range(1, 6)),
            [f"10.0.0.{n}" for n in (1, 2, 3)],
        ),
    ],
    ids=[
        "empty",
        "one",
        "two",
        "other lines",
        "comments",
        "no addresses",
        "twice",
        "scoped",
        "this machine",
        "more than three",
    ],
)
def test_what_a_resolv_conf_names(text: str, hosts: list[str]) -> None:
    """Nameserver lines with addresses count, the first three of them, as resolv.conf(5) has it."""
    assert parse_nameservers(text) == tuple(SocketAddress(host, 53) for host in hosts)


def test_resolvers_that_are_given_are_asked(tmp_path: Path) -> None:
    """Resolvers that the operator names replace those of the file, which is not even read."""
    upstreams = UpstreamList(OWN, given=(OTHER,), resolv_conf=tmp_path / "absent")

    assert upstreams.current() == (OTHER,)


def test_this_server_cannot_be_given() -> None:
    """To be told to ask oneself is a mistake of the operator's, and said so."""
    with pytest.raises(ConfigurationError, match=r"upstream resolver 127\.0\.0\.1:53 is this DNS"):
        UpstreamList(OWN, given=(OTHER, OWN))


def test_this_server_is_known_by_any_text_of_its_address(tmp_path: Path) -> None:
    """An IPv6 address may be written in many ways, and asking oneself never ends."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver ::1\n")
    own = SocketAddress("0::1", 53)

    assert UpstreamList(own, resolv_conf=file).current() == ()
    with pytest.raises(ConfigurationError, match="is this DNS server itself"):
        UpstreamList(own, given=(SocketAddress("::1", 53),))


def test_this_server_is_skipped_in_the_file(tmp_path: Path) -> None:
    """A resolv.conf that names this server and another leads to the other, and no warning."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\nnameserver 10.0.0.2\n")
    upstreams = UpstreamList(OWN, resolv_conf=file)

    with capture_logs() as logs:
        assert upstreams.current() == (OTHER,)

    assert [(each["event"], each["log_level"]) for each in logs] == [
        (log_events.UPSTREAM_SKIPPED, "info"),
        (log_events.UPSTREAMS_READ, "info"),
    ]


def test_another_port_is_another_server(tmp_path: Path) -> None:
    """A server on a high port may ask the one on port 53 of the same address."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")

    assert UpstreamList(SocketAddress("127.0.0.1", 5353), resolv_conf=file).current() == (OWN,)


def test_a_file_that_names_nobody_else_is_warned_of(tmp_path: Path) -> None:
    """If only this server is named, the warning says what cannot be resolved and what to do."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")

    with capture_logs() as logs:
        assert UpstreamList(OWN, resolv_conf=file).current() == ()

    assert logs[-1]["event"] == log_events.UPSTREAMS_LOST
    assert "only internal names can be resolved; give an upstream resolver" in logs[-1]["reason"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    """A machine that moves to another network gets the resolvers of that one."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.0.0.2\n")
    upstreams = UpstreamList(OWN, resolv_conf=file)
    assert upstreams.current() == (OTHER,)

    new = tmp_path / "new"
    new.write_text("nameserver 10.0.0.3\n")
    new.replace(file)

    assert upstreams.current() == (SocketAddress("10.0.0.3", 53),)


def test_a_file_that_did_not_change_is_read_once(tmp_path: Path) -> None:
    """The file is only looked at for each query, and its warnings are not repeated."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\n")
    upstreams = UpstreamList(OWN, resolv_conf=file)
    upstreams.current()

    with capture_logs() as logs:
        upstreams.current()

    assert logs == []


def test_a_file_that_vanished_leaves_what_was_read(tmp_path: Path) -> None:
    """While the file is being replaced, the resolvers of before are asked; one warning is given."""
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 10.0.0.2\n")
    upstreams = UpstreamList(OWN, resolv_conf=file)
    upstreams.current()
    file.unlink()

    with capture_logs() as logs:
        assert upstreams.current() == upstreams.current() == (OTHER,)

    assert [each["event"] for each in logs] == [log_events.UPSTREAMS_LOST]


def test_a_file_that_comes_later_is_read_then(tmp_path: Path) -> None:
    """Without a file there are no resolvers; once there is one, there are."""
    file = tmp_path / "resolv.conf"
    upstreams = UpstreamList(OWN, resolv_conf=file)
    with capture_logs() as logs:
        assert upstreams.current() == ()
    file.write_text("nameserver 10.0.0.2\n")

    assert [each["event"] for each in logs] == [log_events.UPSTREAMS_LOST]
    assert os.fspath(file) in logs[0]["reason"]
    assert upstreams.current() == (OTHER,)
