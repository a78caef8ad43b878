"""What the HTTP port answers: health, readiness and metrics.

The rule of this module: the port says yes or no, and what is measured; it reveals nothing about any
app.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus

from control_plane.server.http.server import Answer, HttpServer
from control_plane.server.metrics.instruments import Metrics


def http_server(metrics: Metrics, not_ready: Callable[[], str]) -> HttpServer:
    """Make the server of ``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        not_ready: returns why no client should be sent here now, or "".
    """

    def healthz(_: Mapping[str, str]) -> Answer:
        return Answer(HTTPStatus.OK, b"ok\n")

    def readyz(_: Mapping[str, str]) -> Answer:
        reason = not_ready()
        if reason:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n".encode())
        return Answer(HTTPStatus.OK, b"ok\n")

    def measured(headers: Mapping[str, str]) -> Answer:
        body, media_type = metrics.exposition(headers.get("accept", ""))
        return Answer(HTTPStatus.OK, body, media_type)

    return HttpServer({"/healthz": healthz, "/readyz": readyz, "/metrics": measured})
