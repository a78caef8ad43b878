"""A small disk that is full, which only one process and its children see."""

from __future__ import annotations

from pathlib import Path

from tests.needs import lacks, need_command

_NO_DISK = 77


def on_a_full_disk(directory: Path, script: str, *, size: str) -> tuple[str, ...]:
    """Return the command that runs a script where a directory is on a disk that is full.

    Args:
        directory: what it has is on that disk; the disk is gone with the script.
        script: for sh. ``$ROOM`` is the file to remove to make room.
        size: of the disk, for tmpfs.
    """
    unshare = need_command("unshare", "util-linux")
    setup = f"""
        mkdir {directory}.copy && cp -pr {directory}/. {directory}.copy || exit {_NO_DISK}
        mount -t tmpfs -o size={size},mode=700 tmpfs {directory} || exit {_NO_DISK}
        cp -pr {directory}.copy/. {directory}
        ROOM={directory}/much
        dd if=/dev/zero of=$ROOM bs=4k 2> {directory}.dd
    """
    return unshare, "--map-root-user", "--mount", "sh", "-c", setup + script


def need_full_disk(returncode: int | None, wrote: str) -> None:
    """Give up a test if this machine lets it have no disk of its own."""
    if returncode == _NO_DISK or "unshare" in wrote:
        lacks(f"this test needs to mount a disk of its own: {wrote}")
