"""WatchEvents: when a caller is told that nothing is missed from here on, and when it is not."""

from __future__ import annotations

from typing import cast

import grpc
import pytest

from control_plane.api.v1 import inspection_pb2
from control_plane.clock import SystemClock
from control_plane.errors import Unavailable
from control_plane.model.state import State
from control_plane.server.access.admission import Context
from control_plane.server.api.inspection import InspectionService
from control_plane.server.api.inspection_explain import Explainer
from control_plane.server.api.inspection_values import Inspected
from control_plane.server.observability.feed import Feed


class _Inspected:
    def state(self) -> State:
        return State()


class _Call:
    """A call that notes whether its caller was told that it watches."""

    def __init__(self, feed: Feed) -> None:
        """Take the feed, which is closed at that moment."""
        self._feed = feed
        self.is_told = False

    async def send_initial_metadata(self, metadata: grpc.aio.Metadata) -> None:  # noqa: ARG002
        """Note it."""
        self.is_told = True
        self._feed.close()


@pytest.mark.parametrize("is_closed", [True, False])
async def test_who_comes_while_the_server_stops_is_not_told_that_it_watches(
    *, is_closed: bool
) -> None:
    """Otherwise each attempt would say that it watches again, and at once that it does not."""
    feed = Feed(SystemClock())
    if is_closed:
        feed.close()
    call = _Call(feed)
    service = InspectionService(cast("Inspected", _Inspected()), cast("Explainer", None), feed)

    events = service.WatchEvents(inspection_pb2.WatchEventsRequest(), cast("Context", call))

    with pytest.raises(Unavailable, match="the server is shutting down"):
        await anext(events)

    assert call.is_told is not is_closed
