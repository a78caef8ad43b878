"""What is in a sidecar's directory, and what it is worth after a crash."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_plane.ca import Authority
from control_plane.envoy.bootstrap import Limits
from control_plane.errors import ConfigurationError, InvalidArgument
from control_plane.sidecar.directory import SidecarDirectory
from tests.unit.sidecar.members import GUID, authority, membership

IDENTITY_OF_NUMBERS = json.dumps(
    {
        "resources": [
            {
                "tls_certificate": {
                    "certificate_chain": {"inline_string": 1},
                    "private_key": {"inline_string": 2},
                }
            }
        ]
    }
)


@pytest.fixture(scope="module")
def ca() -> Authority:
    """Return a CA."""
    return authority()


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Have files made with this mask, whatever mask the tests run with."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _modes(directory: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()}


def test_what_is_written_is_read_by_the_next(ca: Authority, tmp_path: Path) -> None:
    """A restart finds the identity, the key and everything that goes with it."""
    member = membership(ca)
    first = SidecarDirectory(tmp_path / "sidecar")
    first.write(member)
    first.close()

    again = SidecarDirectory(tmp_path / "sidecar").read()

    assert again is not None
    assert again.enrollment == member.enrollment
    assert again.credentials.trust_bundle == member.credentials.trust_bundle
    old, new = member.credentials.identity, again.credentials.identity
    assert (new.serial, new.chain_pem) == (old.serial, old.chain_pem)
    assert new.key.private_pem() == old.key.private_pem()


def test_what_an_older_sidecar_wrote_is_read(ca: Authority, tmp_path: Path) -> None:
    """An update of the sidecar needs no new token: what it would know besides is told again."""
    directory = SidecarDirectory(tmp_path)
    directory.write(membership(ca))
    file = tmp_path / "enrollment.json"
    known = json.loads(file.read_text())
    for each in ("app_ports", "c2c_port"):
        del known[each]
    file.write_text(json.dumps(known))

    read = directory.read()

    assert read is not None
    assert (read.enrollment.app_ports, read.enrollment.c2c_port) == ((), 0)


def test_what_a_newer_sidecar_wrote_is_read(ca: Authority, tmp_path: Path) -> None:
    """Going back to an older release needs no new token: what it does not know is passed over."""
    directory, member = SidecarDirectory(tmp_path), membership(ca)
    directory.write(member)
    file = tmp_path / "enrollment.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "of_tomorrow": {"a": [1]}}))

    read = directory.read()

    assert read is not None
    assert read.enrollment == member.enrollment


def test_a_new_directory_has_no_identity(tmp_path: Path) -> None:
    """The first start finds nothing, which is no error."""
    assert SidecarDirectory(tmp_path / "sidecar").read() is None


def test_only_the_apps_ca_is_for_others(ca: Authority, tmp_path: Path) -> None:
    """Others get into the directory, and read there the certificates that anybody may have."""
    with _umask(0o022):
        directory = SidecarDirectory(tmp_path / "sidecar")
    directory.write(membership(ca))
    directory.write_bootstrap(membership(ca), "10.0.0.5", Limits(64 << 20))

    modes = _modes(tmp_path / "sidecar")
    assert {name for name, mode in modes.items() if mode == 0o644} == {"ca.pem"}
    assert {mode for name, mode in modes.items() if name != "ca.pem"} == {0o600}
    assert stat.S_IMODE((tmp_path / "sidecar").stat().st_mode) == 0o755


def test_a_directory_is_taken_once(tmp_path: Path) -> None:
    """Two sidecars would write over each other's identity."""
    taken = SidecarDirectory(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^directory .* is in use by process"):
        SidecarDirectory(tmp_path)
    taken.close()

    SidecarDirectory(tmp_path).close()


def test_a_directory_in_which_others_can_write_is_refused(tmp_path: Path) -> None:
    """Whoever can replace the trust file decides whom Envoy believes."""
    tmp_path.chmod(0o777)

    with pytest.raises(ConfigurationError, match="others may write to it"):
        SidecarDirectory(tmp_path)


def test_a_key_that_others_may_have_read_is_not_used(ca: Authority, tmp_path: Path) -> None:
    """A copied key is somebody else's identity too."""
    directory = SidecarDirectory(tmp_path)
    directory.write(membership(ca))
    (tmp_path / "identity.json").chmod(0o644)

    with pytest.raises(ConfigurationError, match="mode 0644"):
        directory.read()


def test_a_crash_between_the_files_of_two_instances_is_noticed(
    ca: Authority, tmp_path: Path
) -> None:
    """The enrolment of a new instance was written, its identity was not: neither counts."""
    directory = SidecarDirectory(tmp_path)
    directory.write(membership(ca))
    enrollment = tmp_path / "enrollment.json"
    of_another = json.loads(enrollment.read_text()) | {"instance_guid": f"{GUID}-2"}
    enrollment.write_text(json.dumps(of_another))

    with pytest.raises(InvalidArgument, match="has the identity of another instance"):
        directory.read()


@pytest.mark.parametrize("written", range(4))
def test_a_crash_before_the_first_identity_leaves_nothing(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The identity is written last, so without all that goes with it there was no enrolment."""

    class Killed(BaseException):
        """What no code of ours gets to handle."""

    left, rename = iter(range(written)), os.rename

    def crashing(source: Path, target: Path) -> None:
        if next(left, None) is None:
            raise Killed
        rename(source, target)

    directory = SidecarDirectory(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crashing)
        with pytest.raises(Killed):
            directory.write(membership(ca))

    assert directory.read() is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("enrollment.json", "{"),
        ("enrollment.json", "{}"),
        ("identity.json", '{"resources": []}'),
        ("identity.json", '{"resources": [{"tls_certificate": {}}]}'),
        ("identity.json", IDENTITY_OF_NUMBERS),
        ("ca.pem", "not a certificate"),
        ("ca.pem", None),
    ],
)
def test_a_damaged_file_is_told_apart_from_none(
    ca: Authority, tmp_path: Path, file: str, content: str | None
) -> None:
    """Whatever happened to a file, the sidecar says so in a sentence and can enrol anew."""
    directory = SidecarDirectory(tmp_path)
    directory.write(membership(ca))
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)

    with pytest.raises(InvalidArgument):
        directory.read()


def test_a_long_path_has_a_short_one_to_its_admin_socket(tmp_path: Path) -> None:
    """A Unix socket takes 107 octets; where that is too little an open file leads there."""
    path = tmp_path / ("long" * 20) / ("path" * 20)

    directory = SidecarDirectory(path)
    short = directory.admin_socket

    assert len(bytes(short)) <= 107
    assert short.resolve() == path / "admin.sock"
    directory.close()
    assert not short.parent.exists()


def test_a_long_path_hides_no_envoy_of_an_earlier_start(tmp_path: Path) -> None:
    """It is found, and can be ended, as where the path is short."""
    path = tmp_path / ("long" * 20) / ("path" * 20)
    killed = SidecarDirectory(path)
    with socket.socket(socket.AF_UNIX) as envoy, socket.socket(socket.AF_UNIX) as client:
        envoy.bind(str(killed.admin_socket))
        envoy.listen()
        killed.close()

        restarted = SidecarDirectory(path)
        client.connect(str(restarted.admin_socket))
        restarted.close()


def test_the_bootstrap_names_the_files_that_are_renewed(ca: Authority, tmp_path: Path) -> None:
    """Envoy has to look where the sidecar writes, and to demand the control plane's own name."""
    directory = SidecarDirectory(tmp_path)
    directory.write_bootstrap(membership(ca), "10.0.0.5", Limits(64 << 20))
    text = directory.bootstrap_file.read_text()

    for expected in (
        str(tmp_path / "identity.json"),
        str(tmp_path / "trust.json"),
        "spiffe://c2c.internal/control-plane",
        GUID,
        "10.0.0.5",
        f"max_heap_size_bytes: {64 << 20}",
        "18000",
    ):
        assert expected in text
