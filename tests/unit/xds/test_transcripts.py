"""Replays the transcripts, which show how whole conversations go.

``REWRITE_TRANSCRIPTS=1`` writes what the server says now into the files. Commit that only if you
understand what caused each difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.xds.transcript import Transcript

FILES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_conversation_goes_as_written(path: Path) -> None:
    """W1, A6: the server says in each conversation what its transcript has, and nothing else."""
    written = path.read_text()
    now = Transcript().run(written)
    if os.environ.get("REWRITE_TRANSCRIPTS"):
        path.write_text(now)
    else:
        assert now == written


def test_unknown_command_is_an_error() -> None:
    """A transcript with a typing error proves nothing, so it fails."""
    with pytest.raises(ValueError, match="no such command: aks"):
        Transcript().run("aks SDS\n----\nnothing")
