"""Why an app reaches another, or not: the first link that is missing is the cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control_plane.model.apps import create_app, update_app
from control_plane.model.change import decide
from control_plane.model.entities import AppProtocol, InstanceStatus
from control_plane.model.instances import move_instance, set_status
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.names import C2C_PORT, Address, AppGuid, Domain, Hostname, InstanceGuid, Port
from control_plane.planner.chain import (
    MOST_LISTED,
    Link,
    LinkKind,
    Question,
    Seen,
    Verdict,
    listed,
)
from control_plane.planner.explain import explain, first_missing
from control_plane.planner.resolution import preferred_route
from tests.unit.model.world import A, B, allow, mapping, register, world

A0, B0, B1 = InstanceGuid("a0"), InstanceGuid("b0"), InstanceGuid("b1")
ROUTE = Hostname("b.apps.internal")
PORT = Port(8080)
FINE = Seen(is_connected=True, is_served=True, app_ports={PORT: True})
KINDS = list(LinkKind)


def ready(state: State, *guids: InstanceGuid) -> State:
    """Return a State in which these instances are ready."""
    for guid in guids:
        state = set_status(state, guid, InstanceStatus.READY).state
    return state


def everything() -> State:
    """Return a State in which nothing is missing: a may call b, which has two instances."""
    state = register(register(world("a", "b"), A0, A, "10.0.0.1"), B0, B, "10.0.1.1")
    state = allow(register(state, B1, B, "10.0.1.2"), A, B)
    return ready(mapping(state, B, "b").state, A0, B0, B1)


AGAIN = "start its sidecar again; once its identity has ended it needs a new token"


def question(state: State | None = None, **differently: object) -> Question:
    """Return the question whether a reaches b, in a world where it does."""
    state = everything() if state is None else state
    asked = Question(
        state=state,
        source=state.app(A),
        destination=state.app(B),
        route=ROUTE,
        published=state.hostnames_of,
        domains=(Domain("apps.internal"),),
        seen={A0: FINE, B0: FINE, B1: FINE},
    )
    return replace(asked, **differently)  # type: ignore[arg-type]  # a test's keywords


def seeing(**differently: object) -> Question:
    """Return that question with something else known of b's second instance."""
    other = replace(FINE, **differently)  # type: ignore[arg-type]  # likewise
    return question(seen={A0: FINE, B0: FINE, B1: other})


def link(asked: Question, kind: LinkKind) -> Link:
    """Return one link of the answer."""
    return next(each for each in explain(asked) if each.kind is kind)


def missing(asked: Question) -> Link:
    """Return the first link that is missing."""
    found = first_missing(explain(asked))
    assert found is not None
    return found


def test_nothing_is_missing() -> None:
    """Every link holds, and they come in the order in which a request needs them."""
    links = explain(question())

    assert [each.kind for each in links] == KINDS
    assert {each.verdict for each in links} == {Verdict.HOLDS}
    assert {(each.command, each.advice) for each in links} == {("", "")}
    assert first_missing(links) is None
    assert [each.sentence for each in links] == [
        "a calls from 10.0.0.1",
        "b.apps.internal leads to 10.0.1.1, 10.0.1.2",
        "a network policy lets a connect to tcp 61443 of b",
        "61443 is open and leads to port 8080 of the app",
        "every instance serves its certificate with b.apps.internal",
        "every instance accepts connections from its Envoy, which speaks http1 to it",
        "the app cannot be reached by TCP past Envoy",
    ]


def test_who_is_about_to_stop_is_nobodys_trouble() -> None:
    """Its app is closed, and its Envoy gone, because it was told to stop."""
    stops = Seen(app_ports={PORT: False}, serving_problem="it ended", is_draining=True)
    state = set_status(everything(), B1, InstanceStatus.NOT_READY).state

    def trouble(seen: Seen) -> Link | None:
        return first_missing(explain(question(state, seen={A0: FINE, B0: FINE, B1: seen})))

    assert trouble(stops) is None
    assert trouble(replace(stops, is_draining=False)) is not None


def test_no_policy() -> None:
    """The name waits for the policy, and the policy is the cause."""
    state = register(register(world("a", "b"), A0, A, "10.0.0.1"), B0, B, "10.0.1.1")
    asked = question(ready(mapping(state, B, "b").state, A0, B0))

    assert missing(asked).sentence == "no network policy lets a connect to b"
    assert missing(asked).command == "c2c add-network-policy a b --protocol tcp --port 61443"
    assert link(asked, LinkKind.NAME).verdict is Verdict.WAITS


def test_a_policy_for_another_port() -> None:
    """Whoever named the app's own port is told which port it should have been."""
    state = register(register(world("a", "b"), A0, A, "10.0.0.1"), B0, B, "10.0.1.1")
    state = allow(allow(state, A, B, 8080), A, B, 53, "udp")
    asked = question(ready(mapping(state, B, "b").state, A0, B0))

    assert missing(asked).kind is LinkKind.POLICY
    assert missing(asked).sentence == (
        "network policies let a connect to tcp 8080, udp 53 of b, but not to tcp 61443"
    )


def test_an_app_that_calls_itself() -> None:
    """Its names are answered to it without a policy, and no more than its names."""
    state = register(world("a", "b"), B0, B, "10.0.1.1")
    state = ready(mapping(state, B, "b").state, B0)
    asked = question(state, source=state.app(B))

    assert link(asked, LinkKind.NAME).verdict is Verdict.HOLDS
    assert missing(asked).sentence == "no network policy lets b connect to b"


def test_addresses_of_two_families() -> None:
    """Whoever is known by an address of IPv4 is a stranger where it is called at one of IPv6."""
    state = move_instance(everything(), B1, "fd00::1").state
    asked = question(ready(state, B1))

    assert missing(asked) == Link(
        LinkKind.POLICY,
        Verdict.MISSING,
        "b/1 lets in addresses of IPv6 at fd00::1, and a/0 is known by 10.0.0.1",
        advice="start both sidecars with an --address of the same family",
    )
    assert link(replace(asked, index=0), LinkKind.POLICY).verdict is Verdict.HOLDS


def test_a_route_of_two_apps() -> None:
    """Whoever asks about one of them is told of the other, where some of the requests may go."""
    state = mapping(everything(), A, "b").state
    whole, one = question(state), question(state, index=1)

    assert link(whole, LinkKind.NAME).sentence == (
        "b.apps.internal leads to 10.0.1.1, 10.0.1.2, and is a route of a too"
    )
    assert link(one, LinkKind.NAME).sentence == (
        "1.b.apps.internal leads to 10.0.1.2, and b.apps.internal is a route of a too"
    )
    assert link(question(state, source=None), LinkKind.NAME).sentence.endswith(" of a too")
    assert first_missing(explain(whole)) is None


def test_no_route() -> None:
    """Without a route there is no name to ask for."""
    domains = (Domain("apps.internal"), Domain("mesh.example"))
    found = missing(question(route=Hostname(""), domains=domains))

    assert (found.kind, found.sentence) == (
        LinkKind.NAME,
        "no internal route is mapped to b",
    )
    assert found.command == "c2c map-route b apps.internal --hostname b"


def test_a_route_of_no_app() -> None:
    """Nothing else can be said of a name that leads to nobody."""
    domains = (Domain("mesh.example"),)
    asked = question(destination=None, route=Hostname("x.mesh.example"), domains=domains)

    assert [each.kind for each in explain(asked)] == [LinkKind.NAME]
    assert missing(asked).sentence == "no app has the route x.mesh.example"
    assert missing(asked).command == "c2c map-route APP mesh.example --hostname x"


def test_a_route_that_is_not_answered() -> None:
    """A route may be left from before its domain was taken out of the settings."""
    found = missing(question(domains=(Domain("mesh.example"), Domain("more.example"))))

    assert found.sentence == (
        "b.apps.internal is below no internal domain (mesh.example, more.example), so it is not "
        "answered"
    )
    assert found.command == "c2c map-route b mesh.example --hostname b"


def test_a_route_of_no_app_that_is_spelled_almost_right() -> None:
    """Names that look like it are told; the domain, which all have, makes none of them alike."""
    state = mapping(mapping(everything(), B, "shop").state, B, "checkout").state
    told = {
        host: missing(question(state, destination=None, route=Hostname(f"{host}.apps.internal")))
        for host in ("shopp", "nothing")
    }

    assert told["shopp"].advice == "did you mean shop.apps.internal? If not"
    assert told["shopp"].command == "c2c map-route APP apps.internal --hostname shopp"
    assert told["nothing"].advice == ""


@pytest.mark.parametrize(
    ("route", "sentence", "command", "advice"),
    [
        (
            "x.example.com",
            "no app has the route x.example.com, and it is below no internal domain",
            "",
            "internal domains are: apps.internal, mesh.example",
        ),
        (
            "0.x.mesh.example",
            "no app has the route x.mesh.example",
            "c2c map-route APP mesh.example --hostname x",
            "",
        ),
        (
            "0.mesh.example",
            "no app has the route 0.mesh.example",
            "c2c map-route APP mesh.example --hostname 0",
            "",
        ),
        (
            "y.x.mesh.example",
            "no app has the route y.x.mesh.example",
            "",
            "a route has one word before its domain, as in HOST.mesh.example",
        ),
        (
            "mesh.example",
            "no app has the route mesh.example",
            "c2c map-route APP mesh.example --hostname HOST",
            "",
        ),
    ],
)
def test_a_route_of_no_app_that_could_be_mapped_or_not(
    route: str, sentence: str, command: str, advice: str
) -> None:
    """A command is printed only if it would be taken."""
    domains = (Domain("apps.internal"), Domain("mesh.example"))
    found = missing(question(destination=None, route=Hostname(route), domains=domains))

    assert (found.sentence, found.command, found.advice) == (sentence, command, advice)


def test_every_instance_is_gone() -> None:
    """The name leads nowhere, and whatever would be asked of instances waits."""
    state = everything()
    for guid in (B0, B1):
        state = set_status(state, guid, InstanceStatus.GONE).state
    asked = question(state)

    assert missing(asked).sentence == "b.apps.internal leads nowhere: every instance of b is gone"
    assert (missing(asked).advice, missing(asked).command) == (AGAIN, "c2c join-token b")
    waiting = {each.kind for each in explain(asked) if each.verdict is Verdict.WAITS}
    assert waiting == set(KINDS) - {LinkKind.CALLER, LinkKind.NAME, LinkKind.POLICY}


def test_one_instance_is_gone() -> None:
    """The others serve, and the name leads to them."""
    asked = question(set_status(everything(), B0, InstanceStatus.GONE).state)

    assert first_missing(explain(asked)) is None
    assert link(asked, LinkKind.NAME).sentence == "b.apps.internal leads to 10.0.1.2"


def test_no_instance() -> None:
    """An app that nobody runs is told apart from one that went."""
    state = allow(register(world("a", "b"), A0, A, "10.0.0.1"), A, B)
    found = missing(question(mapping(state, B, "b").state))

    assert found.sentence == "b.apps.internal leads nowhere: b has no instances"
    assert (found.advice, found.command) == ("", "c2c join-token b")


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "never there"])
def test_nobody_calls(is_gone: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Without an instance of its own an app calls nobody."""
    state = everything()
    if is_gone:
        asked = question(set_status(state, A0, InstanceStatus.GONE).state)
        why = "every instance of it is gone"
    else:
        state = allow(state, B, B)
        asked = question(allow(state, A, B), source=world("c").app(AppGuid("guid-c")))
        why = "it has no instances"
    found = missing(asked)

    assert found.kind is LinkKind.CALLER
    assert found.sentence.endswith(f"can call: {why}")
    assert found.command.startswith("c2c join-token ")
    assert found.advice == (AGAIN if is_gone else "")


def test_a_name_leads_to_those_that_have_its_certificate() -> None:
    """An instance that was away when the route was mapped is left out until it has it."""
    one = replace(question(), uncertified=lambda _: {B0: {ROUTE}})
    both = replace(question(), uncertified=lambda _: {B0: {ROUTE}, B1: {ROUTE}})

    assert link(one, LinkKind.NAME).sentence == f"{ROUTE} leads to 10.0.1.2"
    assert link(both, LinkKind.NAME).verdict is Verdict.WAITS
    assert link(both, LinkKind.NAME).sentence == (
        f"{ROUTE} resolves once an instance of b has its certificate"
    )


def test_certificate_not_acked() -> None:
    """The name waits for it, and the reason is Envoy's."""
    asked = seeing(certificate_problem="refused: no")
    asked = replace(asked, published=lambda _: ())

    assert missing(asked).kind is LinkKind.CERTIFICATE
    assert missing(asked).sentence == "b/1 has no certificate for it yet: refused: no"
    assert missing(asked).command == "c2c wait b"
    assert link(asked, LinkKind.NAME).verdict is Verdict.WAITS


@pytest.mark.parametrize("has_sidecar", [True, False])
def test_certificate_not_served(*, has_sidecar: bool) -> None:
    """An Envoy that hangs is not waited for, and who starts it is told to start it anew."""
    state = everything()
    state = set_status(state, B1, InstanceStatus.READY, has_sidecar=has_sidecar).state
    asked = replace(seeing(serving_problem="no TLS handshake"), state=state)
    what = "its sidecar, and Envoy with it" if has_sidecar else "its Envoy"

    assert missing(asked) == Link(
        LinkKind.CERTIFICATE,
        Verdict.MISSING,
        "b/1 does not serve the certificate that it ACKed: no TLS handshake",
        advice=f"if that lasts, restart {what}; if that does not help, see whether a firewall "
        "there drops what is sent to 61443",
    )


def test_app_not_listening() -> None:
    """No instance is ready, so the name waits, and the app is the cause."""
    state = everything()
    for guid in (B0, B1):
        state = set_status(state, guid, InstanceStatus.NOT_READY).state
    closed = replace(FINE, app_ports={PORT: False, Port(9090): False})
    asked = question(state, seen={A0: FINE, B0: closed, B1: closed})

    assert missing(asked).kind is LinkKind.APP
    assert missing(asked).sentence == "b/0 does not accept connections on 127.0.0.1:8080, 9090"
    assert missing(asked).advice == "start the app on 127.0.0.1:8080, 9090"
    assert missing(asked).command == ""
    name = link(asked, LinkKind.NAME)
    assert name.verdict is Verdict.WAITS
    assert name.sentence == f"{ROUTE} resolves once an instance of b is ready"


def test_app_not_listening_on_its_only_port() -> None:
    """Who sees that may have an app that listens on another, so the command for that is named."""
    asked = seeing(app_ports={PORT: False})
    assert missing(asked).sentence == "b/1 does not accept connections on 127.0.0.1:8080"
    start = "start the app on 127.0.0.1:8080, or say on which port it listens: "
    assert missing(asked).advice == f"{start}c2c update-app b --port PORT"


def test_addresses_of_ipv6_are_in_brackets_before_a_port() -> None:
    """Else nobody can tell where the address ends."""
    instance = replace(everything().instances[B1], app_address=Address("::1"))
    closed = seeing(app_ports={PORT: False})
    asked = replace(closed, state=everything().put(instance))
    assert missing(asked).sentence == "b/1 does not accept connections on [::1]:8080"

    state = ready(move_instance(everything(), B1, "fd00::1").state, B1)
    exposed = replace(seeing(exposed_ports=(PORT,)), state=state)
    link_ = link(exposed, LinkKind.ISOLATION)
    assert "b/1 can be reached past Envoy on tcp [fd00::1]:8080, where" in link_.sentence


@pytest.mark.parametrize(
    ("protocol", "how"),
    [
        (AppProtocol.HTTP2, "which speaks http2 to it"),
        (AppProtocol.TCP, "which passes bytes on to it"),
    ],
)
def test_what_the_app_is_taken_to_speak(protocol: AppProtocol, how: str) -> None:
    """It is named, since nobody looks whether that is so: what listens may speak something else."""
    app = everything().apps[B]
    state = everything().put(replace(app, protocol=protocol))

    sentence = f"every instance accepts connections from its Envoy, {how}"
    assert link(question(state), LinkKind.APP).sentence == sentence


def test_a_port_that_61443_does_not_lead_to_may_be_closed() -> None:
    """An app that is ready is called, whatever it listens on besides; one that is not says why."""
    ports = {PORT: True, Port(9090): False}
    assert first_missing(explain(seeing(app_ports=ports))) is None

    # Its sidecar was told by hand to wait for both.
    state = set_status(everything(), B1, InstanceStatus.NOT_READY).state
    waiting = replace(seeing(app_ports=ports), state=state, published=state.hostnames_of)
    assert missing(waiting).sentence == "b/1 does not accept connections on 127.0.0.1:9090"


@pytest.mark.parametrize("tried", [{PORT: False}, {}], ids=["tried", "not tried"])
def test_wrong_app_port(tried: dict[Port, bool]) -> None:
    """An app that listens elsewhere is told apart from one that does not listen."""
    found = missing(seeing(app_ports={**tried, Port(9090): True}))

    assert found.kind is LinkKind.PORT
    assert found.sentence == "61443 leads to port 8080 of b/1, which listens on 9090"
    assert found.command == "c2c update-app b --port 9090 --c2c-port 9090"


def test_the_command_keeps_the_other_ports() -> None:
    """An app of several ports loses none but the one that nobody answers."""
    spec = AppSpec("b", ports=(8080, 7070), c2c_port=8080)
    asked = question(update_app(everything(), B, spec).state)
    wrong = replace(FINE, app_ports={PORT: False, Port(9090): True})

    assert missing(replace(asked, seen={B0: wrong})).command == (
        "c2c update-app b --port 9090 --port 7070 --c2c-port 9090"
    )


def test_reachable_past_envoy() -> None:
    """A policy that can be gone around is no policy."""
    found = missing(seeing(exposed_ports=(PORT,)))

    assert found.kind is LinkKind.ISOLATION
    assert found.sentence == (
        "b/1 can be reached past Envoy on tcp 10.0.1.2:8080, where no network policy holds"
    )
    assert (found.advice, found.command) == ("have the app listen on 127.0.0.1 only", "")


def test_an_app_that_has_no_address_of_its_own() -> None:
    """Where Envoy finds the app at the address that all reach, it has to move first."""
    state = move_instance(everything(), B1, "10.0.1.2", "10.0.1.2").state
    seen = {A0: FINE, B0: FINE, B1: replace(FINE, exposed_ports=(PORT,))}

    assert missing(question(state, seen=seen)).advice == (
        "have the app listen on a loopback address only, and its sidecar find it there "
        "(--app-address)"
    )


def test_listener_refused() -> None:
    """Envoy's own words say why 61443 is not open."""
    found = missing(seeing(port_problem="it has too many"))

    assert found.sentence == "the Envoy of b/1 has not opened 61443: it has too many"
    assert found.command == "c2c status b"


def test_a_port_that_is_taken() -> None:
    """The status says no more than this; what helps is to be done on the instance's machine."""
    problem = "cannot bind '10.0.1.2:61443': Address already in use"
    found = missing(seeing(port_problem=problem))

    assert found.sentence == f"the Envoy of b/1 has not opened 61443: {problem}"
    assert found.command == ""
    assert found.advice == (
        "end what listens on 61443 of 10.0.1.2 there ('ss -lntp' shows it); within a minute its "
        "Envoy tries again by itself"
    )


def test_no_envoy_ever_connected() -> None:
    """A registered instance alone serves nobody."""
    state = register(everything(), "b2", B, "10.0.1.3")
    found = missing(question(state))

    assert found.sentence == "nothing listens on 10.0.1.3: the Envoy of b/2 never connected"
    assert (found.advice, found.command) == ("start its sidecar with a token", "c2c join-token b")


def test_an_envoy_that_is_away_may_serve() -> None:
    """It goes on with what it had, so nobody can tell."""
    asked = seeing(is_connected=False)

    assert first_missing(explain(asked)) is None
    for kind in (LinkKind.PORT, LinkKind.CERTIFICATE):
        assert link(asked, kind).verdict is Verdict.UNKNOWN
        assert "the Envoy of b/1 is not connected" in link(asked, kind).sentence


def test_a_certificate_that_was_not_seen_yet() -> None:
    """An ACK alone proves nothing: there is nothing to do about it, and it is not all well."""
    asked = seeing(is_served=False)
    found = missing(asked)

    assert (found.kind, found.verdict) == (LinkKind.CERTIFICATE, Verdict.WAITS)
    assert found.sentence == "b/1 ACKed its certificate, and is not seen to serve it yet"
    policy = missing(replace(asked, state=_without_policies(asked.state)))
    assert policy.kind is LinkKind.POLICY


def test_a_certificate_that_nobody_can_look_at() -> None:
    """It is not claimed to be served, and nobody is kept waiting for what will never be known."""
    asked = seeing(is_served=None)
    found = link(asked, LinkKind.CERTIFICATE)

    assert found.verdict is Verdict.UNKNOWN
    assert found.sentence == ("b/1 ACKed its certificate, and nobody can look whether it serves it")
    assert first_missing(explain(asked)) is None


def test_a_certificate_that_cannot_be_issued() -> None:
    """The one that is served is an old one."""
    found = missing(seeing(certificate_problem="no certificate could be issued: no"))

    assert (found.kind, found.verdict) == (LinkKind.CERTIFICATE, Verdict.MISSING)
    assert found.sentence == (
        "b/1 has no certificate for it yet: no certificate could be issued: no"
    )


def test_an_envoy_that_goes_on_with_what_it_had() -> None:
    """All that it has was ACKed, and is not what it should have."""
    found = missing(seeing(plan_problem="a listener has no name"))

    assert found.sentence == "the Envoy of b/1 goes on with what it had: a listener has no name"
    assert (found.kind, found.command) == (LinkKind.PORT, "c2c status b")


def test_without_a_sidecar_nobody_tells() -> None:
    """Neither that the app listens nor that it is exposed is claimed."""
    asked = seeing(app_ports=None)

    assert first_missing(explain(asked)) is None
    for kind in (LinkKind.APP, LinkKind.ISOLATION):
        assert link(asked, kind).verdict is Verdict.UNKNOWN


def test_a_resolver_that_is_behind() -> None:
    """A caller may be led by names that are out of date."""
    behind = replace(FINE, names_problem="not answered yet")
    found = missing(question(seen={A0: behind, B0: FINE, B1: FINE}))

    assert (found.kind, found.command) == (LinkKind.NAME, "c2c status a")
    assert found.sentence == "the resolver of a/0 does not have the newest names: not answered yet"


def test_windows() -> None:
    """Container networking has no port there."""
    spec = AppSpec("b", os="windows")
    state = mapping(update_app(world("a", "b"), B, spec).state, A, "a").state
    asked = question(state, route=Hostname("a.apps.internal"))

    assert link(asked, LinkKind.PORT).sentence == "61443 leads to no port of b: it runs on windows"


def test_a_name_alone() -> None:
    """Without a caller the policies say who may be one."""
    asked = question(source=None)

    assert [each.kind for each in explain(asked)] == KINDS[1:]
    assert link(asked, LinkKind.POLICY).sentence == "a may connect to tcp 61443 of b"
    assert first_missing(explain(asked)) is None


def test_a_name_that_nobody_may_use() -> None:
    """The command leaves out what only the operator knows."""
    state = ready(mapping(register(world("a", "b"), B0, B, "10.0.1.1"), B, "b").state, B0)
    found = missing(question(allow(state, A, B, 8080), source=None))

    assert found.sentence == "no network policy lets anybody connect to tcp 61443 of b"
    assert found.command == "c2c add-network-policy SOURCE_APP b --protocol tcp --port 61443"


def test_a_sentence_lists_a_few_of_many() -> None:
    """Addresses, callers and ports: whoever has thousands of them still reads the sentence."""
    state = everything()
    for number in range(20):
        guid = InstanceGuid(f"more-{number}")
        state = ready(register(state, guid, B, f"10.0.2.{number}"), guid)
        state = create_app(state, f"guid-caller-{number}", AppSpec(f"caller-{number}")).state
        state = allow(state, AppGuid(f"guid-caller-{number}"), B)
        state = allow(state, A, B, port=7000 + number)
    asked = question(state, seen={})
    without = replace(asked, state=_without_policies_to(state, C2C_PORT))

    leads_to = link(asked, LinkKind.NAME).sentence
    callers = link(replace(asked, source=None), LinkKind.POLICY).sentence
    ports = link(without, LinkKind.POLICY).sentence

    assert leads_to.startswith("b.apps.internal leads to 10.0.1.1, 10.0.1.2, 10.0.2.0, ")
    assert leads_to.endswith(", 10.0.2.7 and 12 more")
    assert callers.endswith(", caller-16 and 11 more may connect to tcp 61443 of b")
    assert ", tcp 7009 and 10 more of b, but not to tcp 61443" in ports


def test_as_many_as_are_listed_are_all() -> None:
    """What is left out is at least one."""
    names = [str(number) for number in range(MOST_LISTED + 1)]

    assert listed(names[:-1]) == ", ".join(names[:-1])
    assert listed(names) == f"{', '.join(names[:-1])} and 1 more"


def test_one_instance_by_its_own_name() -> None:
    """Whatever is so of the other instances does not matter."""
    state = set_status(everything(), B0, InstanceStatus.GONE).state
    other, gone, never = (question(state, index=index) for index in (1, 0, 7))

    assert first_missing(explain(other)) is None
    assert [link(other, kind).sentence for kind in (LinkKind.NAME, *KINDS[4:6])] == [
        "1.b.apps.internal leads to 10.0.1.2",
        "b/1 serves its certificate with 1.b.apps.internal",
        "b/1 accepts connections from its Envoy, which speaks http1 to it",
    ]
    assert missing(gone).sentence == "0.b.apps.internal leads nowhere: b/0 is gone"
    assert (missing(gone).advice, missing(gone).command) == (AGAIN, "c2c join-token b")
    assert missing(never).sentence == "7.b.apps.internal leads nowhere: b has no instance 7"
    assert missing(never).command == "c2c instances b"
    assert {link(each, kind).sentence for each in (gone, never) for kind in KINDS[3:]} == {
        "b/0 is not there to ask",
        "b/7 is not there to ask",
    }


def test_one_instance_of_an_app_without_a_route() -> None:
    """It has no name either."""
    asked = question(route=Hostname(""), index=1)

    assert (asked.called, missing(asked).sentence) == ("", "no internal route is mapped to b")


def test_an_address() -> None:
    """It is said whose it is, and everything else is looked at as with a name."""
    asked = question(route=Hostname(""), index=1, address=Address("10.0.1.2"))

    assert first_missing(explain(asked)) is None
    assert link(asked, LinkKind.NAME).sentence == "10.0.1.2 is the address of b/1"
    assert link(asked, LinkKind.CERTIFICATE).sentence == "b/1 serves its certificate with 10.0.1.2"


def test_an_address_of_nobody() -> None:
    """No command is printed that would map a route to it."""
    address = Address("10.9.9.9")
    found = missing(question(destination=None, route=Hostname(""), address=address))

    assert found.sentence == "10.9.9.9 is an address, and no instance has it"
    assert found.command == "c2c instances --all"


def test_of_several_routes_one_that_leads_there_is_preferred() -> None:
    """Else the first that would be answered, and else the first; there may be none."""
    b = everything().apps[B]
    first, second, old = Hostname("a.apps.internal"), ROUTE, Hostname("a.old.internal")
    asked = question(published=lambda _: (second, old))
    waiting = question(published=lambda _: ())

    assert preferred_route(asked, b, (old, first, second)) == second
    assert preferred_route(waiting, b, (old, first, second)) == first
    assert preferred_route(asked, b, (old,)) == old
    assert preferred_route(asked, b, ()) == ""


def test_of_many_routes_no_more_are_looked_at_than_need_be() -> None:
    """Each look costs as much as the app has routes and instances, and holds up everything else."""
    asked: list[AppGuid] = []

    def published(app: AppGuid) -> tuple[Hostname, ...]:
        asked.append(app)
        return (ROUTE,)

    routes = (ROUTE, *(Hostname(f"b-{number}.apps.internal") for number in range(600)))
    many = question(published=published)

    assert preferred_route(many, world("a", "b").apps[B], routes) == ROUTE
    assert asked == [B]


def test_commands_name_the_space() -> None:
    """An app outside the default space is found by what is printed."""
    state = everything()
    other = AppSpec("b", org="o", space="my space")
    asked = question(update_app(state, B, other).state)
    here = "c2c --org o --space 'my space'"

    assert missing(replace(asked, route=Hostname(""))).command == (
        f"{here} map-route b apps.internal --hostname b"
    )
    assert missing(replace(asked, state=_without_policies(asked.state))).command == (
        "c2c add-network-policy a b -s 'my space' -o o --protocol tcp --port 61443"
    )


def test_sentences_tell_apps_of_one_name_apart() -> None:
    """Where it is about apps of two spaces, it is said of which the other is."""
    state = create_app(everything(), "guid-c", AppSpec("b", space="dev")).state
    state = register(state, InstanceGuid("c0"), AppGuid("guid-c"), "10.0.2.1")
    state = mapping(allow(state, AppGuid("guid-c"), B), AppGuid("guid-c"), "b").state
    asked = question(state)
    to_c = replace(asked, destination=state.app(AppGuid("guid-c")))
    dev = "b in org default / space dev"

    assert link(asked, LinkKind.NAME).sentence.endswith(f", and is a route of {dev} too")
    assert link(replace(asked, source=None), LinkKind.POLICY).sentence == (
        f"a, {dev} may connect to tcp 61443 of b"
    )
    assert link(to_c, LinkKind.POLICY).sentence == f"no network policy lets a connect to {dev}"
    for port, sentence in (
        (Port(80), f"network policies let a connect to tcp 80 of {dev}, but not to tcp 61443"),
        (C2C_PORT, f"a network policy lets a connect to tcp 61443 of {dev}"),
    ):
        allowed = replace(to_c, state=allow(state, A, AppGuid("guid-c"), port))
        assert link(allowed, LinkKind.POLICY).sentence == sentence


def _without_policies_to(state: State, port: Port) -> State:
    dropped = [each for each in state.all_policies() if each.start_port == port]
    return decide(state, None, drops=dropped).state


def _without_policies(state: State) -> State:
    for policy in state.all_policies():
        state = state.drop(policy)
    return state
