"""Explain: what is known of instances, and what follows from it, as messages.

The rule of this module: this module looks, and ``planner.explain`` concludes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import assert_never

from control_plane.api.v1 import inspection_pb2
from control_plane.envoy.clusters import service_cluster_name
from control_plane.envoy.listeners import listener_name
from control_plane.envoy.rbac import sources_filter_name
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.apps import find_app
from control_plane.model.entities import App, AppProtocol, Instance
from control_plane.model.state import State
from control_plane.names import C2C_PORT, Domain, Hostname, InstanceGuid, Port
from control_plane.planner.chain import Link, Question, Seen, Verdict
from control_plane.planner.destination import Destination, destinations
from control_plane.planner.explain import explain, first_missing
from control_plane.planner.names import NAME_TABLE_TYPE, PublishedNames, UncertifiedNames
from control_plane.planner.resolution import preferred_route
from control_plane.reconciler.certificates.ledger import CertificateState
from control_plane.server.api.inspection_status import certificate_reason, statuses
from control_plane.server.api.inspection_values import AT_ONCE, Inspected
from control_plane.server.observability.stream_log import shortened
from control_plane.server.turns import unhurried
from control_plane.xds.delivery import ConfigStatus
from control_plane.xds.type_status import TypeStatus

_VERDICTS = {
    Verdict.UNKNOWN: inspection_pb2.LINK_STATE_UNKNOWN,
    Verdict.HOLDS: inspection_pb2.LINK_STATE_HOLDS,
    Verdict.WAITS: inspection_pb2.LINK_STATE_WAITS,
    Verdict.MISSING: inspection_pb2.LINK_STATE_MISSING,
}


@dataclass(frozen=True, slots=True)
class Explainer:
    """Answers questions about the current State.

    Attributes:
        published: the routes of an app that may be resolved by now.
        uncertified: the instances to which these routes do not lead yet.
        domains: the domains below which names are answered.
    """

    inspected: Inspected
    published: PublishedNames
    uncertified: UncertifiedNames
    domains: tuple[Domain, ...]

    async def chains(self, request: inspection_pb2.ExplainRequest) -> list[inspection_pb2.Chain]:
        """Return a chain for each app that the request is about.

        Raises:
            InvalidArgument: no destination is given, or an address that no instance can have.
            NotFound: there is no such app, nor anything that could be a route.
        """
        state = self.inspected.state()
        source = None
        if request.source:
            source = find_app(
                state, request.source, request.source_org, request.source_space, field="source"
            )
        org = request.destination_org or request.source_org
        space = request.destination_space or request.source_space
        found = destinations(state, request.destination, org, space)
        return [await self._chain(state, source, each) for each in found]

    async def _chain(
        self, state: State, source: App | None, meant: Destination
    ) -> inspection_pb2.Chain:
        destination = meant.app
        ends = [each for each in (source, destination) if each is not None]
        instances = [each for app in ends for each in state.instances_of(app.guid)]
        seen = {
            each.guid: self._seen(state, each, source)
            async for each in unhurried(instances, AT_ONCE)
        }
        question = Question(
            state,
            source,
            destination,
            meant.route or Hostname(""),
            self.published,
            self.domains,
            seen,
            self.uncertified,
            meant.index,
            meant.address,
        )
        if destination is not None and meant.route is None:
            routes = state.hostnames_of(destination.guid)
            question = replace(question, route=preferred_route(question, destination, routes))
        links = explain(question)
        missing = first_missing(links)
        chain = inspection_pb2.Chain(
            route=question.called,
            links=map(_message, links),
            complete=missing is None,
            missing=_message(missing) if missing is not None else None,
        )
        if source is not None:
            chain.source, chain.source_guid = source.key.name, source.guid
            chain.source_org, chain.source_space = source.key.place
        if destination is not None:
            chain.destination, chain.destination_guid = destination.key.name, destination.guid
            chain.destination_org, chain.destination_space = destination.key.place
        return chain

    def _seen(self, state: State, instance: Instance, caller: App | None) -> Seen:
        """Return what is known of an instance besides the State, as far as it concerns a caller."""
        attestation = self.inspected.attestation
        found = statuses(self.inspected, instance.guid)
        names = found.get(NAME_TABLE_TYPE)
        ports = attestation.app_ports(instance.guid)
        certificate_problem, serving_problem = self._certificate_problems(instance.guid)
        word = self.inspected.word(instance.guid)
        return Seen(
            is_connected=any(url != NAME_TABLE_TYPE for url in found),
            plan_problem=self.inspected.plan_failure(instance.guid),
            port_problem=_port_problem(found.values(), state.apps[instance.app_guid], caller),
            certificate_problem=certificate_problem,
            serving_problem=serving_problem,
            is_served=self.inspected.proof.is_seen(instance.guid),
            names_problem=shortened(names.reason) if names is not None else "",
            app_ports=None if ports is None else {Port(n): is_open for n, is_open in ports.items()},
            exposed_ports=tuple(map(Port, attestation.exposed(instance.guid))),
            is_draining=word is not None and word.draining,
        )

    def _certificate_problems(self, instance: InstanceGuid) -> tuple[str, str]:
        """Return why an instance cannot serve what it should, and why it does not although it can.

        At least one of the two is "".
        """
        entry = self.inspected.ledger.get(instance, C2C_SECRET)
        reason = certificate_reason(self.inspected, instance, entry)
        # If no other certificate could be issued, the one that the instance has and serves is an
        # old one.
        if entry is None or self.inspected.custody.failure(instance):
            return reason, ""
        if not self.inspected.nodes.streams(instance):
            return reason, ""
        match entry.state:
            case CertificateState.ISSUED:
                return reason or "it was issued, and is not ACKed yet", ""
            case CertificateState.NOT_SERVED:
                return "", reason
            case CertificateState.ACKED | CertificateState.SERVED:
                return "", ""
            case _:
                assert_never(entry.state)


def _port_problem(found: Iterable[TypeStatus], app: App, caller: App | None) -> str:
    """Return what is wrong with the way through Envoy from 61443 to the app; "" if nothing is."""
    if app.c2c_port is None:
        return ""
    needed = {service_cluster_name(app.c2c_port), listener_name(app.c2c_port, C2C_PORT)}
    if caller is not None and app.protocol is not AppProtocol.TCP:
        needed.add(sources_filter_name(C2C_PORT, caller.guid))
    for status in found:
        for each in status.deliveries:
            if each.name not in needed or each.status is ConfigStatus.SYNCED:
                continue
            if each.refusal is not None and each.status is ConfigStatus.ERROR:
                return f"it refused {each.name}: {shortened(each.refusal.error.message)}"
            return f"it has not ACKed {each.name} yet"
    return ""


def _message(link: Link) -> inspection_pb2.Link:
    return inspection_pb2.Link(
        kind=link.kind.value,
        state=_VERDICTS[link.verdict],
        sentence=link.sentence,
        command=link.command,
        advice=link.advice,
    )
