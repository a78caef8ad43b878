"""What the services answer, and that asking twice changes nothing."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.ca import read_certificates
from control_plane.model.entities import InstanceStatus, JoinToken
from control_plane.model.instances import set_status
from control_plane.model.tokens import spend_token
from control_plane.names import Domain, InstanceGuid
from control_plane.server.api.join_tokens import token_digest
from tests.api.world import ControlPlane, Fields, control_plane
from tests.unit.model.refusals import SETUP
from tests.unit.server_security.still_clock import NOON

APP_B = {
    "guid": "guid-b",
    "name": "app-b",
    "space": "default",
    "org": "default",
    "protocol": "http1",
    "os": "linux",
    "ports": [8080, 9090],
    "c2c_port": 8080,
    "ssh": False,
    "health_check_type": "port",
    "routes": ["app-b.apps.internal"],
    "instances": 1,
    "ready_instances": 0,
}
INSTANCE_B0 = {
    "guid": "inst-b0",
    "app": "app-b",
    "app_guid": "guid-b",
    "index": 0,
    "address": "10.255.0.4",
    "app_address": "127.0.0.1",
    "connected": False,
    "space": "default",
    "org": "default",
    "status": "registered",
}
ROUTE_B = {
    "route": "app-b.apps.internal",
    "hostname": "app-b",
    "domain": "apps.internal",
    "app": "app-b",
    "app_guid": "guid-b",
    "space": "default",
    "org": "default",
}
POLICY_A_B = {
    "source": "app-a",
    "source_space": "default",
    "source_org": "default",
    "destination": "app-b",
    "destination_space": "default",
    "destination_org": "default",
    "protocol": "tcp",
    "start_port": 61443,
    "end_port": 61443,
    "source_guid": "guid-a",
    "destination_guid": "guid-b",
}
NOTE = (
    "nothing listens on tcp port 8080 of app app-b: without --unproxied-port-mappings only ports "
    "with TLS are open, 61443 for HTTPS"
)

SETUP_IDS = [f"{number}-{method}" for number, (method, _) in enumerate(SETUP)]


async def test_what_was_set_up_is_listed(tmp_path: Path) -> None:
    """Each list shows flat messages that name the app in every way."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        apps = await plane.call("ListApps")
        app = await plane.call("GetApp", {"app": "guid-b"})
        instances = await plane.call("ListInstances")
        routes = await plane.call("ListRoutes")
        policies = await plane.call("ListNetworkPolicies")

    assert [each["name"] for each in apps["apps"]] == ["app-a", "app-b", "app-w"]
    assert apps["apps"][1] == app["app"] == APP_B
    assert instances == {"instances": [INSTANCE_B0]}
    assert routes == {"routes": [ROUTE_B]}
    assert policies == {"policies": [POLICY_A_B]}


@pytest.mark.parametrize(("method", "request_"), SETUP, ids=SETUP_IDS)
async def test_making_what_exists_is_ok_and_changes_nothing(
    tmp_path: Path, method: str, request_: Fields
) -> None:
    """The second call of the same has the same answer but for `already`, and no revision more."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        before = plane.registry.state
        answer = await plane.call(method, request_)
        after = plane.registry.state

    outcomes = answer.get("outcomes", [answer])
    assert [each["already"] for each in outcomes] == [True]
    assert answer["revision"] == str(len(SETUP))
    assert after is before


REMOVALS: tuple[tuple[str, Fields], ...] = (
    ("RemoveNetworkPolicies", {"policies": [POLICY_A_B]}),
    ("UnmapRoute", {"app": "app-b", "hostname": "APP-B"}),
    ("RemoveInstance", {"guid": "inst-b0"}),
    ("DeleteApp", {"app": "app-b"}),
)


@pytest.mark.parametrize(("method", "request_"), REMOVALS, ids=[each for each, _ in REMOVALS])
async def test_removing_what_is_gone_is_ok_and_changes_nothing(
    tmp_path: Path, method: str, request_: Fields
) -> None:
    """The first call removes, the second finds nothing to remove, and both are OK."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        first = await plane.call(method, request_)
        between = plane.registry.state
        second = await plane.call(method, request_)
        after = plane.registry.state

    flags = [each.get("outcomes", [each])[0]["already"] for each in (first, second)]
    assert flags == [False, True]
    assert first["revision"] == second["revision"] == str(len(SETUP) + 1)
    assert after is between


async def test_deleting_an_app_takes_all_that_is_its(tmp_path: Path) -> None:
    """After DeleteApp no instance, route or policy of the app is listed."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        await plane.call("DeleteApp", {"app": "app-b"})
        lists = [
            await plane.call(each)
            for each in ("ListInstances", "ListRoutes", "ListNetworkPolicies")
        ]

    assert lists == [{"instances": []}, {"routes": []}, {"policies": []}]


async def test_what_was_answered_is_there_after_a_restart(tmp_path: Path) -> None:
    """A second control plane on the same directory lists what the first one answered for."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        before = [await plane.call(each) for each in ("ListApps", "ListRoutes", "ListInstances")]
    async with control_plane(tmp_path) as plane:
        after = [await plane.call(each) for each in ("ListApps", "ListRoutes", "ListInstances")]

    assert before == after


async def test_an_update_leaves_alone_what_it_does_not_name(tmp_path: Path) -> None:
    """Fields that are absent stay, also where their value would be false, empty or zero."""
    created = {"name": "x", "guid": "guid-x", "ports": [7070, 9090], "ssh": True, "c2c_port": 9090}
    async with control_plane(tmp_path) as plane:
        app = (await plane.call("CreateApp", created))["app"]
        steps: list[Fields] = [
            {"protocol": "tcp"},
            {"ssh": False},
            {"c2c_port": 0},
            {"ports": [8080, 7070]},
            {"name": "y"},
            {},
            {"health_check_type": "process"},
            {"health_check_type": ""},
        ]
        answers = [await plane.call("UpdateApp", {"app": "guid-x", **step}) for step in steps]

    app |= {"protocol": "tcp"}
    assert answers[0]["app"] == app
    app |= {"ssh": False}
    assert answers[1]["app"] == app
    app |= {"c2c_port": 7070}
    assert answers[2]["app"] == app
    app |= {"ports": [8080, 7070], "c2c_port": 8080}
    assert answers[3]["app"] == app
    app |= {"name": "y"}
    assert answers[4]["app"] == answers[5]["app"] == app
    assert answers[6]["app"] == {**app, "health_check_type": "process"}
    assert answers[7]["app"] == app
    assert [each["already"] for each in answers] == [False] * 5 + [True, False, False]


async def test_an_app_that_moves_to_windows_leaves_its_c2c_port_behind(tmp_path: Path) -> None:
    """There it has none, so only who asks for one is refused, and later it has the default."""
    created = {"name": "x", "ports": [8080, 9090], "c2c_port": 9090}
    moves: list[Fields] = [{"os": "windows"}, {"os": "linux"}]
    async with control_plane(tmp_path) as plane:
        await plane.call("CreateApp", created)
        with pytest.raises(grpc.aio.AioRpcError, match="not available for apps hosted on Windows"):
            await plane.call("UpdateApp", {"app": "x", "os": "windows", "c2c_port": 9090})
        answers = [await plane.call("UpdateApp", {"app": "x", **move}) for move in moves]

    assert [each["app"]["c2c_port"] for each in answers] == [0, 8080]


async def test_guids_are_made_for_what_comes_without(tmp_path: Path) -> None:
    """An app and an instance that name no GUID get one, and keep it when they come again."""
    app = {"name": "app-c"}
    instance = {"app": "app-c", "address": "10.255.0.9"}
    async with control_plane(tmp_path) as plane:
        made = [await plane.call("CreateApp", app), await plane.call("RegisterInstance", instance)]
        again = [await plane.call("CreateApp", app), await plane.call("RegisterInstance", instance)]

    assert made[0]["app"]["guid"] == again[0]["app"]["guid"] == "new-guid-1"
    assert made[1]["instance"]["guid"] == again[1]["instance"]["guid"] == "new-guid-2"


async def test_lists_can_be_narrowed(tmp_path: Path) -> None:
    """Apps by org and space, instances and routes by app or space, policies by either end."""
    more: list[tuple[str, Fields]] = [
        ("CreateApp", {"name": "app-b", "guid": "guid-b2", "space": "dev", "org": "acme"}),
        ("RegisterInstance", {"app": "guid-b2", "guid": "inst-b2", "address": "10.255.0.7"}),
        ("MapRoute", {"app": "app-b", "space": "dev", "org": "acme", "hostname": "app-b"}),
        ("AddNetworkPolicies", {"policies": [POLICY_A_B | {"destination": "guid-b2"}]}),
    ]
    place = {"space": "dev", "org": "acme"}
    dev, in_dev = {"app": "app-b", **place}, {"in_space": True, **place}
    to_b2 = {"source": "app-a", "destination": "guid-b2"}
    async with control_plane(tmp_path) as plane:
        await plane.do([*SETUP, *more])
        org = await plane.call("ListApps", {"org": "acme"})
        space = await plane.call("ListApps", {"space": "default"})
        instances = await plane.call("ListInstances", dev)
        routes = await plane.call("ListRoutes", dev)
        shared = await plane.call("ListRoutes")
        from_a = await plane.call("ListNetworkPolicies", {"source": "app-a"})
        to_b = await plane.call("ListNetworkPolicies", {"destination": "app-b"})
        both = await plane.call("ListNetworkPolicies", to_b2)
        none = await plane.call("ListNetworkPolicies", {"source": "app-b"})
        of_space = [
            await plane.call("ListInstances", in_dev),
            await plane.call("ListRoutes", in_dev),
            await plane.call("ListNetworkPolicies", {"in_source_space": True}),
        ]
        elsewhere = {"source_space": "dev", "source_org": "acme", "in_source_space": True}
        nothing = await plane.call("ListNetworkPolicies", elsewhere)
        every = [
            await plane.call("ListInstances", place),
            await plane.call("ListNetworkPolicies", {"source_space": "dev"}),
        ]

    assert [each["guid"] for each in org["apps"]] == ["guid-b2"]
    assert [each["guid"] for each in space["apps"]] == ["guid-a", "guid-b", "guid-w"]
    assert [each["guid"] for each in instances["instances"]] == ["inst-b2"]
    assert [each["app_guid"] for each in routes["routes"]] == ["guid-b2"]
    assert [each["app_guid"] for each in shared["routes"]] == ["guid-b", "guid-b2"]
    assert [each["destination_org"] for each in from_a["policies"]] == ["acme", "default"]
    assert [each["destination_guid"] for each in to_b["policies"]] == ["guid-b"]
    assert [each["destination_guid"] for each in both["policies"]] == ["guid-b2"]
    assert none["policies"] == nothing["policies"] == []
    assert of_space == [instances, routes, from_a]
    # Beside what is asked of every space, a space says nothing.
    assert [each["guid"] for each in every[0]["instances"]] == ["inst-b2", "inst-b0"]
    assert every[1] == from_a


async def test_an_instance_is_shown_as_connected_while_it_is(tmp_path: Path) -> None:
    """`connected` is what the streams say at the moment of the call."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        plane.connected.add(InstanceGuid("inst-b0"))
        connected = await plane.call("ListInstances")
        plane.connected.clear()
        gone = await plane.call("ListInstances")

    assert connected["instances"] == [INSTANCE_B0 | {"connected": True}]
    assert gone["instances"] == [INSTANCE_B0]


async def test_an_app_has_the_instances_that_are_not_gone(tmp_path: Path) -> None:
    """Where each start is another instance, its number is not of all that ever were."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        for number, status in enumerate(InstanceStatus):
            guid, address = InstanceGuid(f"inst-b{number + 1}"), f"127.0.2.{number + 1}"
            fields = {"app": "app-b", "address": address, "guid": guid}
            await plane.call("RegisterInstance", fields)
            await plane.registry.execute(partial(set_status, guid=guid, status=status))
        shown = (await plane.call("GetApp", {"app": "app-b"}))["app"]

    # One of each status but gone, and the one that SETUP registers.
    assert (shown["instances"], shown["ready_instances"]) == (len(InstanceStatus), 1)


async def test_the_first_internal_domain_is_meant_where_none_is_named(tmp_path: Path) -> None:
    """Mapping and unmapping without a domain is about the first; others can be named."""
    domains = [Domain("mesh.example"), Domain("apps.internal")]
    host = {"app": "app-b", "hostname": "shop"}
    async with control_plane(tmp_path, domains) as plane:
        await plane.call("CreateApp", {"name": "app-b"})
        first = await plane.call("MapRoute", host)
        second = await plane.call("MapRoute", host | {"domain": "apps.internal"})
        unmapped = await plane.call("UnmapRoute", host)
        left = await plane.call("ListRoutes")

    assert first["route"]["route"] == unmapped["route"]["route"] == "shop.mesh.example"
    assert second["route"]["domain"] == "apps.internal"
    assert [each["route"] for each in left["routes"]] == ["shop.apps.internal"]


async def test_policies_of_one_request_have_their_own_outcomes(tmp_path: Path) -> None:
    """Of several policies each is told whether it was there, in order, and what it does not do."""
    request = {"policies": [POLICY_A_B, POLICY_A_B | {"start_port": 8080, "end_port": 8080}]}
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        added = await plane.call("AddNetworkPolicies", request)
        removed = await plane.call("RemoveNetworkPolicies", request)

    assert [(each["already"], each["note"]) for each in added["outcomes"]] == [
        (True, ""),
        (
            False,
            NOTE,
        ),
    ]
    assert added["outcomes"][0]["policy"] == POLICY_A_B
    assert [(each["already"], each["note"]) for each in removed["outcomes"]] == [
        (False, ""),
        (False, ""),
    ]


async def test_the_trust_bundle_can_be_read(tmp_path: Path) -> None:
    """GetTrustBundle returns the CA's certificate in PEM, the trust domain, and where xDS is."""
    async with control_plane(tmp_path) as plane:
        answer = await plane.call("GetTrustBundle")

    (ca,) = read_certificates(answer["trust_bundle"].encode())
    assert ca.fingerprint == plane.fingerprint
    assert answer["trust_domain"] == "c2c.internal"
    assert answer["xds_server"] == "203.0.113.7:18000"


async def stored_token(plane: ControlPlane, answer: dict[str, Any]) -> JoinToken:
    """Return what is kept of a token that was answered."""
    token = plane.registry.state.token(token_digest(answer["token"]))

    assert token is not None

    return token


def content(directory: Path) -> bytes:
    """Return all that the files below a directory hold."""
    return b"".join(each.read_bytes() for each in directory.rglob("*") if each.is_file())


async def test_a_join_token_is_shown_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    """The answer has the token and how to find the server; the State has its hash and limits."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        answer = await plane.call("CreateJoinToken", {"app": "app-b"})
        kept = await stored_token(plane, answer)
        bound = {"app": "app-a", "ttl": "90s", "uses": 3, "address_range": "10.255.0.0/16"}
        other = await stored_token(plane, await plane.call("CreateJoinToken", bound))
        everything = content(tmp_path)

    assert answer == {
        "token": "token-1",
        "server": "203.0.113.7:18001",
        "fingerprint": plane.fingerprint,
        "expires_at": "2026-01-01T12:10:00Z",
        "guid": "token-guid-1",
    }
    assert (kept.app_guid, kept.uses_left, kept.address_range) == ("guid-b", 1, "")
    assert kept.expires_at == NOON + timedelta(minutes=10)
    assert (other.app_guid, other.uses_left, other.address_range) == (
        "guid-a",
        3,
        "10.255.0.0/16",
    )
    assert other.expires_at == NOON + timedelta(seconds=90)
    assert b"guid-b" in everything
    assert b"token-1" not in everything


async def test_join_tokens_that_are_good_are_listed_without_what_they_are(tmp_path: Path) -> None:
    """By a GUID that is no part of the token or of its hash, so nobody can check a guess by it."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        made = await plane.call("CreateJoinToken", {"app": "app-b", "uses": 2})
        await plane.call("CreateJoinToken", {"app": "app-a", "ttl": "60s"})
        await plane.registry.execute(
            lambda state: spend_token(state, token_digest(made["token"]), NOON)
        )
        listed = await plane.call("ListJoinTokens")
        of_app = await plane.call("ListJoinTokens", {"app": "app-a"})
        elsewhere = await plane.call("ListJoinTokens", {"space": "elsewhere", "in_space": True})
        plane.clock.time += timedelta(minutes=1)
        later = await plane.call("ListJoinTokens")

    first, second = listed["tokens"]
    assert second == {
        "guid": made["guid"],
        "app": "app-b",
        "app_guid": "guid-b",
        "space": "default",
        "org": "default",
        "created_at": "2026-01-01T12:00:00Z",
        "expires_at": "2026-01-01T12:10:00Z",
        "uses_left": 1,
        "uses": 2,
        "address_range": "",
    }
    assert of_app["tokens"] == [first]
    assert not elsewhere["tokens"]
    assert later["tokens"] == [second]
    assert made["token"] not in repr(listed)
    assert token_digest(made["token"])[:8] not in repr(listed)


async def test_one_join_token_is_revoked_by_its_guid(tmp_path: Path) -> None:
    """The others of the app stay, and a GUID that is none of its changes nothing."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        kept, gone = [await plane.call("CreateJoinToken", {"app": "app-b"}) for _ in range(2)]
        wrong = await plane.call("RevokeJoinTokens", {"app": "app-a", "guid": gone["guid"]})
        right = await plane.call("RevokeJoinTokens", {"app": "app-b", "guid": gone["guid"]})
        left = await plane.call("ListJoinTokens")

    assert (wrong["revoked"], right["revoked"]) == (0, 1)
    assert [each["guid"] for each in left["tokens"]] == [kept["guid"]]


async def test_expired_join_tokens_are_forgotten_when_one_is_made(tmp_path: Path) -> None:
    """The State does not grow with tokens that nobody can use any more."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        first = await plane.call("CreateJoinToken", {"app": "app-b"})
        plane.clock.time += timedelta(minutes=10)
        second = await plane.call("CreateJoinToken", {"app": "app-b"})
        kept = [plane.registry.state.token(token_digest(each["token"])) for each in (first, second)]

    assert [each is not None for each in kept] == [False, True]
