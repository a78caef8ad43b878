"""What people read: the sentences, tables and outcomes of ``cf``, word for word."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api.v1 import join_token_pb2
from control_plane.names import InstanceGuid
from tests.api.world import ControlPlane
from tests.unit.cli.running import Ran, Run, run_c2c
from tests.unit.cli.test_spaces import older_server

IN_DEFAULT = "in org default / space default..."


def test_mapping_a_route(c2c: Run) -> None:
    """Mapping, and mapping what is mapped, are both OK; the second says that nothing changed."""
    c2c("create-app", "app-b")
    mapping = f"Mapping route app-b.apps.internal to app app-b {IN_DEFAULT}\n"

    assert c2c("map-route", "app-b", "apps.internal", "--hostname", "app-b") == Ran(
        0, mapping + "OK\n", ""
    )
    assert c2c("map-route", "app-b", "apps.internal", "-n", "app-b") == Ran(
        0,
        mapping + "App 'app-b' is already mapped to route 'app-b.apps.internal'. "
        "Nothing has been updated.\nOK\n",
        "",
    )


def test_unmapping_a_route(c2c: Run) -> None:
    """Unmapping, and unmapping what is not mapped, are both OK."""
    c2c("create-app", "app-b")
    c2c("map-route", "app-b", "apps.internal", "--hostname", "app-b")
    removing = f"Removing route app-b.apps.internal from app app-b {IN_DEFAULT}\n"

    assert c2c("unmap-route", "app-b", "apps.internal", "--hostname", "app-b") == Ran(
        0, removing + "OK\n", ""
    )
    assert c2c("unmap-route", "app-b", "apps.internal", "--hostname", "app-b") == Ran(
        0,
        removing + "Route to be unmapped is not currently mapped to the application.\nOK\n",
        "",
    )


def test_adding_and_removing_a_network_policy(c2c: Run) -> None:
    """N2: adding twice is OK; removing what is missing says so and is OK, too."""
    c2c("create-app", "app-a")
    c2c("create-app", "app-b")
    policy = ("app-a", "app-b", "--protocol", "tcp", "--port", "61443")
    adding = Ran(0, f"Adding network policy from app app-a to app app-b {IN_DEFAULT}\nOK\n", "")
    removing = f"Removing network policy from app app-a to app app-b {IN_DEFAULT}\n"

    assert c2c("add-network-policy", *policy) == adding
    assert c2c("add-network-policy", *policy) == adding
    assert c2c("remove-network-policy", *policy) == Ran(0, removing + "OK\n", "")
    assert c2c("remove-network-policy", *policy) == Ran(
        0, removing + "Policy does not exist.\nOK\n", ""
    )


def test_a_policy_between_spaces_names_both(c2c: Run) -> None:
    """Where the destination is elsewhere, the sentence says where each app is."""
    c2c("create-app", "app-a")
    c2c("create-app", "app-b", "-s", "s2", "-o", "o2")
    policy = ("app-a", "app-b", "-s", "s2", "-o", "o2", "--protocol", "tcp", "--port", "61443")
    ends = "from app app-a in org default / space default to app app-b in org o2 / space s2...\n"

    assert c2c("add-network-policy", *policy) == Ran(0, f"Adding network policy {ends}OK\n", "")
    assert c2c("remove-network-policy", *policy) == Ran(
        0, f"Removing network policy {ends}OK\n", ""
    )


def test_the_announcements_command_works_as_it_is_printed(c2c: Run) -> None:
    """The announcement has en dashes and a flag of an old ``cf``; copied, it still works."""
    c2c("create-app", "app-A")
    c2c("create-app", "app-B")
    words = (
        "add-network-policy app-A \u2013destination-app app-B \u2013protocol tcp \u2013port 61443"
    )

    assert c2c(*words.split()).code == 0
    assert c2c("network-policies").out.splitlines()[-1].split() == [
        "app-A",
        "app-B",
        "tcp",
        "61443",
        "default",
        "default",
    ]


def test_network_policies_as_cf_lists_them(c2c: Run) -> None:
    """The table of ``cf``: an empty line, three spaces between columns, no OK at the end."""
    for name, space in (("app1", "default"), ("app2", "some-space"), ("x", "elsewhere")):
        c2c("create-app", name, "-s", space)
    c2c("add-network-policy", "app1", "app2", "-s", "some-space")
    c2c("add-network-policy", "app1", "app1", "--protocol", "UDP", "--port", "1234-2345")
    c2c("--space", "elsewhere", "add-network-policy", "x", "x")

    assert c2c("network-policies") == Ran(
        0,
        f"Listing network policies {IN_DEFAULT}\n"
        "\n"
        "source   destination   protocol   ports       destination space   destination org\n"
        "app1     app1          udp        1234-2345   default             default\n"
        "app1     app2          tcp        8080        some-space          default\n",
        "",
    )
    assert c2c("network-policies", "--source", "app1").out.startswith(
        f"Listing network policies of app app1 {IN_DEFAULT}\n\nsource "
    )
    everywhere = c2c("network-policies", "--all").out.splitlines()
    assert everywhere[0] == "Listing all network policies..."
    assert everywhere[2].endswith("source space   source org")
    assert len(everywhere) == 6


def test_who_may_call_an_app_is_listed_from_every_space(c2c: Run) -> None:
    """Its callers may be anywhere, so it is said where each of them is."""
    for name, space in (("app1", "default"), ("app2", "some-space"), ("app3", "some-space")):
        c2c("create-app", name, "-s", space)
    c2c("add-network-policy", "app1", "app2", "-s", "some-space")
    c2c("--space", "some-space", "add-network-policy", "app3", "app2")
    c2c("--space", "some-space", "add-network-policy", "app2", "app3")

    listed = c2c("network-policies", "--destination", "app2", "-s", "some-space").out.splitlines()
    one = c2c("network-policies", "app3", "--destination", "app2", "-s", "some-space")

    assert listed[0].startswith("Listing network policies to app app2 in org default / space some")
    assert listed[2].endswith("source space   source org")
    assert [line.split()[0] for line in listed[3:]] == ["app1", "app3"]
    assert len(one.out.splitlines()) == 4
    assert one.out.splitlines()[3].startswith("app3     app2 ")


def test_whether_one_app_may_call_another_is_listed_across_spaces(c2c: Run) -> None:
    """The options say where the source is, and each row where the destination is."""
    for name, space in (("app1", "default"), ("app2", "s2"), ("app2", "s3"), ("app3", "s3")):
        c2c("create-app", name, "-s", space, "--guid", f"{name}-of-{space}")
    for name, space in (("app2", "s2"), ("app2", "s3"), ("app3", "s3")):
        c2c("add-network-policy", "app1", name, "-s", space)

    def spaces(*words: str) -> list[str]:
        found = c2c("network-policies", *words, "--output", "json").json()
        return [f"{each['destination']} {each['destination_space']}" for each in found]

    assert spaces("app1", "--destination", "app2") == ["app2 s2", "app2 s3"]
    assert spaces("--source", "app1", "--destination", "app2-of-s3") == ["app2 s3"]
    assert spaces("app2", "--destination", "app1", "-s", "s2") == []
    titled = c2c("network-policies", "app1", "--destination", "app2").out.splitlines()
    assert titled[0] == (
        "Listing network policies of app app1 in org default / space default to app app2 of any "
        "space..."
    )
    assert c2c("network-policies", "app1", "--destination", "app9").err == (
        "App 'app9' not found in any space: 'c2c apps --all' lists every app\n"
    )


def test_no_network_policies_are_a_sentence(c2c: Run) -> None:
    """As with everything else that there is none of; ``cf`` prints titles without rows."""
    assert c2c("network-policies").out.splitlines()[1:] == ["", "No network policies found."]


def test_a_policy_for_which_nothing_listens_is_noted(c2c: Run) -> None:
    """A udp policy without unproxied port mappings is accepted, with a note before the OK."""
    c2c("create-app", "app-a")
    ran = c2c("add-network-policy", "app-a", "app-a", "--protocol", "udp", "--port", "5000")

    assert ran.code == 0
    assert ran.out.splitlines()[1].startswith("Note: ")
    assert ran.out.splitlines()[2] == "OK"


def test_apps_as_a_table(c2c: Run) -> None:
    """Apps of the space, with what people look for; no apps is a sentence.

    What may be long comes last, where no other row is made as long.
    """
    assert c2c("apps").out == f"Getting apps {IN_DEFAULT}\n\nNo apps found\n"
    c2c("create-app", "app-b", "--port", "8080,9090")
    c2c("create-app", "grpc", "--protocol", "http2", "-s", "other")
    c2c("map-route", "app-b", "apps.internal", "--hostname", "b")
    c2c("map-route", "app-b", "apps.internal", "--hostname", "a")

    assert c2c("apps").out == (
        f"Getting apps {IN_DEFAULT}\n"
        "\n"
        "name    instances   protocol   ports        routes\n"
        "app-b   0/0         http1      8080, 9090   a.apps.internal, b.apps.internal\n"
    )
    assert c2c("apps", "--all").out == (
        "Getting all apps...\n"
        "\n"
        "name    instances   protocol   ports        space     org       routes\n"
        "app-b   0/0         http1      8080, 9090   default   default   "
        "a.apps.internal, b.apps.internal\n"
        "grpc    0/0         http2      8080         other     default\n"
    )


def test_an_app_with_its_instances(c2c: Run, world: ControlPlane) -> None:
    """One app: its properties, then each instance and whether it is connected."""
    c2c("create-app", "app-b", "--ssh", "--guid", "guid-b")
    assert c2c("app", "app-b").out.endswith("\n\nThere are no instances of this app.\n")
    c2c("register-instance", "app-b", "--address", "127.0.1.1", "--guid", "i-1")
    c2c("register-instance", "app-b", "--address", "127.0.1.2", "--guid", "i-2")
    world.connected.add(InstanceGuid("i-2"))

    assert c2c("app", "app-b").out == (
        f"Showing app app-b {IN_DEFAULT}\n"
        "\n"
        "name:             app-b\n"
        "guid:             guid-b\n"
        "space:            default\n"
        "org:              default\n"
        "protocol:         http1\n"
        "os:               linux\n"
        "ports:            8080\n"
        "61443 leads to:   8080\n"
        "ssh:              yes\n"
        "health check:     port\n"
        "routes:\n"
        "\n"
        "index   address     status       connected   guid\n"
        "0       127.0.1.1   registered   no          i-1\n"
        "1       127.0.1.2   registered   yes         i-2\n"
    )


def test_an_app_says_where_it_is_that_was_found_by_its_guid(c2c: Run) -> None:
    """The first line says where an app of that name was looked for."""
    c2c("create-app", "app-b", "--guid", "guid-b", "-s", "dev", "-o", "acme")
    found = c2c("app", "guid-b").out.splitlines()

    assert found[2:6] == [
        "name:             app-b",
        "guid:             guid-b",
        "space:            dev",
        "org:              acme",
    ]


def test_creating_updating_and_deleting_an_app(c2c: Run) -> None:
    """Each can be repeated, and says when there was nothing to do."""
    creating = f"Creating app app-b {IN_DEFAULT}\n"
    updating = f"Updating app app-b {IN_DEFAULT}\n"
    deleting = f"Deleting app app-b {IN_DEFAULT}\n"

    assert c2c("create-app", "app-b") == Ran(0, creating + "OK\n", "")
    assert c2c("create-app", "app-b").out == (
        creating + "App 'app-b' already exists. Nothing has been updated.\nOK\n"
    )
    assert c2c("update-app", "app-b", "--protocol", "tcp") == Ran(0, updating + "OK\n", "")
    assert c2c("update-app", "app-b", "--protocol", "tcp").out == (
        updating + "App 'app-b' is like that already. Nothing has been updated.\nOK\n"
    )
    assert c2c("delete-app", "app-b", "-f") == Ran(0, deleting + "OK\n", "")
    assert c2c("delete-app", "app-b", "-f") == Ran(
        0, deleting + "App 'app-b' does not exist.\nOK\n", ""
    )


def test_update_leaves_alone_what_is_not_mentioned(c2c: Run) -> None:
    """Changing one property keeps the others."""
    c2c("create-app", "b", "--protocol", "http2", "--port", "9000", "--port", "9001", "--ssh")
    c2c("update-app", "b", "--c2c-port", "9001")
    c2c("update-app", "b", "--no-ssh", "--name", "b2", "-u", "process")
    c2c("update-app", "b2", "--protocol", "http2")
    (app,) = c2c("app", "b2", "--output", "json").json()

    assert (app["protocol"], app["ports"], app["c2c_port"]) == ("http2", [9000, 9001], 9001)
    assert (app["ssh"], app["health_check_type"]) == (False, "process")


def test_routes_as_a_table(c2c: Run) -> None:
    """One line for each name; a route that apps share names them all."""
    assert c2c("routes").out == f"Getting routes for {IN_DEFAULT[3:]}\n\nNo routes found.\n"
    for app in ("app-a", "app-b"):
        c2c("create-app", app)
        c2c("map-route", app, "apps.internal", "--hostname", "shared")
    c2c("map-route", "app-b", "mesh.example", "--hostname", "app-b")

    assert c2c("routes").out == (
        f"Getting routes for {IN_DEFAULT[3:]}\n"
        "\n"
        "route                  host     domain          apps\n"
        "app-b.mesh.example     app-b    mesh.example    app-b\n"
        "shared.apps.internal   shared   apps.internal   app-a, app-b\n"
    )
    assert c2c("routes", "--app", "app-a").out.splitlines()[3:] == [
        "shared.apps.internal   shared   apps.internal   app-a"
    ]
    assert "default   default" in c2c("routes", "--all").out


def test_instances_as_a_table(c2c: Run, world: ControlPlane) -> None:
    """Instances by app and index, and which of them are connected."""
    assert c2c("instances").out.endswith("\nNo instances found.\n")
    for app, address in (("app-a", "127.0.1.1"), ("app-b", "127.0.1.2")):
        c2c("create-app", app)
        c2c("register-instance", app, "--address", address, "--guid", f"of-{app}")
    world.connected.add(InstanceGuid("of-app-b"))

    assert c2c("instances").out == (
        f"Getting instances {IN_DEFAULT}\n"
        "\n"
        "app     index   address     app address   status       connected   guid\n"
        "app-a   0       127.0.1.1   127.0.0.1     registered   no          of-app-a\n"
        "app-b   0       127.0.1.2   127.0.0.1     registered   yes         of-app-b\n"
    )
    assert c2c("instances", "app-b").out.splitlines()[0] == (
        f"Getting instances of app app-b {IN_DEFAULT}"
    )
    assert len(c2c("instances", "app-b").out.splitlines()) == 4
    assert c2c("instances", "--all").out.splitlines()[2].endswith("guid       space     org")


def test_an_app_is_found_by_its_guid_wherever_it_is(c2c: Run) -> None:
    """What it has is listed, and not left out since it is of another space."""
    c2c("create-app", "app-b", "-s", "dev", "--guid", "guid-b")
    c2c("map-route", "guid-b", "apps.internal", "--hostname", "b")
    c2c("register-instance", "guid-b", "--address", "127.0.1.1", "--guid", "of-app-b")
    c2c("add-network-policy", "guid-b", "guid-b")

    for command in ("instances", "network-policies", "routes"):
        by_guid = c2c(command, "guid-b", "--output", "json")
        assert by_guid == c2c(command, "app-b", "-s", "dev", "--output", "json")
        assert len(by_guid.json()) == 1


def test_spaces_stand_below_where_they_have_no_room_beside(c2c: Run) -> None:
    """A row of a table with --all stays a row, and says all that it says elsewhere."""
    c2c("create-app", "app-a")
    c2c("create-app", "app-b", "-s", "s2", "-o", "o2")
    c2c("register-instance", "app-a", "--address", "127.0.1.1", "--guid", "g" * 36)
    c2c("add-network-policy", "app-a", "app-b", "-s", "s2", "-o", "o2")
    policies = c2c("network-policies", "--all", COLUMNS="80").out.splitlines()[2:]
    instances = c2c("instances", "--all", COLUMNS="80").out.splitlines()[2:]

    assert policies == [
        "source  destination  protocol  ports",
        "app-a   app-b        tcp       8080",
        "   from org default / space default to org o2 / space s2",
    ]
    assert max(map(len, instances)) <= 80
    assert instances[2] == "   in org default / space default"
    assert c2c("network-policies", COLUMNS="60").out.splitlines()[4] == "   to org o2 / space s2"
    # Where it suffices to cut a GUID they stand beside it.
    assert "...  default  default" in c2c("instances", "--all", COLUMNS="100").out


def test_registering_and_removing_an_instance(c2c: Run) -> None:
    """Registering says which GUID and index it got; removing what is gone is OK."""
    c2c("create-app", "app-b")
    command = ("register-instance", "app-b", "--address", "127.0.1.1", "--guid", "i-1")
    registering = f"Registering instance of app app-b at 127.0.1.1 {IN_DEFAULT}\n"
    got = "OK\n\nguid:    i-1\nindex:   0\n"

    assert c2c(*command) == Ran(0, registering + got, "")
    assert c2c(*command).out == (
        registering + "Instance 'i-1' is already registered. Nothing has been updated.\n" + got
    )
    assert c2c("remove-instance", "i-1") == Ran(0, "Removing instance i-1...\nOK\n", "")
    assert c2c("remove-instance", "i-1").out == (
        "Removing instance i-1...\nInstance 'i-1' does not exist.\nOK\n"
    )


def test_an_instance_is_removed_by_the_name_that_tables_have(c2c: Run) -> None:
    """App and index mean the instance of the space, and none of another space."""
    for space, address in (("default", "127.0.1.1"), ("other", "127.0.1.2")):
        c2c("create-app", "app-b", "-s", space)
        command = ("register-instance", "app-b", "-s", space, "--address", address)
        c2c(*command, "--guid", f"of-{space}")

    removing = f"Removing instance app-b/0 {IN_DEFAULT}\n"
    assert c2c("remove-instance", "app-b/0") == Ran(0, removing + "OK\n", "")
    assert c2c("remove-instance", "app-b/0").out == (
        removing + "Instance 'app-b/0' does not exist.\nOK\n"
    )
    assert [each["guid"] for each in c2c("instances", "--all", "--output", "json").json()] == [
        "of-other"
    ]
    # Digits of other scripts, and more of them than any index has, are no index.
    for text in ("app-b/\N{ARABIC-INDIC DIGIT ZERO}", "app-b/" + "9" * 5000):
        assert c2c("remove-instance", text, "-s", "other").err.startswith("Guid must be ")
    assert c2c("remove-instance", "app-b/0", "-s", "other").code == 0
    assert c2c("instances", "--all", "--output", "json").json() == []
    assert c2c("remove-instance", "pineapple/0").err.startswith("App 'pineapple' not found")


def test_an_app_is_no_instance(c2c: Run) -> None:
    """Whoever names an app removes nothing, and is told what its instances are called."""
    c2c("create-app", "app-b")
    c2c("register-instance", "app-b", "--address", "127.0.1.1")

    assert c2c("remove-instance", "app-b").out == (
        "Removing instance app-b...\n"
        "Instance 'app-b' does not exist. There is an app of that name, whose instances are "
        "app-b/0 and so on.\n"
        "OK\n"
    )
    assert len(c2c("instances", "--output", "json").json()) == 1


def test_a_join_token_comes_with_the_command_that_uses_it(c2c: Run, world: ControlPlane) -> None:
    """What is shown this once is all that a sidecar needs, ready to be pasted."""
    c2c("create-app", "app-b")
    lines = c2c("join-token", "app-b", "--ttl", "1h").out.splitlines()

    assert lines[:2] == [f"Creating join token for app app-b {IN_DEFAULT}", "OK"]
    assert lines[3:8] == [
        "token:         token-1",
        "server:        203.0.113.7:18001",
        f"fingerprint:   {world.fingerprint}",
        "expires at:    2026-01-01T13:00:00Z",
        "guid:          token-guid-1",
    ]
    assert lines[-1] == (
        "   c2c sidecar --server 203.0.113.7:18001 --token token-1 "
        f"--fingerprint {world.fingerprint} --address auto"
    )


def test_a_join_token_ends_at_a_second(tmp_path: Path) -> None:
    """Nobody reads microseconds; programs get them."""
    made = join_token_pb2.CreateJoinTokenResponse(
        expires_at=Timestamp(seconds=1_767_272_400, nanos=38_019_000)
    )
    method = {
        "JoinTokenService/CreateJoinToken": (join_token_pb2.CreateJoinTokenRequest, made),
    }
    with older_server(tmp_path, method):
        data = str(tmp_path)
        ran = run_c2c("join-token", "app-b", C2C_DATA_DIR=data)
        (printed,) = run_c2c("join-token", "app-b", "--output", "json", C2C_DATA_DIR=data).json()

    assert "\nexpires at:    2026-01-01T13:00:00Z\n" in ran.out
    assert printed["expires_at"] == "2026-01-01T13:00:00.038019Z"


def test_join_tokens_are_revoked(c2c: Run) -> None:
    """All of an app at once, with how many of them somebody could still have used."""
    c2c("create-app", "app-b")
    c2c("join-token", "app-b")
    c2c("join-token", "app-b")
    revoking = f"Revoking join tokens of app app-b {IN_DEFAULT}\n"

    assert c2c("revoke-join-tokens", "app-b").out == f"{revoking}Join tokens revoked: 2\nOK\n"
    assert c2c("revoke-join-tokens", "app-b").out == (
        f"{revoking}No join token of the app could be used.\nOK\n"
    )


def test_one_join_token_is_revoked_by_its_guid(c2c: Run) -> None:
    """The sentence has the GUID, and whether there was such a token: it may be mistyped."""
    c2c("create-app", "app-b")
    c2c("join-token", "app-b")
    command = ("revoke-join-tokens", "app-b", "--guid", "token-guid-1")
    revoking = f"Revoking join token token-guid-1 of app app-b {IN_DEFAULT}\n"

    assert c2c(*command).out == f"{revoking}Join tokens revoked: 1\nOK\n"
    assert c2c(*command).out == (
        f"{revoking}No join token of the app that could be used has this GUID: see 'c2c join-tokens"
        " app-b'.\nOK\n"
    )


def test_join_tokens_are_listed(c2c: Run, world: ControlPlane) -> None:
    """Those of a space, of an app, or all of them; and no token, which only its maker was shown."""
    world.clock.time = datetime.now(UTC)
    c2c("create-app", "app-b")
    c2c("create-app", "other", "-s", "dev")
    assert c2c("join-tokens").out == (
        f"Getting join tokens {IN_DEFAULT}\n\nNo join tokens found.\n"
    )

    c2c("join-token", "app-b", "--ttl", "30d", "--uses", "2")
    c2c("join-token", "other", "-s", "dev", "--address-range", "10.0.0.0/28")
    begin, _, titles, row = c2c("join-tokens", "app-b").out.splitlines()

    assert begin == f"Getting join tokens of app app-b {IN_DEFAULT}"
    assert re.split(" {3,}", titles) == [
        "app",
        "created",
        "expires",
        "uses left",
        "address range",
        "guid",
    ]
    assert re.fullmatch(r"app-b   \d+s ago +in 29d    2 of 2 +- +token-guid-1", row)
    everywhere = c2c("join-tokens", "--all").out
    assert "token-guid-1" in everywhere
    assert re.search(
        r"other .* in 9m +1 of 1 +10\.0\.0\.0/28 +dev +default +token-guid-2", everywhere
    )
    assert "token-1" not in everywhere
    *_, row, guid = c2c("join-tokens", "app-b", COLUMNS="60").out.splitlines()
    assert (row.startswith("app-b  "), guid.strip()) == (True, "token-guid-1")


def test_a_join_token_with_a_range_is_used_with_an_address_of_it(c2c: Run) -> None:
    """Several on one machine all connect from one address, which `auto` would give to each."""
    c2c("create-app", "app-b")
    *_, tip, run = c2c("join-token", "app-b", "--address-range", "10.0.0.0/28").out.splitlines()

    assert tip == "TIP: Next to an instance of the app, with an IP of 10.0.0.0/28, run"
    assert run.endswith(" --address IP")


@pytest.mark.parametrize("enroll", ["HOST:18101"])
def test_a_join_token_says_what_it_does_not_know(c2c: Run, enroll: str) -> None:
    """A server that listens everywhere and has no name is one to fill in, and that is said."""
    c2c("create-app", "app-b")
    ran = c2c("join-token", "app-b")

    assert f"   c2c sidecar --server {enroll} --token" in ran.out
    assert ran.err == (
        "HOST stands for a name or an address of the server: start 'c2c serve' with "
        "--server-name, and it is printed here\n"
    )


def test_the_trust_bundle_is_the_only_output(c2c: Run, world: ControlPlane) -> None:
    """It can be sent into a file as it is."""
    assert c2c("trust-bundle") == Ran(0, world.trust_bundle.decode(), "")


def test_names_stand_out_on_a_terminal_only(c2c: Run) -> None:
    """In a file or a pipe there are no escape sequences."""
    assert "\x1b[" not in c2c("create-app", "app-b").out
