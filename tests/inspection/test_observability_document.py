"""docs/observability.md names what there is: every metric, kind of event and event of the log."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from control_plane import log_events
from control_plane.api.v1 import inspection_pb2
from control_plane.cli import catalog
from control_plane.server.observability.feed import Kind
from tests.inspection.promlint import families
from tests.inspection.test_metrics import exposed
from tests.inspection.world import scene
from tests.unit.cli.running import run_c2c

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "observability.md").read_text("utf-8")


def section(title: str) -> str:
    """Return the text below a heading, up to the next."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the tables below a heading, without the heads of these."""
    pairs = pairwise([*section(title).splitlines(), ""])
    lines = [line for line, below in pairs if line.startswith("| ") and below[:4] != "|---"]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def words(text: str) -> set[str]:
    """Return the names in a cell or a sentence, with commas or blanks between them."""
    return set(re.split(r"[, ]+", text)) - {""}


async def test_every_metric_is_named_as_it_is(tmp_path: Path) -> None:
    """Each of ours is in the document, with its type and its labels, and no other is."""
    async with scene(tmp_path) as here, here.envoy():
        await here.until_served()
        text = await exposed(here.cf)
    types = dict(re.findall(r"^# TYPE (c2c_\S+) (\S+)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {}
    for family in families(text).values():
        suffix = "_total" if family.type == "counter" else ""
        found = {label for sample in family.samples for label in sample.labels}
        labels[family.name + suffix] = found - {"le"}
    documented = {name.strip("`"): (kind, words(given)) for name, kind, given, _ in rows("Metrics")}

    assert documented == {name: (kind, labels[name]) for name, kind in types.items()}


def test_every_metric_of_an_alert_exists() -> None:
    """A rule about a metric that nobody exposes would never fire."""
    documented = {row[0].strip("`") for row in rows("Metrics")}
    used = set(re.findall(r"\bc2c_\w+", section("What to be told of")))

    assert used
    assert {name.removesuffix("_bucket") for name in used} <= documented


def test_every_kind_of_event_is_named() -> None:
    """In the document, in the help of c2c, and in the comment that grpcurl describes."""
    proto = (ROOT / "protos" / "c2c" / "v1" / "inspection.proto").read_text("utf-8")
    comment = re.search(r"((?:  // .*\n)+)  string kind = 2;\n\n  // What happened", proto)
    assert comment is not None
    listed = words(re.sub(r"//|\.\n|\n| or ", " ", comment[1]))
    documented = {kind for row in rows("Events") for kind in words(row[0])}
    help_text = " ".join(run_c2c("help", "events").out.split())
    helped = words(help_text.partition("The kinds are ")[2].partition(".")[0].replace(" and ", " "))

    assert documented == listed == helped == {kind.value for kind in Kind}


def test_every_state_of_a_certificate_is_named() -> None:
    """With the words of the table; the first, which is for none at all, is a dash."""
    documented = {row[0].lower().replace(" ", "_") for row in rows("Proof of serving")}
    states = {name.removeprefix("CERTIFICATE_STATE_").lower() for name in _states()}

    assert documented == states - {"none"} | {"-"}


def test_every_word_of_status_is_named() -> None:
    """As it stands in the table that c2c prints."""
    names = inspection_pb2.ConfigStatus.keys()
    states = {name.removeprefix("CONFIG_STATUS_") for name in names}

    assert {row[0] for row in rows("Status")} == states - {"NOT_ASKED"} | {"-"}


def test_every_event_of_the_log_that_is_named_exists() -> None:
    """And every event that the module lists is logged somewhere."""
    events = {
        name: value
        for name, value in vars(log_events).items()
        if name.isupper() and name not in ("AUDIT_LOGGER", "JOIN_TOKEN_PREFIX")
    }
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", section("Logs"))) - {log_events.AUDIT_LOGGER}
    audits = {value for value in events.values() if value.startswith("audit.")}
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "control_plane").rglob("*.py"))

    assert named <= set(events.values())
    assert audits <= named
    for name in events:
        assert f"log_events.{name}" in source, name


def test_every_warning_is_named() -> None:
    """So is what may be one, of which the level is chosen when it is logged."""
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", section("Logs")))
    warnings = {
        getattr(log_events, name)
        for path in (ROOT / "control_plane").rglob("*.py")
        for level, name in _logged(ast.parse(path.read_text("utf-8")))
        if level not in ("debug", "info")
    }

    assert len(warnings) > 30
    assert warnings - named == set()


def _logged(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the level, or the name of the variable that has it, and the event of each line."""
    for call in ast.walk(module):
        match call:
            case ast.Call(
                func=ast.Attribute(attr=level) | ast.Name(id=level),
                args=[ast.Attribute(value=ast.Name(id="log_events"), attr=name), *_],
            ):
                yield level, name
            case _:
                pass


def test_every_command_that_is_named_exists() -> None:
    """What is printed for pasting is a command."""
    commands = set(re.findall(r"\bc2c (ca [a-z]+|[a-z][a-z-]+)", TEXT))

    assert {"status", "certs", "wait", "why", "events"} <= commands
    for name in commands:
        assert catalog.find(name) is not None or name == "shows", name


def _states() -> list[str]:
    return inspection_pb2.CertificateState.keys()
