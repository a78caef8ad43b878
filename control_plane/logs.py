"""How facts become log lines: one line each, safe to show and safe to parse.

The rule of this module: whatever is passed to a logger,
- a private key or a join token never reaches the log;
- text from elsewhere (the text of a NACK, a name that a client asked for) can neither forge a line
  nor control a terminal nor flood a disk;
- a value that cannot be logged never loses the event.

By default lines are JSON, except on a terminal. Events that libraries log through the standard
``logging`` module take the same path. No level suppresses the audit log: it is written even where
the level is error.
"""

from __future__ import annotations

import itertools
import logging
import math
import sys
from collections.abc import Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from typing import Any, TextIO, assert_never, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from control_plane.journal import PRIORITIES, journal_mark
from control_plane.log_events import AUDIT_LOGGER, JOIN_TOKEN_PREFIX
from control_plane.settings.values import LogFormat, LogLevel

REDACTED = "[redacted]"

MAX_TEXT = 4096
"""Characters of one text in a line: more than any message of ours or of Envoy's needs."""

MAX_ITEMS = 100
"""Members of one collection in a line."""

MAX_DEPTH = 5
"""How deep collections are followed; anything deeper is written as text."""

_SECRETS = ("PRIVATE KEY", JOIN_TOKEN_PREFIX)

# Controls of C0 and C1, line separators, and the marks that reorder text (Unicode TR36, 2.5).
_UNSAFE = [
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
]
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNSAFE}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_TRACEBACK_ESCAPES = {code: text for code, text in _ESCAPES.items() if code != ord("\n")}


def configure_logging(
    level: LogLevel = LogLevel.INFO,
    form: LogFormat = LogFormat.AUTO,
    stream: TextIO | None = None,
    *,
    colors: bool = True,
) -> None:
    """Send every event of this process, ours and those of libraries, to one stream.

    Args:
        level: the least important events that are written; events of the audit log are always
            written.
        form: what a line looks like.
        stream: where the lines go; standard error if None.
        colors: whether lines for people on a terminal may have colors.
    """
    output = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        sanitise,
    ]
    renderer = _with_marks(_renderer(form, output, colors=colors), output)
    structlog.configure(
        processors=[_add_logger_name, *shared, renderer],
        wrapper_class=_kind_of_logger(level),
        logger_factory=lambda *names: LineLogger(output, *names),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # At debug, libraries write each SQL statement and each step of the event loop.
    least = LogLevel.INFO if level is LogLevel.DEBUG else level
    logging.basicConfig(handlers=[handler], level=least.upper(), force=True)


def _kind_of_logger(level: LogLevel) -> type[FilteringBoundLogger]:
    """Return a factory of loggers: from this level on, or of every level for the audit log."""
    filtering = structlog.make_filtering_bound_logger(level.value)
    auditing = structlog.make_filtering_bound_logger(logging.NOTSET)

    def make(logger: WrappedLogger, **how: Any) -> FilteringBoundLogger:  # noqa: ANN401 - as structlog
        kind: Any = auditing if getattr(logger, "name", "") == AUDIT_LOGGER else filtering
        return cast("FilteringBoundLogger", kind(logger, **how))

    # structlog asks for a class, but only ever calls it.
    return cast("type[FilteringBoundLogger]", make)


class LineLogger:
    """Writes finished lines; knows its name so that each line can contain it.

    A line is written in one call, so lines of several tasks never mix. A stream that is gone (a
    closed terminal, a full disk) never stops the server.
    """

    def __init__(self, stream: TextIO, name: str = "") -> None:
        """Write to a stream, under a name."""
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        """Write one line at once."""
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = msg


def sanitise(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make every value safe to write: secrets replaced, controls escaped, lengths bounded.

    This is the last line of defence. The first is that no code passes a secret to a logger.
    """
    traceback = event.pop("exception", None)
    safe: EventDict = {_safe_text(str(key)): _safe(value, 0) for key, value in event.items()}
    if traceback is not None:
        safe["exception"] = _safe_text(str(traceback), _TRACEBACK_ESCAPES, 8 * MAX_TEXT)
    return safe


def _safe(value: object, depth: int) -> Any:  # noqa: ANN401 - what JSON can hold
    if type(value) is str:  # nearly everything is, and the other cases take ten times as long
        return _safe_text(value)
    match value:
        case None | bool():
            return value
        case int() if value.bit_length() <= 64:
            return value
        case float() if math.isfinite(value):
            return value
        case timedelta():
            return value.total_seconds()
        case Mapping() if depth < MAX_DEPTH:
            return {
                _safe_text(_shown(key)): _safe(member, depth + 1)
                for key, member in itertools.islice(value.items(), MAX_ITEMS)
            }
        case list() | tuple() | AbstractSet() if depth < MAX_DEPTH:
            members = [_safe(member, depth + 1) for member in itertools.islice(value, MAX_ITEMS)]
            hidden = len(value) - len(members)
            return [*members, f"... {hidden} more"] if hidden else members
        case _:
            return _safe_text(_shown(value))


def _shown(value: object) -> str:
    """Return an object as text, even one that cannot be shown."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, date):
        return value.isoformat()
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a broken __str__ must not cost the event
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _safe_text(text: str, escapes: Mapping[int, str] = _ESCAPES, most: int = MAX_TEXT) -> str:
    for secret in _SECRETS:
        if secret in text:
            return REDACTED
    hidden = len(text) - most
    shown = text[:most] if hidden > 0 else text
    if hidden <= 0 and shown.isascii() and shown.isprintable():
        return shown
    # A lone surrogate is no character, and no stream can encode it.
    shown = shown.encode("utf-8", "backslashreplace").decode().translate(escapes)
    return f"{shown}... {hidden} more characters" if hidden > 0 else shown


def _add_logger_name(
    logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    name = getattr(logger, "name", "")
    if name:
        event["logger"] = name
    return event


def _renderer(form: LogFormat, output: TextIO, *, colors: bool) -> Processor:
    match form:
        case LogFormat.JSON:
            return structlog.processors.JSONRenderer()
        case LogFormat.CONSOLE:
            return structlog.dev.ConsoleRenderer(
                colors=colors and output.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
                pad_event_to=24,
            )
        case LogFormat.AUTO:
            on_terminal = LogFormat.CONSOLE if output.isatty() else LogFormat.JSON
            return _renderer(on_terminal, output, colors=colors)
        case _:
            assert_never(form)


def _with_marks(render: Processor, output: TextIO) -> Processor:
    marks = {level: journal_mark(output, level) for level in PRIORITIES}
    if not any(marks.values()):
        return render

    def rendered(logger: WrappedLogger, method: str, event: EventDict) -> str:
        mark = marks.get(str(event.get("level")), marks["info"])
        return mark + cast("str", render(logger, method, event))

    return rendered
