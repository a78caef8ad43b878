"""RouteService: which internal routes lead to which apps (protos/c2c/v1/route.proto).

The rule of this module: a call is answered when the change is durable, and the answer says how far
the data plane has followed. If the caller asked to wait, the call waits even if nothing had to be
changed, because an earlier caller may not have waited.
"""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.api.v1 import route_pb2, route_pb2_grpc
from control_plane.model.apps import find_app
from control_plane.model.change import Decision
from control_plane.model.entities import RouteMapping
from control_plane.model.routes import RouteResult, map_route, unmap_route
from control_plane.model.state import State
from control_plane.names import Domain
from control_plane.registry import Registry
from control_plane.server.access.admission import Context
from control_plane.server.api.messages import AT_ONCE, route_message
from control_plane.server.api.selection import asked_apps
from control_plane.server.api.waiting import Progress, laggards, parse_wait
from control_plane.server.budget import CertificateBudget
from control_plane.server.turns import unhurried


class RouteService(route_pb2_grpc.RouteServiceServicer):
    """Maps, unmaps and shows internal routes."""

    def __init__(
        self,
        registry: Registry,
        progress: Progress,
        budget: CertificateBudget,
        internal_domains: Sequence[Domain],
    ) -> None:
        """Serve the routes of a registry.

        Args:
            registry: the one writer.
            progress: knows how far a change got.
            budget: refuses a route that would make a certificate too large.
            internal_domains: the domains in which routes may be; a request that names none means
                the first.
        """
        self._registry = registry
        self._progress = progress
        self._budget = budget
        self._internal_domains = tuple(internal_domains)

    async def MapRoute(
        self, request: route_pb2.MapRouteRequest, context: Context
    ) -> route_pb2.MapRouteResponse:
        """Map a route to an app, or find that it is mapped already."""
        wait = parse_wait(request.wait, request.timeout if request.HasField("timeout") else None)
        committed = await self._registry.execute(lambda state: self._map(state, request))
        state, mapping = committed.state, committed.result.mapping
        behind = await laggards(self._progress, state, [mapping.app_guid], wait, context)
        return route_pb2.MapRouteResponse(
            route=route_message(state, mapping),
            already=committed.result.already,
            revision=committed.revision,
            complete=not behind,
            behind=behind,
        )

    async def UnmapRoute(
        self, request: route_pb2.UnmapRouteRequest, context: Context
    ) -> route_pb2.UnmapRouteResponse:
        """Unmap a route from an app, or find that it is not mapped to it."""
        wait = parse_wait(request.wait, request.timeout if request.HasField("timeout") else None)
        committed = await self._registry.execute(lambda state: self._unmap(state, request))
        state, mapping = committed.state, committed.result.mapping
        behind = await laggards(self._progress, state, [mapping.app_guid], wait, context)
        return route_pb2.UnmapRouteResponse(
            route=route_message(state, mapping),
            already=committed.result.already,
            revision=committed.revision,
            complete=not behind,
            behind=behind,
        )

    async def ListRoutes(
        self, request: route_pb2.ListRoutesRequest, context: Context
    ) -> route_pb2.ListRoutesResponse:
        """Show every route mapping, or the mappings to an app or to the apps of a space."""
        state = self._registry.state
        mappings = sorted(
            RouteMapping(hostname, app.guid)
            for app in asked_apps(state, request)
            for hostname in state.hostnames_of(app.guid)
        )
        return route_pb2.ListRoutesResponse(
            routes=[route_message(state, each) async for each in unhurried(mappings, AT_ONCE)]
        )

    def _map(self, state: State, request: route_pb2.MapRouteRequest) -> Decision[RouteResult]:
        app = find_app(state, request.app, request.org, request.space)
        domain = request.domain or self._internal_domains[0]
        decision = map_route(state, app.guid, request.hostname, domain, self._internal_domains)
        if decision.change:
            self._budget.check(decision.state, app.guid, field="hostname")
        return decision

    def _unmap(self, state: State, request: route_pb2.UnmapRouteRequest) -> Decision[RouteResult]:
        app = find_app(state, request.app, request.org, request.space)
        domain = request.domain or self._internal_domains[0]
        return unmap_route(state, app.guid, request.hostname, domain)
