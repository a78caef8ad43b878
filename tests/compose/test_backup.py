"""Backup and restore in containers, by the commands that docs/reliability.md tells."""

from __future__ import annotations

import re
from pathlib import Path

from tests.compose.stack import ROOT, ROUTE, Stack, run, until

DOCUMENT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
_BLOCKS = r"<!-- tests/compose runs this(?: too)? -->\n```sh\n(.*?)```"


def _typed(stack: Stack, commands: str, directory: Path) -> None:
    """Do what the document says with this stack; every command must succeed."""
    words = [*stack.command, "--project-name", stack.project]
    words += [word for file in stack.files for word in ("--file", str(file))]
    typed = commands.replace("docker compose", " ".join(words))
    run("bash", "-euo", "pipefail", "-c", f"cd {directory}\n{typed}")


def test_a_backup_of_a_container_brings_it_back(stack: Stack, tmp_path: Path) -> None:
    """The State is that of the backup, every instance is back, and calls go on."""
    back_up, restore = re.findall(_BLOCKS, DOCUMENT, re.DOTALL)
    instances, routes = stack.instances(), stack.c2c_json("routes")

    _typed(stack, back_up, tmp_path)
    assert (tmp_path / "backup.tar").stat().st_mode & 0o777 == 0o600
    stack.c2c("map-route", "app-b", "apps.internal", "--hostname", "later")
    _typed(stack, restore, tmp_path)

    stack.until_answered()
    assert stack.c2c_json("routes") == routes
    until(lambda: stack.instances() == instances, what="every instance is back as it was")
    assert stack.container("app-a").exec("curl", "--silent", "--fail", f"https://{ROUTE}:61443")
