"""Streams in the log: which facts, with which fields, and safe from what clients write."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
import structlog
from structlog.testing import capture_logs

from control_plane.errors import PeerProtocolError, Unavailable
from control_plane.nodes import LiveStream, Variant
from control_plane.server.observability import stream_log
from control_plane.server.observability.stream_log import StreamLog, shortened
from control_plane.xds.constraints import Constraints, Single
from control_plane.xds.events import Acked, Connected, Nacked, Stale, Subscribed, Unsubscribed
from control_plane.xds.messages import ErrorDetail, Node, Reply, SotwRequest
from control_plane.xds.resource import Nonce, Resource, Version
from control_plane.xds.resource_type import SECRET, ResourceTypes
from control_plane.xds.stream import Stream


def live_stream(node_id: str = "node-1") -> LiveStream:
    """Return a stream whose client told its node."""
    stream = Stream(ResourceTypes.of())
    stream.identify(SotwRequest(SECRET, node=Node(node_id, user_agent="envoy/1.40.0")))
    return LiveStream(5, stream, Variant.DELTA, "ipv4:1.2.3.4:5", ("id",), datetime.now(UTC))


def test_a_stream_can_be_followed_from_open_to_close() -> None:
    """Each fact is one line with node and number, so that two streams of a node are told apart."""
    live = live_stream()
    secret = Resource.of(SECRET, "cert", b"-----BEGIN PRIVATE KEY-----")
    with capture_logs() as lines:
        log = StreamLog()
        log.opened(live)
        errors = {"absent": ErrorDetail(5, "no")}
        sent = Reply(SECRET, Nonce("1"), Version("v"), (secret,), ("gone",), errors=errors)
        log.sent(live, sent)
        log.told(live, (Acked(SECRET, "1", {"cert": secret.version, "gone": None}),))
        log.told(live, (Stale(SECRET, "0"),))
        log.closed(live)

    assert [line["event"] for line in lines] == [
        "stream.opened",
        "xds.sent",
        "xds.acked",
        "xds.stale",
        "stream.closed",
    ]
    assert all(line["stream"] == 5 and line["node"] == "node-1" for line in lines)
    assert lines[0]["user_agent"] == "envoy/1.40.0"
    assert lines[0]["identities"] == ("id",)
    assert lines[1]["resources"] == {"cert": secret.version, "gone": None, "absent": None}
    assert "PRIVATE KEY" not in repr(lines)


def test_what_is_not_written_is_not_put_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens all the time costs no text where the log has no place for it."""
    put: list[str] = []
    monkeypatch.setattr(stream_log, "shortened", put.append)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        log, live = StreamLog(), live_stream()
        log.sent(live, Reply(SECRET, Nonce("1"), Version("v"), ()))
        log.told(live, (Acked(SECRET, "1", {"cert": None}), Stale(SECRET, "0")))
    finally:
        structlog.reset_defaults()

    assert put == []


def test_a_variant_that_goes_is_a_name_that_goes() -> None:
    """E3: unless another comes in its place."""
    of_prod = Constraints(b"", Single("env", "prod"))
    secret = Resource.of(SECRET, "cert", b"", constraints=of_prod)
    gone = (("cert", None), ("other", of_prod))
    sent = Reply(SECRET, Nonce("1"), Version("v"), (secret,), ("plain",), removed_variants=gone)
    with capture_logs() as lines:
        StreamLog().sent(live_stream(), sent)

    assert lines[0]["resources"] == {"cert": secret.version, "other": None, "plain": None}


def test_a_nack_is_a_warning_that_cannot_forge_a_line() -> None:
    """What a client wrote is escaped and cut: it neither makes lines nor floods them."""
    text = 'no\n{"event": "route.mapped"}\x1b[2J' + "x" * 5000
    event = Nacked(SECRET, "1", {"cert\r": Version("v")}, ErrorDetail(13, text))
    with capture_logs() as lines:
        StreamLog().told(live_stream("a\nb"), (event,))

    (line,) = lines
    assert line["event"] == "xds.nacked"
    assert line["log_level"] == "warning"
    assert line["code"] == 13
    assert line["node"] == "a\\nb"
    assert line["resources"] == {"cert\\r": "v"}
    assert "\n" not in line["reason"]
    assert "\x1b" not in line["reason"]
    assert len(line["reason"]) < 1100


def test_a_broken_protocol_is_a_warning_and_a_shutdown_is_not() -> None:
    """Somebody has to look at a client that broke the protocol; the server's own end is no news."""
    broken, ended = live_stream(), live_stream()
    broken.end(PeerProtocolError("2 bytes that are no request"))
    ended.end(Unavailable("the server is shutting down"))
    with capture_logs() as lines:
        StreamLog().closed(broken)
        StreamLog().closed(ended)

    assert [(line["log_level"], line["reason"]) for line in lines] == [
        ("warning", "2 bytes that are no request"),
        ("info", "the server is shutting down"),
    ]


def test_what_says_nothing_new_is_not_logged() -> None:
    """Interest is not a fact about delivery; and opened was logged already."""
    events = (
        Connected(Node("n")),
        Subscribed(SECRET, frozenset({"a"})),
        Unsubscribed(SECRET, frozenset({"a"})),
    )
    with capture_logs() as lines:
        StreamLog().told(live_stream(), events)

    assert lines == []


def test_a_line_names_a_bounded_number_of_resources() -> None:
    """A response with thousands of resources is still one readable line."""
    versions = {f"r{n}": Version("v") for n in range(1000)}
    with capture_logs() as lines:
        StreamLog().told(live_stream(), (Acked(SECRET, "1", versions),))

    assert len(lines[0]["resources"]) == 20


def test_short_and_plain_text_stays_as_it_is() -> None:
    """Envoy's messages are legible."""
    text = "Failed to load private key from <inline>, it's 'wrong'"

    assert shortened("plain") == "plain"
    assert "Failed to load" in shortened(text)
