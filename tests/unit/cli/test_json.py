"""What programs read: lists of flat objects with the API's field names."""

from __future__ import annotations

from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.v1 import inspection_pb2
from control_plane.cli.tables import record
from control_plane.names import AppGuid, InstanceGuid
from control_plane.reconciler.progress import Behind, Stage
from tests.api.world import ControlPlane
from tests.unit.cli.running import Ran, Run

JSON = ("--output", "json")
APP = {
    "guid": "guid-b",
    "name": "app-b",
    "space": "default",
    "org": "default",
    "protocol": "http1",
    "os": "linux",
    "ports": [8080],
    "c2c_port": 8080,
    "ssh": False,
    "health_check_type": "port",
    "routes": [],
    "instances": 0,
    "ready_instances": 0,
}
ROUTE = {
    "route": "app-b.apps.internal",
    "hostname": "app-b",
    "domain": "apps.internal",
    "app": "app-b",
    "app_guid": "guid-b",
    "space": "default",
    "org": "default",
}
POLICY = {
    "source": "app-b",
    "source_space": "default",
    "source_org": "default",
    "destination": "app-b",
    "destination_space": "default",
    "destination_org": "default",
    "protocol": "tcp",
    "start_port": 61443,
    "end_port": 61443,
    "source_guid": "guid-b",
    "destination_guid": "guid-b",
}
DONE = {"already": False, "complete": True, "behind": []}


def without_revision(ran: Ran) -> list[dict[str, Any]]:
    """Return what was printed, after a look at the revision, which is a number and grows."""
    printed = ran.json()
    for each in printed:
        assert each.pop("revision") > 0
    return printed


def test_apps(c2c: Run) -> None:
    """Every field of the API is there, also the empty ones."""
    assert c2c("apps", *JSON).json() == []
    assert without_revision(c2c("create-app", "app-b", "--guid", "guid-b", *JSON)) == [
        {**APP, "already": False}
    ]
    assert without_revision(c2c("update-app", "app-b", "--ssh", *JSON)) == [
        {**APP, "ssh": True, "already": False}
    ]
    assert c2c("apps", *JSON).json() == [{**APP, "ssh": True}]
    assert c2c("app", "app-b", *JSON).json() == [{**APP, "ssh": True, "instance_list": []}]


def test_routes(c2c: Run) -> None:
    """A list has one object for each mapping; a change says how far it got."""
    c2c("create-app", "app-b", "--guid", "guid-b")
    command = ("app-b", "apps.internal", "--hostname", "app-b", *JSON)

    assert without_revision(c2c("map-route", *command)) == [{**ROUTE, **DONE}]
    assert c2c("routes", *JSON).json() == [ROUTE]
    assert c2c("routes", "--app", "app-b", *JSON).json() == [ROUTE]
    assert without_revision(c2c("unmap-route", *command)) == [{**ROUTE, **DONE}]
    assert c2c("routes", *JSON).json() == []


def test_instances(c2c: Run, world: ControlPlane) -> None:
    """An instance is found by guid, app, index and address, and says if it is connected."""
    c2c("create-app", "app-b", "--guid", "guid-b")
    instance = {
        "guid": "i-1",
        "app": "app-b",
        "app_guid": "guid-b",
        "index": 0,
        "address": "127.0.1.1",
        "app_address": "127.0.0.1",
        "connected": False,
        "space": "default",
        "org": "default",
        "status": "registered",
    }
    command = ("register-instance", "app-b", "--address", "127.0.1.1", "--guid", "i-1", *JSON)
    (registered,) = without_revision(c2c(*command))
    assert instance.items() <= registered.items()
    assert registered["already"] is False
    world.connected.add(InstanceGuid("i-1"))

    (listed,) = c2c("instances", *JSON).json()
    assert (instance | {"connected": True}).items() <= listed.items()
    assert c2c("instances", "app-b", *JSON).json() == [listed]


def test_an_app_has_its_instances(c2c: Run) -> None:
    """What the table of ``c2c app`` shows is there for programs too, beside their number."""
    c2c("create-app", "app-b")
    c2c("register-instance", "app-b", "--address", "127.0.1.1", "--guid", "i-1")
    (app,) = c2c("app", "app-b", *JSON).json()

    assert app["instances"] == 1
    assert app["instance_list"] == c2c("instances", "app-b", *JSON).json()
    assert {"guid", "index", "address", "status"} <= app["instance_list"][0].keys()


def test_what_is_deleted_and_removed(c2c: Run) -> None:
    """The commands that take something away say as much as those that make it."""
    c2c("create-app", "app-b")
    c2c("register-instance", "app-b", "--address", "127.0.1.1", "--guid", "i-1")
    for already in (False, True):
        (removed,) = c2c("remove-instance", "app-b/0", *JSON).json()
        assert (removed.pop("revision") > 0) is not already
        guid = "" if already else "i-1"
        assert removed == {"instance": "app-b/0", "guid": guid, "already": already}
    for already in (False, True):
        (deleted,) = without_revision(c2c("delete-app", "app-b", "-f", *JSON))
        assert deleted == {
            "name": "app-b",
            "space": "default",
            "org": "default",
            "already": already,
        }


def test_network_policies(c2c: Run) -> None:
    """A list has one object for each policy, and a change one for each that it names."""
    c2c("create-app", "app-b", "--guid", "guid-b")
    command = ("app-b", "app-b", "--protocol", "tcp", "--port", "61443", *JSON)

    assert without_revision(c2c("add-network-policy", *command)) == [{**POLICY, **DONE, "note": ""}]
    assert c2c("network-policies", *JSON).json() == [POLICY]
    assert c2c("network-policies", "--source", "app-b", *JSON).json() == [POLICY]
    (removed,) = without_revision(c2c("remove-network-policy", *command))
    assert removed["already"] is False
    (missing,) = without_revision(c2c("remove-network-policy", *command))
    assert missing["already"] is True


def test_join_tokens(c2c: Run, world: ControlPlane) -> None:
    """All that a sidecar needs, by name."""
    c2c("create-app", "app-b")

    assert c2c("join-token", "app-b", *JSON).json() == [
        {
            "token": "token-1",
            "server": "203.0.113.7:18001",
            "fingerprint": world.fingerprint,
            "expires_at": "2026-01-01T12:10:00Z",
            "guid": "token-guid-1",
        }
    ]


def test_listed_join_tokens(c2c: Run) -> None:
    """All that may be known of each, which is neither the token nor its hash."""
    c2c("create-app", "app-b", "--guid", "guid-b")
    c2c("join-token", "app-b", "--uses", "3", "--address-range", "10.0.0.0/28")

    assert c2c("join-tokens", *JSON).json() == [
        {
            "guid": "token-guid-1",
            "app": "app-b",
            "app_guid": "guid-b",
            "space": "default",
            "org": "default",
            "created_at": "2026-01-01T12:00:00Z",
            "expires_at": "2026-01-01T12:10:00Z",
            "uses_left": 3,
            "uses": 3,
            "address_range": "10.0.0.0/28",
        }
    ]


def test_revoked_join_tokens(c2c: Run) -> None:
    """How many could still have been used."""
    c2c("create-app", "app-b")
    for _ in range(3):
        c2c("join-token", "app-b")

    one = c2c("revoke-join-tokens", "app-b", "--guid", "token-guid-2", *JSON)
    assert without_revision(one) == [{"revoked": 1, "already": False}]
    assert [each["guid"] for each in c2c("join-tokens", *JSON).json()] == [
        "token-guid-1",
        "token-guid-3",
    ]
    for revoked in (2, 0):
        assert without_revision(c2c("revoke-join-tokens", "app-b", *JSON)) == [
            {"revoked": revoked, "already": not revoked}
        ]
    assert c2c("join-tokens", *JSON).json() == []


def test_the_trust_bundle(c2c: Run, world: ControlPlane) -> None:
    """The bundle as a text, and the trust domain that goes with it."""
    (printed,) = c2c("trust-bundle", *JSON).json()

    assert printed["trust_bundle"] == world.trust_bundle.decode()
    assert printed["trust_domain"] == "c2c.internal"


@pytest.mark.parametrize(
    ("command", "fields"),
    [("version", ["c2c", "grpc", "envoy", "python"]), ("check", ["setting", "value", "origin"])],
)
def test_commands_without_a_server_print_json_too(
    c2c: Run, command: str, fields: list[str]
) -> None:
    """Whatever prints data prints it as a list."""
    assert [*c2c(command, *JSON).json()[0]] == fields


def test_what_is_not_set_is_null() -> None:
    """No field is left out: since when an instance is connected that is not, for example."""
    issued = inspection_pb2.TypeStatus(type="SDS", since=Timestamp(seconds=1))
    status = inspection_pb2.InstanceStatus(types=[issued, inspection_pb2.TypeStatus(type="LDS")])
    printed = record(status)

    assert printed.keys() == {field.name for field in status.DESCRIPTOR.fields}
    assert printed["connected_since"] is printed["certificate_since"] is None
    assert printed["index"] == 0
    types = cast("list[dict[str, object]]", printed["types"])
    assert [each["since"] for each in types] == ["1970-01-01T00:00:01Z", None]


def test_the_fields_of_every_object_have_one_order() -> None:
    """A value of zero or none does not move its field, so that objects can be compared by line."""
    empty = inspection_pb2.InstanceStatus(types=[inspection_pb2.TypeStatus()])
    full = inspection_pb2.InstanceStatus(
        instance_guid="i-1",
        index=1,
        connected=True,
        alarms=["late"],
        types=[inspection_pb2.TypeStatus(type="SDS", since=Timestamp(seconds=1), reason="refused")],
    )
    orders = [[*record(each)] for each in (empty, full)]
    inner = [[*cast("list[dict[str, object]]", record(each)["types"])[0]] for each in (empty, full)]

    assert orders == [[field.name for field in empty.DESCRIPTOR.fields]] * 2
    assert inner == [[field.name for field in empty.types[0].DESCRIPTOR.fields]] * 2


def test_a_failure_leaves_standard_output_empty(c2c: Run) -> None:
    """A program reads JSON or nothing: no progress, no FAILED."""
    assert c2c("app", "pineapple", *JSON) == Ran(
        1,
        "",
        "App 'pineapple' not found in org 'default' / space 'default': "
        "'c2c apps --all' lists every app\n",
    )


def test_a_change_that_did_not_arrive_in_time_is_printed_and_fails(
    c2c: Run, world: ControlPlane
) -> None:
    """The change is made, so it is printed; the exit code says that it was not waited for long."""
    c2c("create-app", "app-b", "--guid", "guid-b")
    world.progress.behind = (
        Behind(InstanceGuid("i-1"), AppGuid("guid-b"), 1, Stage.COMMITTED, "gone"),
    )
    command = ("map-route", "app-b", "apps.internal", "--hostname", "app-b", "--wait", "acked")
    ran = c2c(*command, "--timeout", "2s", *JSON)
    (printed,) = without_revision(Ran(0, ran.out, ""))

    assert printed == {**ROUTE, "already": False, "complete": False, "behind": ["i-1"]}
    assert ran.code == 1
