"""What README and docs say that a program can check: links, and texts of errors."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

from control_plane.cli.main import program
from control_plane.settings.load import load_settings

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAPPED = [
    "xds",
    "model",
    "ca",
    "planner",
    "reconciler",
    "reconciler/certificates",
    "reconciler/membership",
    "reconciler/publication",
    "reconciler/served",
]
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_BETWEEN_STRINGS = re.compile(r'"\s*f?"')


def anchors(document: Path) -> set[str]:
    """Return what links may name behind the #, made from headings as GitHub makes it."""
    text = _FENCED.sub("", document.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    links = _LINK.findall(_FENCED.sub("", document.read_text("utf-8")))
    broken = []
    for link in links:
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_the_settings_that_are_shown_are_settings(tmp_path: Path) -> None:
    """Whoever copies the file can start with it."""
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    (shown,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "c2c.toml"
    file.write_text(shown)

    loaded = load_settings({"config": str(file)}, {})

    assert loaded.settings.server_names == ("c2c.example.internal", "10.0.0.5")


def test_the_units_of_systemd_start_what_there_is() -> None:
    """Their commands have options that these commands take."""
    text = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    shown = re.findall(r"^```ini\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    def command(name: str) -> click.Command:
        found = program.get_command(click.Context(program), name)
        assert found is not None
        return found

    starts = re.findall(r"^ExecStart=(.*)$", "".join(shown).replace("\\\n", ""), re.MULTILINE)
    taken = {}
    for start in starts:
        installed, name, *words = shlex.split(start)
        flags = {flag for each in command(name).params for flag in each.opts}
        asked = [each for each in words[: (*words, "--").index("--")] if each.startswith("--")]
        taken[name] = set(asked) <= flags
        assert installed == "/opt/c2c/bin/c2c"

    assert taken == {"serve": True, "sidecar": True}


def test_every_document_is_in_the_readme() -> None:
    """Who starts there finds all the others."""
    readme = (ROOT / "README.md").read_text("utf-8")

    assert [each.name for each in DOCUMENTS[1:] if f"(docs/{each.name})" not in readme] == []


def test_every_error_that_operations_explains_can_occur() -> None:
    """In the words of the program, with ... for what is filled in."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    tables = re.findall(r"^<!-- tests/unit compares .*-->\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert len(tables) == 3
    rows = [line.split("|")[1] for table in tables for line in table.splitlines()[2:]]
    quoted = [each for row in rows for each in re.findall(r"`([^`]+)`", row)]
    modules = (ROOT / "control_plane").rglob("*.py")
    source = "\n".join(_BETWEEN_STRINGS.sub("", each.read_text("utf-8")) for each in modules)
    missing = []
    for sentence in quoted:
        parts = [re.escape(part[:1].lower() + part[1:]) for part in sentence.split("...")]
        if not re.search(r"[^\n]*".join(parts), source, re.IGNORECASE):
            missing.append(sentence)

    assert len(quoted) > 20
    assert missing == []


@pytest.mark.parametrize("package", MAPPED)
def test_the_map_of_a_package_names_each_of_its_modules(package: str) -> None:
    """Whoever reads a package for the first time is told what each module is for."""
    directory = ROOT / "control_plane" / package
    told = ast.get_docstring(ast.parse((directory / "__init__.py").read_text())) or ""
    modules = {each.stem for each in directory.glob("*.py")} - {"__init__"}
    assert modules <= set(re.findall(r"``(\w+)``", told))
