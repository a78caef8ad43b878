"""Whether a name leads to instances: the link that the others follow from.

The rule of this module: a name that no app can have is distinguished from one that no app has yet,
and an instance that left from one that never existed, since the remedy differs each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from control_plane.model.entities import App, Instance, InstanceStatus
from control_plane.model.nearest import nearest
from control_plane.names import Domain, Hostname
from control_plane.planner import advice
from control_plane.planner.chain import (
    Link,
    LinkKind,
    Question,
    Verdict,
    holds,
    label,
    listed,
    missing,
    remaining,
    waits,
)

_NAME = LinkKind.NAME


def resolved(question: Question, app: App) -> Link:
    """Say whether the name or address that is called leads to an app."""
    route, called, name = question.route, question.called, app.key.name
    if not called:
        command = advice.map_route(app, question.domains[0])
        return missing(_NAME, f"no internal route is mapped to {name}", command)
    if route and not _is_below(route, question.domains):
        return missing(
            _NAME,
            f"{route} is below no internal domain ({listed(question.domains)}), so it is not "
            "answered",
            advice.map_route(app, question.domains[0]),
        )
    there = remaining(question.instances_of(app))
    if not there:
        return _leads_nowhere(question, app)
    if not route:
        return holds(_NAME, f"{called} is the address of {label(app, there[0])}")
    return _answered(question, app, there)


def preferred_route(question: Question, app: App, routes: Sequence[Hostname]) -> Hostname:
    """Return the best route to call an app by: the first that leads to it, if one does."""
    for route in routes:
        if resolved(replace(question, route=route), app).verdict is Verdict.HOLDS:
            return route
    answered = (route for route in routes if _is_below(route, question.domains))
    return next(answered, next(iter(routes), Hostname("")))


def unresolved(question: Question) -> Link:
    """Say what to do about a name, or an address, that no app has."""
    called, route, domains = question.called, question.route, question.domains
    if not route:
        sentence = f"{called} is an address, and no instance has it"
        return missing(_NAME, sentence, advice.instances())
    domain = next((each for each in domains if f".{route}".endswith(f".{each}")), None)
    if domain is None:
        sentence = f"no app has the route {route}, and it is below no internal domain"
        return missing(_NAME, sentence, advice=f"internal domains are: {listed(domains)}")
    host = route.removesuffix(domain).removesuffix(".")
    index, _, rest = host.partition(".")
    if rest and index.isdecimal():
        host = rest
    if "." in host:
        return missing(
            _NAME,
            f"no app has the route {route}",
            advice=f"a route has one word before its domain, as in HOST.{domain}",
        )
    wanted = f"{host}.{domain}" if host else route
    # All names below one domain look alike, so only what stands before the domain is compared.
    routes = question.state.apps_by_hostname
    hosts = [each.removesuffix(f".{domain}") for each in routes if each.endswith(f".{domain}")]
    near = " or ".join(f"{each}.{domain}" for each in nearest(host, hosts))
    meant = f"did you mean {near}? If not" if near else ""
    sentence = f"no app has the route {wanted}"
    return missing(_NAME, sentence, advice.map_route(None, domain, host), meant)


def departed(kind: LinkKind, sentence: str, app: App) -> Link:
    """Return the missing link where instances left, which can come back as themselves."""
    return missing(
        kind,
        sentence,
        advice.join_token(app),
        "start its sidecar again; once its identity has ended it needs a new token",
    )


def _leads_nowhere(question: Question, app: App) -> Link:
    called, index, name = question.called, question.index, app.key.name
    if question.instances_of(app):
        whose = f"every instance of {name}" if index is None else f"{name}/{index}"
        return departed(_NAME, f"{called} leads nowhere: {whose} is gone", app)
    if index is not None:
        sentence = f"{called} leads nowhere: {name} has no instance {index}"
        return missing(_NAME, sentence, advice.instances(app))
    sentence = f"{called} leads nowhere: {name} has no instances"
    return missing(_NAME, sentence, advice.join_token(app))


def _answered(question: Question, app: App, there: Sequence[Instance]) -> Link:
    """Say whether resolvers answer a route, and with the addresses of which instances."""
    route, called, name = question.route, question.called, app.key.name
    ready = [each for each in there if each.status is InstanceStatus.READY]
    if route not in question.published(app.guid):
        return waits(_NAME, f"{called} resolves once its certificates are ACKed")
    if not ready:
        return waits(_NAME, f"{called} resolves once an instance of {name} is ready")
    uncertified = question.uncertified(app.guid)
    able = [each for each in ready if route not in uncertified.get(each.guid, ())]
    if not able:
        return waits(_NAME, f"{called} resolves once an instance of {name} has its certificate")
    return _answered_to(question, app, listed(each.address for each in able))


def _answered_to(question: Question, app: App, addresses: str) -> Link:
    """Say whether the caller's resolvers answer, if there is a caller."""
    source, called = question.source, question.called
    if source is None:
        return _leads_to(question, app, addresses)
    policies = question.state.policies_to(app.guid)
    if source != app and all(each.source != source.guid for each in policies):
        sentence = f"{called} resolves for {source.key.name} once a policy lets it connect"
        return waits(_NAME, sentence)
    for each in question.state.instances_of(source.guid):
        if problem := question.of(each).names_problem:
            return missing(
                _NAME,
                f"the resolver of {label(source, each)} does not have the newest names: {problem}",
                advice.status(source),
            )
    return _leads_to(question, app, addresses)


def _leads_to(question: Question, app: App, addresses: str) -> Link:
    """Say where a route leads, and which other apps have it: some of the requests may go there."""
    route, called, apps = question.route, question.called, question.state.apps
    others = [apps[each].key for each in question.state.apps_of(route) if each != app.guid]
    who = listed(each.named_in(app.key.place) for each in others)
    it = "" if called == route else f"{route} "
    shared = f", and {it}is a route of {who} too" if others else ""
    return holds(_NAME, f"{called} leads to {addresses}{shared}")


def _is_below(route: Hostname, domains: Iterable[Domain]) -> bool:
    return route.endswith(tuple(f".{domain}" for domain in domains))
