"""Observers that measure events when they happen.

The rule of this module: an observer only counts. The labels for resource types are their short
names, of which there are few; a client that asks for made-up types cannot add one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from control_plane import log_events
from control_plane.clock import Clock
from control_plane.model.change import Change
from control_plane.nodes import LiveStream, StreamObserver
from control_plane.reconciler.certificates.ledger import Entry, is_new, is_renewal
from control_plane.reconciler.progress import Stage
from control_plane.server.metrics.instruments import Metrics, StreamInstruments
from control_plane.store.protocol import IssuedRecord, Writer
from control_plane.xds.events import Acked, Event, Nacked
from control_plane.xds.messages import Reply

LAG_SECONDS = 0.1
"""How often the lag of the event loop is measured."""

LAG_WARNING_SECONDS = 1.0
"""The lag from which on it is worth a line in the log."""


class StreamMetrics(StreamObserver):
    """Measures streams."""

    def __init__(self, instruments: StreamInstruments, clock: Clock) -> None:
        """Count with these instruments."""
        self._streams = instruments
        self._clock = clock

    def opened(self, live: LiveStream) -> None:
        """Count a stream."""
        self._streams.opened.labels(live.variant.value).inc()

    def told(self, live: LiveStream, events: Sequence[Event]) -> None:
        """Count ACKs and NACKs, and how long they took."""
        for event in events:
            if isinstance(event, Acked | Nacked):
                of_type = self._streams.of_type(event.type_url)
                (of_type.acks if isinstance(event, Acked) else of_type.nacks).inc()
                exchange = live.stream.machines[event.type_url].exchange
                if exchange.last_nonce:  # none if a poll NACKs what an earlier poll was sent
                    of_type.push_to_ack.observe(self._clock.monotonic() - exchange.sent_at)

    def sent(self, _live: LiveStream, reply: Reply) -> None:
        """Count a response."""
        of_type = self._streams.of_type(reply.type_url)
        of_type.pushes.inc()
        of_type.pushed_bytes.inc(sum([each.octets for each in reply.resources]))

    def closed(self, _live: LiveStream) -> None:
        """Do nothing: open streams are counted on a scrape."""


class TimedWriter:
    """Measures what a store writes."""

    def __init__(self, store: Writer, metrics: Metrics) -> None:
        """Pass everything on to this store."""
        self._store = store
        self._metrics = metrics

    async def commit(
        self,
        change: Change,
        meanwhile: Callable[[], None] | None = None,
        records: Sequence[IssuedRecord] = (),
    ) -> None:
        """Measure a transaction; count it if it fails, be it by the disk or by a defect."""
        try:
            with self._metrics.commit_duration.time():
                await self._store.commit(change, meanwhile, records)
        except Exception:
            self._metrics.store_failures.inc()
            raise

    async def record_issued(self, records: Sequence[IssuedRecord]) -> None:
        """Pass on, and count a failure."""
        try:
            await self._store.record_issued(records)
        except Exception:
            self._metrics.store_failures.inc()
            raise


class ChangeMetrics:
    """Measures how long changes take; observes the trace of changes and the ledger."""

    def __init__(self, metrics: Metrics) -> None:
        """Count with these instruments."""
        self._metrics = metrics

    def reached(self, stage: Stage, _revision: int, seconds: float, behind: int) -> None:
        """Count a change that has reached a stage, or has not reached it in time."""
        if behind:
            self._metrics.changes.behind.labels(stage.value).inc()
        elif stage is Stage.SERVED:
            self._metrics.changes.to_served.observe(seconds)
        else:
            self._metrics.changes.to_ack.observe(seconds)

    def certified(self, entry: Entry, before: Entry | None) -> None:
        """Count a certificate that was issued."""
        if is_new(entry, before):
            changed = "renewed" if is_renewal(entry, before) else "changed"
            reason = "first" if before is None else changed
            self._metrics.certificates.issued.labels(reason).inc()


async def measure_lag(metrics: Metrics) -> None:
    """Measure again and again how late the event loop is, until cancelled."""
    log, loop = structlog.get_logger(__name__), asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        lag = max(0.0, loop.time() - due)
        metrics.loop_lag.observe(lag)
        if lag >= LAG_WARNING_SECONDS:
            log.warning(log_events.EVENT_LOOP_LAGGED, seconds=round(lag, 3))
