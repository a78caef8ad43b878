"""The key of an enrolment: one for all attempts, until there is an identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from control_plane.ca import new_key_pair
from control_plane.errors import NotDurable, StorageError
from control_plane.sidecar.directory import SidecarDirectory
from control_plane.sidecar.enrolment import first_key as module
from control_plane.sidecar.enrolment.first_key import FILE, FirstKey


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return the directory of a sidecar."""
    return SidecarDirectory(tmp_path / "sidecar").path


def test_an_enrolment_that_goes_on_has_the_key_that_it_began_with(directory: Path) -> None:
    """It is kept before it is used, where nobody else can read it."""
    began = FirstKey(directory, new_key_pair)()

    assert (directory / FILE).stat().st_mode & 0o777 == 0o600
    assert FirstKey(directory, new_key_pair)().public == began.public


@pytest.mark.parametrize("content", [b"", b"no key"])
def test_a_key_that_is_of_no_use_is_replaced(directory: Path, content: bytes) -> None:
    """So is one that others may have read."""
    (directory / FILE).write_bytes(content)
    (directory / FILE).chmod(0o600)
    made = FirstKey(directory, new_key_pair)()
    assert FirstKey(directory, new_key_pair)().public == made.public

    (directory / FILE).chmod(0o644)
    other = FirstKey(directory, new_key_pair)()
    assert other.public != made.public
    assert FirstKey(directory, new_key_pair)().public == other.public


def test_a_key_that_a_crash_of_the_machine_may_take_is_used(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take a use of the token along, and no more; a disk that is full spends none."""
    failure: StorageError = NotDurable("the directory was not synced")

    def write(_path: Path, _data: bytes) -> None:
        raise failure

    monkeypatch.setattr(module, "write_private", write)
    FirstKey(directory, new_key_pair)()

    failure = StorageError("No space left on device")
    with pytest.raises(StorageError):
        FirstKey(directory, new_key_pair)()


def test_a_key_that_cannot_be_removed_is_in_no_way(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity counts, whatever lies beside it."""

    def remove(_path: Path) -> None:
        raise StorageError("Read-only file system")

    key = FirstKey(directory, new_key_pair)
    key()
    with monkeypatch.context() as patch:
        patch.setattr(module, "remove_private", remove)
        key.drop()
    assert (directory / FILE).exists()

    key.drop()
    assert not (directory / FILE).exists()
    key.drop()
