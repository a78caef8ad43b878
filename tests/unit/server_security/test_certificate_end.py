"""When streams end of clients that were let in by a certificate, without sockets."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from control_plane.nodes import Credential, LiveStream, Variant
from control_plane.server.access.certificate_end import MARGIN_SECONDS, CertificateEnds
from control_plane.xds.resource_type import ResourceTypes
from control_plane.xds.stream import Stream
from tests.unit.server_security.still_clock import NOON, StillClock

LIFE = timedelta(hours=1)


async def test_a_stream_that_is_gone_is_remembered_by_no_timer() -> None:
    """Else each stream of a client that comes and goes would be kept until its certificate ends."""
    ends = CertificateEnds(StillClock())
    live = LiveStream(1, Stream(ResourceTypes.of()), Variant.DELTA, "peer", (), NOON)
    live.credential = Credential(1, NOON + LIFE)
    ends.opened(live)
    timer = ends._timers[live]
    left = timer.when() - asyncio.get_running_loop().time()
    assert left == pytest.approx(LIFE.total_seconds() - MARGIN_SECONDS, abs=5)

    ends.closed(live)

    assert timer.cancelled()
    assert ends._timers == {}
