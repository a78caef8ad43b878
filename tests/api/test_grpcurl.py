"""Operators can do everything with the real grpcurl."""

from __future__ import annotations

from pathlib import Path

from tests.api.serving import grpcurl
from tests.api.world import control_plane


async def test_grpcurl_maps_a_route(tmp_path: Path) -> None:
    """From nothing to a mapped route with no tool of ours and no .proto file at hand."""
    route = {"app": "app-b", "hostname": "app-b", "domain": "apps.internal"}
    async with control_plane(tmp_path) as plane:

        async def do(method: str, request: dict[str, object]) -> dict[str, object]:
            answer: dict[str, object] = (
                await grpcurl(plane.socket, f"c2c.v1.{method}", request=request)
            ).json()
            return answer

        created = await do("AppService/CreateApp", {"name": "app-b"})
        mapped = await do("RouteService/MapRoute", {**route, "wait": "WAIT_ACKED"})
        again = await do("RouteService.MapRoute", dict(route))
        listed = await do("RouteService/ListRoutes", {})

    assert created["revision"] == "1"
    assert mapped["complete"] is True
    assert mapped["revision"] == again["revision"] == "2"
    assert ("already" in mapped, again["already"]) == (False, True)
    assert listed["routes"] == [mapped["route"]]


async def test_grpcurl_shows_why_a_request_was_refused(tmp_path: Path) -> None:
    """A refusal has its code, its sentence, and the field at fault as a detail that is readable."""
    async with control_plane(tmp_path) as plane:
        answer = await grpcurl(plane.socket, "c2c.v1.AppService/CreateApp", request={"name": "a b"})

    assert answer.code != 0
    assert "Code: InvalidArgument" in answer.err
    assert "Message: app name must start with a letter or digit" in answer.err
    assert '"@type":"type.googleapis.com/google.rpc.BadRequest"' in answer.err
    assert '"field":"name"' in answer.err
