"""Log lines: one a fact, and safe whatever somebody put into them."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import structlog

from control_plane import log_events
from control_plane.logs import MAX_ITEMS, MAX_TEXT, REDACTED, LineLogger, configure_logging
from control_plane.settings import LogFormat, LogLevel

PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----\n"
TOKEN = f"{log_events.JOIN_TOKEN_PREFIX}Zm9vYmFy"


class Terminal(io.StringIO):
    """A stream that somebody reads along on."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


def logged(
    level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.JSON, **fields: object
) -> dict[str, Any]:
    """Log one event with these fields, and return the line it became, parsed."""
    stream = io.StringIO()
    configure_logging(level, form, stream)
    structlog.get_logger("control_plane.test").info(log_events.ROUTE_MAPPED, **fields)
    (line,) = stream.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_an_event_is_one_json_line() -> None:
    """A fact is one line with its name, its logger, level, time in UTC, and its fields."""
    line = logged(app="app-b", revision=7)

    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo == UTC
    assert line == {
        "event": "route.mapped",
        "logger": "control_plane.test",
        "level": "info",
        "app": "app-b",
        "revision": 7,
    }


def test_auto_is_json_unless_somebody_reads_along() -> None:
    """On a terminal people read, elsewhere programs do."""
    for stream, is_json in ((io.StringIO(), True), (Terminal(), False)):
        configure_logging(LogLevel.INFO, LogFormat.AUTO, stream)
        structlog.get_logger().info(log_events.SERVER_STARTED, peer="x")
        assert stream.getvalue().startswith("{") is is_json
        assert "server.started" in stream.getvalue()


def test_console_has_colours_on_a_terminal_only() -> None:
    """A console log that goes into a file has no escape sequences."""
    for stream, coloured in ((io.StringIO(), False), (Terminal(), True)):
        configure_logging(LogLevel.INFO, LogFormat.CONSOLE, stream)
        structlog.get_logger().warning("a.b", text="x")
        assert ("\x1b[" in stream.getvalue()) is coloured


def test_console_has_no_colours_where_nobody_wants_them() -> None:
    """Nor on a terminal, for people who said NO_COLOR or whose terminal shows none."""
    stream = Terminal()
    configure_logging(LogLevel.INFO, LogFormat.AUTO, stream, colors=False)
    structlog.get_logger().warning("a.b", text="x")

    assert "a.b" in stream.getvalue()
    assert "\x1b[" not in stream.getvalue()


def test_events_below_the_level_are_not_written() -> None:
    """The level is the least important event that is written."""
    stream = io.StringIO()
    configure_logging(LogLevel.WARNING, LogFormat.JSON, stream)
    log = structlog.get_logger()
    log.info("quiet.event")
    log.warning("loud.event")

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud.event"]


@pytest.mark.parametrize("level", LogLevel)
def test_no_level_keeps_the_audit_log_back(level: LogLevel) -> None:
    """Who wants to see less of what goes on still sees who did what, whatever is bound to it."""
    stream = io.StringIO()
    configure_logging(level, LogFormat.JSON, stream)
    audit = structlog.get_logger(log_events.AUDIT_LOGGER)
    audit.info(log_events.AUDIT_COMMAND)
    audit.bind(peer="unix:").info(log_events.AUDIT_ENROLLED)
    audit.new().info(log_events.AUDIT_IDENTITY_RENEWED)

    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == [
        log_events.AUDIT_COMMAND,
        log_events.AUDIT_ENROLLED,
        log_events.AUDIT_IDENTITY_RENEWED,
    ]


def test_bound_context_is_in_every_line() -> None:
    """What was bound to the context of a call is in each line of that call."""
    with structlog.contextvars.bound_contextvars(revision=9):
        assert logged()["revision"] == 9


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.CONSOLE])
@pytest.mark.parametrize(
    "value",
    [
        pytest.param(PEM, id="text"),
        pytest.param(PEM.encode(), id="bytes"),
        pytest.param(bytearray(PEM.encode()), id="bytearray"),
        pytest.param(f"could not read {TOKEN}", id="sentence"),
        pytest.param({"deep": [{"deeper": (PEM,)}]}, id="nested"),
        pytest.param({PEM: 1}, id="key"),
        pytest.param({"a": {"b": {"c": {"d": {"e": {"f": TOKEN}}}}}}, id="below-the-depth"),
        pytest.param({TOKEN}, id="set"),
        pytest.param(ValueError(PEM), id="exception"),
        pytest.param("x" * MAX_TEXT + PEM, id="past-the-length"),
    ],
)
def test_no_private_key_and_no_join_token_is_written(form: LogFormat, value: object) -> None:
    """Whatever holds a secret, as deep as it may be, is replaced: the last line of defence."""
    stream = io.StringIO()
    configure_logging(LogLevel.DEBUG, form, stream)
    structlog.get_logger().debug("a.b", field=value)
    structlog.get_logger().debug(f"event {value}")

    assert REDACTED in stream.getvalue()
    assert "PRIVATE KEY" not in stream.getvalue()
    assert log_events.JOIN_TOKEN_PREFIX not in stream.getvalue()


def test_a_secret_in_a_traceback_is_not_written() -> None:
    """An exception's text is a text like any other."""
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, LogFormat.JSON, stream)
    structlog.get_logger().error(log_events.CALL_FAILED, exc_info=ValueError(PEM))

    assert json.loads(stream.getvalue())["exception"] == REDACTED


def test_foreign_text_forges_no_line_and_steers_no_terminal() -> None:
    """The text of a NACK may hold anything; line ends, escapes and bidi marks come out as text."""
    forged = 'bad\n{"event": "audit.command"}\r\x1b[2J\x07\x9b31m\u2028\u202e\ufeff\ud800'
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, LogFormat.CONSOLE, stream)
    structlog.get_logger().info(log_events.XDS_NACKED, reason=forged, **{"k\ney": 1})
    structlog.get_logger().info(forged)
    text = stream.getvalue()

    assert len(text.splitlines()) == 2
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e\ufeff\ud800]", text)
    assert r'bad\n{"event": "audit.command"}\r\x1b[2J\x07\x9b31m\u2028\u202e\ufeff\ud800' in text


@pytest.mark.parametrize("form", [LogFormat.CONSOLE, LogFormat.JSON])
def test_no_mark_of_direction_is_written_as_it_is(form: LogFormat) -> None:
    """Whatever Unicode has to turn text around, all of it, comes out as text (UAX 9, 2)."""
    marks = [
        code
        for code in range(0x110000)
        if unicodedata.bidirectional(chr(code)) in {"LRE", "RLE", "LRO", "RLO", "PDF"}
        or unicodedata.bidirectional(chr(code)) in {"LRI", "RLI", "FSI", "PDI"}
        or code in (0x061C, 0x200E, 0x200F)
    ]
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, form, stream)
    structlog.get_logger().info(log_events.STREAM_REFUSED, type_url="".join(map(chr, marks)))
    text = stream.getvalue()
    if form is LogFormat.JSON:
        text = json.loads(text)["type_url"]

    assert len(marks) == 12
    assert "".join(f"\\u{code:04x}" for code in marks) in text
    assert not {chr(code) for code in marks} & set(text)


def test_a_long_text_is_cut_and_says_so() -> None:
    """A client cannot fill the disk with one line: texts and collections are bounded."""
    line = logged(reason="x" * (MAX_TEXT + 5), names=[str(n) for n in range(MAX_ITEMS + 3)])

    assert line["reason"] == "x" * MAX_TEXT + "... 5 more characters"
    assert line["names"][MAX_ITEMS:] == ["... 3 more"]


class Unshowable:
    """An object whose text cannot be had."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param(None, None, id="none"),
        pytest.param(True, True, id="bool"),
        pytest.param(1.5, 1.5, id="float"),
        pytest.param(float("nan"), "nan", id="nan"),
        pytest.param(2**63, 2**63, id="int"),
        pytest.param(10**5000, "<int that cannot be shown: ValueError>", id="endless-int"),
        pytest.param(b"\xff\x00", r"\xff\x00", id="bytes"),
        pytest.param(date(2026, 1, 2), "2026-01-02", id="date"),
        pytest.param(datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00", id="datetime"),
        pytest.param(timedelta(milliseconds=1500), 1.5, id="timedelta"),
        pytest.param({1: (2, frozenset({3}))}, {"1": [2, [3]]}, id="nested"),
        pytest.param(Unshowable(), "<Unshowable that cannot be shown: RuntimeError>", id="broken"),
    ],
)
def test_every_value_can_be_logged(value: object, written: object) -> None:
    """A value of any type becomes one that JSON has; none costs the event."""
    assert logged(field=value)["field"] == written


def test_libraries_log_the_same_way() -> None:
    """What grpc and SQLAlchemy log is one line too, with the same fields and the same safety."""
    stream = io.StringIO()
    configure_logging(LogLevel.DEBUG, LogFormat.JSON, stream)
    logging.getLogger("grpc.test").warning("lost %s\n", TOKEN)
    logging.getLogger("grpc.test").warning("lost\n%s", "peer")
    logging.getLogger("sqlalchemy.engine").debug("SELECT 1")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [(line["logger"], line["level"], line["event"]) for line in lines] == [
        ("grpc.test", "warning", REDACTED),
        ("grpc.test", "warning", r"lost\npeer"),
    ]


def test_a_stream_that_is_gone_does_not_stop_the_server() -> None:
    """A closed terminal or a full disk loses lines, never the process."""
    stream = io.StringIO()
    configure_logging(LogLevel.INFO, LogFormat.JSON, stream)
    stream.close()
    structlog.get_logger().info("a.b")

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device", text)

    LineLogger(Full()).msg("line")


def test_event_names_are_unique_and_of_one_form() -> None:
    """One name finds every such fact: subject.what_happened, and no two constants are the same."""
    names = [
        value
        for name, value in vars(log_events).items()
        if name.isupper() and not name.startswith(("AUDIT_LOGGER", "JOIN_TOKEN"))
    ]

    assert len(names) == len(set(names)) > 40
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*\.[a-z]+(_[a-z]+)*", name) for name in names)


@pytest.mark.parametrize("is_journal", [True, False])
def test_the_journal_is_told_the_priority_of_each_line(
    monkeypatch: pytest.MonkeyPatch, *, is_journal: bool
) -> None:
    """So that journalctl --priority finds warnings; a stream that goes elsewhere has lines only."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as lines, os.fdopen(writing, "w") as stream:
        file = os.fstat(writing)
        inode = file.st_ino if is_journal else file.st_ino + 1
        monkeypatch.setenv("JOURNAL_STREAM", f"{file.st_dev}:{inode}")
        configure_logging(LogLevel.DEBUG, LogFormat.AUTO, stream)
        log = structlog.get_logger("control_plane.test")
        for level in ("debug", "info", "warning", "error"):
            getattr(log, level)(log_events.ROUTE_MAPPED)
        logging.getLogger("somebody.else").warning("theirs")
        stream.close()
        told = [line.rstrip() for line in lines]

    marks = [line.partition("{")[0] for line in told]
    assert marks == (["<7>", "<6>", "<4>", "<3>", "<4>"] if is_journal else [""] * 5)
    assert all(json.loads(line.removeprefix(mark)) for line, mark in zip(told, marks, strict=True))
