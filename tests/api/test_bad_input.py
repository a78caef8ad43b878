"""Bad input is refused over the wire with code, field and sentence, and changes nothing."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from control_plane.errors import AlreadyExists, InvalidArgument, NotFound
from control_plane.names import AppGuid
from control_plane.server.status import code_of
from tests.api.world import ControlPlane, Fields, control_plane
from tests.unit.model.refusals import IN_DEFAULT, REFUSALS, SETUP, Refusal, no_app

WAITING = {"app": "app-b", "hostname": "shop"}
POLICY = {
    "source": "app-a",
    "destination": "app-b",
    "protocol": "tcp",
    "start_port": 61443,
    "end_port": 61443,
}
NO_APP = no_app("pineapple")
LONG_WAIT = "timeout must be 0 to 3600 seconds, not"
KNOWN_WAITS = "known are: WAIT_COMMITTED, WAIT_ACKED, WAIT_SERVED"
GUID_RULE = "guid must be 1 to 63 letters, digits and '-', with '-' neither first nor last"

# What only the API can be asked, since the model has no such request.
REQUESTS = (
    Refusal("get-no-app", "GetApp", {}, InvalidArgument, "app missing", "app"),
    Refusal("get-unknown-app", "GetApp", {"app": "pineapple"}, NotFound, NO_APP, "app"),
    Refusal(
        "get-app-of-another-org",
        "GetApp",
        {"app": "app-b", "org": "elsewhere"},
        NotFound,
        no_app("app-b", org="elsewhere", hint=IN_DEFAULT),
        "app",
    ),
    Refusal("delete-no-app", "DeleteApp", {}, InvalidArgument, "app missing", "app"),
    Refusal(
        "create-under-another-guid",
        "CreateApp",
        {"name": "app-a", "guid": "guid-z"},
        AlreadyExists,
        "app 'app-a' exists with another guid: guid-a",
        "guid",
    ),
    Refusal(
        "update-port-reserved",
        "UpdateApp",
        {"app": "app-b", "ports": [61443]},
        InvalidArgument,
        "port 61443 is reserved for container networking",
        "ports",
    ),
    Refusal(
        "update-to-no-name",
        "UpdateApp",
        {"app": "app-b", "name": ""},
        InvalidArgument,
        "app name missing",
        "name",
    ),
    Refusal(
        "register-under-another-guid",
        "RegisterInstance",
        {"app": "app-b", "guid": "inst-z", "address": "10.255.0.4"},
        AlreadyExists,
        "address '10.255.0.4' is held by another instance of the app: inst-b0",
        "address",
    ),
    Refusal(
        "instances-of-unknown-app", "ListInstances", {"app": "pineapple"}, NotFound, NO_APP, "app"
    ),
    Refusal("remove-no-instance", "RemoveInstance", {}, InvalidArgument, "guid missing", "guid"),
    Refusal(
        "remove-instance-with-slash",
        "RemoveInstance",
        {"guid": "../inst-b0"},
        InvalidArgument,
        f"{GUID_RULE}: '../inst-b0'",
        "guid",
    ),
    Refusal("routes-of-unknown-app", "ListRoutes", {"app": "pineapple"}, NotFound, NO_APP, "app"),
    Refusal(
        "map-with-unknown-wait",
        "MapRoute",
        WAITING | {"wait": 9},
        InvalidArgument,
        f"unknown wait 9, {KNOWN_WAITS}",
        "wait",
    ),
    Refusal(
        "map-with-negative-timeout",
        "MapRoute",
        WAITING | {"wait": "WAIT_ACKED", "timeout": "-1s"},
        InvalidArgument,
        f"{LONG_WAIT} -1",
        "timeout",
    ),
    Refusal(
        "unmap-with-unknown-wait",
        "UnmapRoute",
        {"app": "app-b", "hostname": "app-b", "wait": 3},
        InvalidArgument,
        f"unknown wait 3, {KNOWN_WAITS}",
        "wait",
    ),
    Refusal(
        "unmap-with-endless-timeout",
        "UnmapRoute",
        {"app": "app-b", "hostname": "app-b", "timeout": "86400s"},
        InvalidArgument,
        f"{LONG_WAIT} 86400",
        "timeout",
    ),
    Refusal(
        "add-policies-with-unknown-wait",
        "AddNetworkPolicies",
        {"policies": [POLICY | {"start_port": 61001}], "wait": 3},
        InvalidArgument,
        f"unknown wait 3, {KNOWN_WAITS}",
        "wait",
    ),
    Refusal(
        "remove-policies-with-endless-timeout",
        "RemoveNetworkPolicies",
        {"policies": [POLICY], "timeout": "315576000000s"},
        InvalidArgument,
        f"{LONG_WAIT} 315576000000",
        "timeout",
    ),
    Refusal(
        "remove-no-policies",
        "RemoveNetworkPolicies",
        {},
        InvalidArgument,
        "missing policies",
        "policies",
    ),
    Refusal(
        "policies-from-unknown-app",
        "ListNetworkPolicies",
        {"source": "pineapple"},
        NotFound,
        NO_APP,
        "source",
    ),
    Refusal(
        "policies-to-unknown-app",
        "ListNetworkPolicies",
        {"destination": "app-b", "destination_space": "elsewhere"},
        NotFound,
        no_app("app-b", space="elsewhere", hint=IN_DEFAULT),
        "destination",
    ),
    Refusal("token-for-no-app", "CreateJoinToken", {}, InvalidArgument, "app missing", "app"),
    Refusal("tokens-of-no-app", "RevokeJoinTokens", {}, InvalidArgument, "app missing", "app"),
    Refusal(
        "token-with-no-guid",
        "RevokeJoinTokens",
        {"app": "app-b", "guid": "a_b"},
        InvalidArgument,
        "guid must be 1 to 63 letters, digits and '-', with '-' neither first nor last: 'a_b'",
        "guid",
    ),
    Refusal(
        "tokens-of-unknown-app",
        "ListJoinTokens",
        {"app": "pineapple"},
        NotFound,
        NO_APP,
        "app",
    ),
    Refusal(
        "token-for-no-time",
        "CreateJoinToken",
        {"app": "app-b", "ttl": "0s"},
        InvalidArgument,
        "ttl must be 1 to 2592000 seconds, not 0",
        "ttl",
    ),
    Refusal(
        "token-for-the-past",
        "CreateJoinToken",
        {"app": "app-b", "ttl": "-600s"},
        InvalidArgument,
        "ttl must be 1 to 2592000 seconds, not -600",
        "ttl",
    ),
    Refusal(
        "token-for-ever",
        "CreateJoinToken",
        {"app": "app-b", "ttl": "315576000000s"},
        InvalidArgument,
        "ttl must be 1 to 2592000 seconds, not 315576000000",
        "ttl",
    ),
)


def told(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str | None, list[tuple[str, str]]]:
    """Return code, message, and field and rule of each violation, as a client reads them."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            status = status_pb2.Status.FromString(value)
            details = error_details_pb2.BadRequest()

            assert status.details[0].Unpack(details)
            assert (status.code, status.message) == (error.code().value[0], error.details())

            violations = [(each.field, each.description) for each in details.field_violations]
            return error.code(), error.details(), violations
    return error.code(), error.details(), []


async def refused(plane: ControlPlane, method: str, request: Fields) -> grpc.aio.AioRpcError:
    """Return how a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await plane.call(method, request)
    return caught.value


@pytest.mark.parametrize("refusal", [*REFUSALS, *REQUESTS], ids=lambda refusal: refusal.name)
async def test_bad_input_is_refused_and_changes_nothing(tmp_path: Path, refusal: Refusal) -> None:
    """The status has the code, the sentence and the field of the broken rule; the State stays."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        before = plane.registry.state
        error = await refused(plane, refusal.method, refusal.request)
        after = plane.registry.state

    code = code_of(refusal.error(refusal.sentence))
    assert told(error) == (code, refusal.sentence, [(refusal.field, refusal.sentence)])
    assert after is before


def long_route(app: str, number: int) -> Fields:
    """Return the request to map a long name to an app."""
    return {"app": app, "hostname": f"{number:03}{'x' * 60}"}


async def fits(plane: ControlPlane, number: int) -> bool:
    """Tell whether one more route is accepted."""
    try:
        await plane.call("MapRoute", long_route("app-b", number))
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_route_that_no_client_would_take_is_refused(tmp_path: Path) -> None:
    """The mapping that would make the certificates too large for TLS clients is not made."""
    async with control_plane(tmp_path) as plane:
        await plane.do(SETUP)
        accepted = 0
        while await fits(plane, accepted):
            accepted += 1
        before = plane.registry.state
        error = await refused(plane, "MapRoute", long_route("app-b", accepted))
        again = await plane.call("MapRoute", long_route("app-b", 0))
        other = await plane.call("MapRoute", long_route("app-a", accepted))
        after = plane.registry.state

    code, sentence, violations = told(error)
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert sentence is not None
    assert sentence.startswith("with this the certificates of app 'app-b' would take ")
    assert violations == [("hostname", sentence)]
    assert 10 < accepted < 100
    assert before.hostnames_of(AppGuid("guid-b")) == after.hostnames_of(AppGuid("guid-b"))
    assert (again["already"], other["already"]) == (True, False)


async def test_a_lower_bound_refuses_nothing_that_is_there(tmp_path: Path) -> None:
    """Naming again what exists is OK, also where it would be refused if it were new."""
    instance = {"app": "app-b", "address": "10.255.0.5"}
    async with control_plane(tmp_path) as plane:
        await plane.do([*SETUP, ("RegisterInstance", instance)])
        for number in range(30):
            await plane.call("MapRoute", long_route("app-b", number))
    async with control_plane(tmp_path, chain_bytes=4_000) as plane:
        route = await plane.call("MapRoute", long_route("app-b", 0))
        registered = await plane.call("RegisterInstance", instance)
        more = await refused(plane, "MapRoute", long_route("app-b", 30))
        another = await refused(plane, "RegisterInstance", instance | {"address": "10.255.0.6"})

    assert (route["already"], registered["already"]) == (True, True)
    assert [each[0] for each in told(more)[2]] == ["hostname"]
    assert [each[0] for each in told(another)[2]] == ["app"]


async def test_a_method_that_does_not_exist_is_unimplemented(tmp_path: Path) -> None:
    """A newer client is told that this server does not know the method."""
    async with control_plane(tmp_path) as plane:
        call = plane.channel.unary_unary(
            "/c2c.v1.AppService/RestartApp",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
