"""Credentials that change while connections are open."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import structlog

from control_plane.errors import InvalidArgument
from control_plane.sidecar.directory import Credentials, SidecarDirectory
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.store import files
from tests.unit.sidecar.members import authority, credentials, membership


def _live(path: Path) -> LiveCredentials:
    directory = SidecarDirectory(path)
    member = membership(authority("old CA"))
    directory.write(member)
    return LiveCredentials(directory, member.credentials)


def _on_disk(path: Path) -> str:
    """Return the file that Envoy reads, as text in which PEM stands as it is."""
    return (path / "identity.json").read_text().replace("\\n", "\n")


async def test_a_renewed_identity_is_on_disk_before_anybody_uses_it(tmp_path: Path) -> None:
    """Envoy reads the file when the sidecar opens its own next connection, or sooner."""
    live = _live(tmp_path)
    new = credentials(authority("old CA"), serial=2)
    seen_on_disk: list[bool] = []

    def look(current: Credentials) -> None:
        seen_on_disk.append(current.identity.chain_pem.decode() in _on_disk(tmp_path))

    live.watch(look)
    await live.renewed(new.identity, new.trust_bundle, asked=live.current)

    assert seen_on_disk == [True]
    assert live.current.identity is new.identity


async def test_a_disk_that_confirms_nothing_parts_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is what Envoy reads, so it is held too; that a crash may undo it is said."""
    live = _live(tmp_path)
    new = credentials(authority("new CA"), serial=2)

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files, "_sync_directory", fail)
    with structlog.testing.capture_logs() as logs:
        await live.renewed(new.identity, new.trust_bundle, asked=live.current)

    assert live.current == new
    assert new.identity.chain_pem.decode() in _on_disk(tmp_path)
    assert (tmp_path / "ca.pem").read_bytes() == new.trust_bundle
    assert {each["event"] for each in logs} == {"identity.not_durable"}
    assert [each["reason"].partition("'")[2].partition("'")[0] for each in logs] == [
        str(tmp_path / name) for name in ("trust.json", "ca.pem", "identity.json")
    ]


async def test_the_ca_that_comes_with_a_renewed_identity_is_trusted(tmp_path: Path) -> None:
    """It is the newest that was told, where nothing was told meanwhile."""
    live = _live(tmp_path)
    new = credentials(authority("new CA"), serial=2)
    await live.renewed(new.identity, new.trust_bundle, asked=live.current)

    assert live.current == new
    assert (tmp_path / "ca.pem").read_bytes() == new.trust_bundle


async def test_a_renewal_takes_back_no_ca_that_was_told_meanwhile(tmp_path: Path) -> None:
    """Its answer may be older, and the control plane counts on what it was told is trusted."""
    live = _live(tmp_path)
    asked = live.current
    told = asked.trust_bundle + authority("new CA").trust_bundle_pem
    await live.trust(told)
    new = credentials(authority("old CA"), serial=2)
    await live.renewed(new.identity, asked.trust_bundle, asked=asked)

    assert live.current == Credentials(new.identity, told)
    assert (tmp_path / "ca.pem").read_bytes() == told


async def test_another_ca_reaches_app_and_envoy(tmp_path: Path) -> None:
    """Both trust files follow, and the identity stays what it was."""
    live = _live(tmp_path)
    before = live.current.identity
    bundle = live.current.trust_bundle + authority("new CA").trust_bundle_pem

    await live.trust(bundle)

    assert (tmp_path / "ca.pem").read_bytes() == bundle
    assert bundle.decode().replace("\n", "\\n") in (tmp_path / "trust.json").read_text()
    assert live.current.identity is before


async def test_the_same_ca_changes_nothing(tmp_path: Path) -> None:
    """A report that brings nothing new touches no file, so Envoy has nothing to reload."""
    live = _live(tmp_path)
    before = (tmp_path / "trust.json").stat().st_ino
    live.watch(lambda _: pytest.fail("nothing has changed"))

    await live.trust(live.current.trust_bundle)

    assert before == (tmp_path / "trust.json").stat().st_ino


async def test_a_bundle_that_cannot_be_read_is_not_trusted(tmp_path: Path) -> None:
    """An empty or broken bundle would cut the instance off from everybody."""
    live = _live(tmp_path)
    before = live.current

    with pytest.raises(InvalidArgument, match=r"not X\.509 certificates in PEM"):
        await live.trust(b"none")

    assert live.current is before


async def test_the_roots_that_are_trusted_are_known(tmp_path: Path) -> None:
    """They are those on disk, by fingerprint, from the first moment on."""
    live, new = _live(tmp_path), authority("new CA")
    (old,) = live.trusted_roots
    await live.trust(live.current.trust_bundle + new.trust_bundle_pem)

    assert live.trusted_roots == (old, new.fingerprint)


async def test_a_renewal_that_was_wanted_is_done_once(tmp_path: Path) -> None:
    """With the new identity the wish is fulfilled."""
    live = _live(tmp_path)
    live.renewal_wanted.set()
    new = credentials(authority("old CA"), serial=2)
    await live.renewed(new.identity, new.trust_bundle, asked=live.current)

    assert not live.renewal_wanted.is_set()
