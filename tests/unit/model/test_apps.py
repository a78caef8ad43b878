"""Apps: what a spec comes to, what makes two of them the same, and what goes with an app."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.errors import InvalidArgument, NotFound
from control_plane.model.apps import (
    apps_in,
    create_app,
    delete_app,
    find_app,
    lookup_app,
    update_app,
)
from control_plane.model.entities import (
    AppKey,
    AppProtocol,
    HealthCheckType,
    Instance,
    JoinToken,
    OperatingSystem,
)
from control_plane.model.nearest import MOST_NAMES, nearest
from control_plane.model.routes import unmap_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.model.tokens import add_token
from control_plane.names import AppGuid, AppName
from tests.unit.model.world import NOW, A, B, C, D, allow, entities_of, mapping, register, world


def test_an_app_has_the_defaults_of_cloud_foundry() -> None:
    """An app of which only the name is said listens on 8080 in HTTP/1 on Linux, without SSH."""
    app = create_app(State(), "guid-a", AppSpec("app-a")).result

    assert app.key == AppKey("default", "default", AppName("app-a"))
    assert (app.ports, app.c2c_port, app.ssh) == ((8080,), 8080, False)
    assert (app.protocol, app.os) == (AppProtocol.HTTP1, OperatingSystem.LINUX)
    assert app.health_check_type is HealthCheckType.PORT


def test_empty_values_mean_the_default() -> None:
    """What an API request leaves empty is the same as what is not said."""
    empty = AppSpec("app-a", org="", space="", ports=(), protocol="", os="", c2c_port=0)
    empty = replace(empty, health_check_type="")

    assert AppSpec("app-a").parse("guid-a") == empty.parse("guid-a")


@pytest.mark.parametrize(
    ("ports", "asked", "c2c_port"),
    [
        ((8080,), None, 8080),
        ((7070, 8080), None, 8080),
        ((7070, 9090), None, 7070),
        ((7070, 9090), 9090, 9090),
        ((7070, 8080), 7070, 7070),
        ((1024, 65535), None, 1024),
    ],
)
def test_61443_leads_to_8080_or_the_first_port_unless_said_otherwise(
    ports: tuple[int, ...], asked: int | None, c2c_port: int
) -> None:
    """61443 forwards to the port asked for, else to 8080, else to the app's first."""
    assert AppSpec("app-a", ports=ports, c2c_port=asked).parse("guid-a").c2c_port == c2c_port


def test_ports_are_deduplicated_in_order() -> None:
    """A port named twice counts once, in the place where it came first."""
    ports = [9090, 8080, 9090, 7070, 8080]

    assert AppSpec("app-a", ports=ports).parse("guid-a").ports == (9090, 8080, 7070)


def test_repetitions_do_not_count_against_the_limit_of_ports() -> None:
    """Ten ports named twice are ten ports."""
    ports = list(range(8080, 8090)) * 2

    assert len(AppSpec("app-a", ports=ports).parse("guid-a").ports) == 10


def test_names_fill_the_organizational_unit_to_the_last_character() -> None:
    """The longest GUID, org and space give organizational units of 64 characters (RFC 5280)."""
    app = AppSpec("a", org="o" * 51, space="s" * 58).parse("g" * 60)

    units = [f"organization:{app.key.org}", f"space:{app.key.space}", f"app:{app.guid}"]
    assert [len(unit) for unit in units] == [64, 64, 64]


def test_an_app_on_windows_may_exist_without_a_port_for_other_containers() -> None:
    """A Windows app can be known, but 61443 leads nowhere."""
    app = AppSpec("app-w", os="windows").parse("guid-w")

    assert (app.os, app.c2c_port) == (OperatingSystem.WINDOWS, None)


def test_creating_an_app_concerns_only_itself() -> None:
    """A new app changes what its own instances will have, and nobody else's."""
    decision = create_app(world("b"), "guid-a", AppSpec("a"))

    assert decision.change.apps == {A}
    assert decision.change.puts == (decision.result,)
    assert decision.state.app(A) == decision.result


def test_creating_an_app_twice_is_one_app() -> None:
    """The same name with the same properties is the same app, whatever GUID was proposed."""
    first = create_app(State(), "guid-a", AppSpec("app-a", ports=[8080, 9090]))
    second = create_app(first.state, "guid-x", AppSpec("app-a", ports=[8080, 9090, 8080]))

    assert second.result == first.result
    assert second.state is first.state
    assert not second.change


def test_one_name_may_be_used_in_each_space() -> None:
    """Names are unique within a space only."""
    state = create_app(State(), "guid-a", AppSpec("app", space="dev")).state
    state = create_app(state, "guid-b", AppSpec("app", space="test")).state

    assert find_app(state, "app", space="dev").guid == A
    assert find_app(state, "app", space="test").guid == B
    assert lookup_app(state, "app") is None


def test_a_sentence_says_where_an_app_is_that_is_elsewhere() -> None:
    """Beside an app of the same space its name suffices."""
    key = AppKey("acme", "dev", AppName("app"))

    assert key.named_in(("acme", "dev")) == "app"
    assert key.named_in(("acme", "test")) == "app in org acme / space dev"
    assert key.named_in(("acme", "dev"), 0) == "app/0"
    assert key.named_in(("dev", "acme"), 0) == "app/0 in org acme / space dev"


def test_the_apps_of_a_space_are_listed_by_name() -> None:
    """A space is one of an org; where there is no app there is no space either, and nothing."""
    state = State()
    for guid, name, org in (("guid-b", "b", ""), ("guid-a", "a", ""), ("guid-c", "c", "acme")):
        state = create_app(state, guid, AppSpec(name, org=org, space="dev")).state

    assert [app.key.name for app in apps_in(state, space="dev")] == ["a", "b"]
    assert [app.key.name for app in apps_in(state, "acme", "dev")] == ["c"]
    assert apps_in(state) == apps_in(state, "", "") == apps_in(state, "acme", "other") == ()


def test_an_app_is_found_by_name_or_guid() -> None:
    """A GUID needs no org and space; a name is looked up in the default ones if none are said."""
    state = world("a")

    assert find_app(state, "a").guid == A
    assert find_app(state, "a", "", "").guid == A
    assert find_app(state, "guid-a", "other", "space").guid == A


def test_a_name_goes_before_a_guid() -> None:
    """Who names an app as another one's GUID is means the app of that name."""
    state = create_app(world("a"), "guid-b", AppSpec("guid-a")).state

    assert find_app(state, "guid-a").guid == B


def test_a_missing_app_is_told_by_the_field_that_names_it() -> None:
    """The field at fault is the one that the caller says the reference came in."""
    with pytest.raises(NotFound) as unknown:
        find_app(State(), "pineapple", field="source")
    with pytest.raises(InvalidArgument, match="source app missing") as missing:
        find_app(State(), "", field="source_app")

    assert (unknown.value.field, missing.value.field) == ("source", "source_app")


def test_updating_an_app_changes_what_is_said_and_keeps_the_rest() -> None:
    """AppSpec.of is the spec an app has, so replacing one field changes one property."""
    state = create_app(State(), "guid-a", AppSpec("a", ports=[7070, 8080], protocol="tcp")).state
    spec = replace(AppSpec.of(state.apps[A]), ssh=True)

    decision = update_app(state, A, spec)

    assert decision.result == replace(state.apps[A], ssh=True)
    assert decision.change.apps == {A}


@pytest.mark.parametrize(
    ("created", "ports", "c2c_port"),
    [
        (AppSpec("a"), [7070, 9090], 7070),
        (AppSpec("a", ports=[8080, 9090], c2c_port=9090), [7070, 9090], 9090),
    ],
    ids=["derived", "stated"],
)
def test_a_derived_port_follows_the_ports_and_a_stated_one_stays(
    created: AppSpec, ports: list[int], c2c_port: int
) -> None:
    """New ports move 61443 to their default, unless its port was chosen and is still there."""
    state = create_app(State(), "guid-a", created).state

    updated = update_app(state, A, replace(AppSpec.of(state.apps[A]), ports=ports)).result

    assert updated.c2c_port == c2c_port


def test_updating_to_the_same_changes_nothing() -> None:
    """An update that says what is true already is no change."""
    state = world("a")

    decision = update_app(state, A, AppSpec.of(state.apps[A]))

    assert decision.state is state
    assert not decision.change


def test_a_renamed_app_is_found_by_its_new_name_only() -> None:
    """The old name is free for another app."""
    state = world("a")
    renamed = update_app(state, A, replace(AppSpec.of(state.apps[A]), name="z")).state

    assert find_app(renamed, "z").guid == A
    assert lookup_app(renamed, "a") is None
    assert create_app(renamed, "guid-b", AppSpec("a")).result.guid == B


def test_updating_an_app_that_is_gone_is_refused() -> None:
    """An app may be deleted between being found and being updated."""
    with pytest.raises(NotFound, match="app 'guid-a' not found"):
        update_app(State(), A, AppSpec("a"))


def test_an_idle_app_may_move_to_windows_and_back() -> None:
    """Only what takes part in networking holds an app on Linux."""
    state = mapping(world("a"), A, "a").state
    state = unmap_route(state, A, "a", "apps.internal").state

    state = update_app(state, A, replace(AppSpec.of(state.apps[A]), os="windows")).state
    assert state.apps[A].c2c_port is None
    state = update_app(state, A, replace(AppSpec.of(state.apps[A]), os="linux")).state
    assert state.apps[A].c2c_port == 8080


def test_deleting_an_app_takes_along_all_that_refers_to_it() -> None:
    """Instances, routes, policies of both directions and tokens go; other apps' stay."""
    state = register(register(world(), "a0", A, "10.0.0.1"), "b0", B, "10.0.0.2")
    state = mapping(mapping(state, A, "shared").state, B, "shared").state
    state = allow(allow(allow(allow(state, A, B), C, A), A, A), C, B)
    for app in (A, B):
        expiry = NOW + timedelta(minutes=1)
        state = add_token(state, JoinToken(f"digest-{app}", app, expiry, 1), NOW).state

    decision = delete_app(state, A)

    left = State.of(entities_of(decision.state))
    expected = register(world("b", "c", "d"), "b0", B, "10.0.0.2")
    expected = allow(mapping(expected, B, "shared").state, C, B)
    kept = JoinToken(f"digest-{B}", B, NOW + timedelta(minutes=1), 1)
    expected = add_token(expected, kept, NOW).state
    assert left == decision.state == expected
    assert decision.change.apps == {A, B, C}
    assert D not in decision.change.apps
    assert len(set(decision.change.drops)) == len(decision.change.drops) == 7


def test_deleting_an_app_that_is_gone_changes_nothing() -> None:
    """Deleting twice is deleting once."""
    state = world("b")

    decision = delete_app(state, A)

    assert decision.result is None
    assert decision.state is state


def test_instances_of_a_deleted_app_free_their_addresses() -> None:
    """An address of a deleted app can be registered by another one at once."""
    state = register(world("a", "b"), "a0", A, "10.0.0.1")

    state = register(delete_app(state, A).state, "b0", B, "10.0.0.1")

    held = state.instance_at(state.instances_of(AppGuid("guid-b"))[0].address)
    assert isinstance(held, Instance)
    assert held.app_guid == B


def test_an_app_that_is_not_there_may_be_another_one() -> None:
    """Of that name in another space, or else of a name like it in the one that was asked about."""
    state = create_app(State(), "guid-a", AppSpec("app-a")).state
    state = create_app(state, "guid-e", AppSpec("app-e", space="s2")).state
    state = create_app(state, "guid-e3", AppSpec("app-e", org="o3", space="s3")).state
    told = {}
    for name in ("ap-a", "app-e", "pineapple", "a" * 254):
        with pytest.raises(NotFound) as caught:
            find_app(state, name)
        told[name] = caught.value.rule

    assert told["ap-a"] == (
        "app 'ap-a' not found in org 'default' / space 'default', did you mean 'app-a'?"
    )
    assert told["app-e"] == (
        "app 'app-e' not found in org 'default' / space 'default': "
        "one is in org 'default' / space 's2' and one in org 'o3' / space 's3'"
    )
    assert told["pineapple"].endswith(": 'c2c apps --all' lists every app")
    assert told["a" * 254].endswith(": 'c2c apps --all' lists every app")


def test_the_guid_of_an_instance_is_recognised() -> None:
    """Logs have GUIDs only: who copies one from there is told what commands call that instance."""
    state = create_app(State(), "guid-c", AppSpec("app-c", org="o3", space="s3")).state
    state = register(state, "c0", AppGuid("guid-c"), "10.0.0.1")

    with pytest.raises(NotFound) as caught:
        find_app(state, "c0")

    assert caught.value.rule == (
        "app 'c0' not found in org 'default' / space 'default': it is the GUID of instance "
        "'app-c/0' in org 'o3' / space 's3'"
    )


def test_of_too_many_apps_none_is_suggested() -> None:
    """A caller who is wrong again and again costs the others nothing to speak of."""
    state = State()
    for number in range(MOST_NAMES + 1):
        state = create_app(state, f"guid-{number}", AppSpec(f"app-{number}", space="s2")).state
    for name, space in (("app-1", "default"), ("app-", "s2")):
        with pytest.raises(NotFound, match="'c2c apps --all' lists every app"):
            find_app(state, name, space=space)

    assert nearest("app-1", [f"app-{number}" for number in range(MOST_NAMES + 1)]) == []


def test_a_name_in_other_letters_is_the_nearest() -> None:
    """Names of apps are told apart by case, and who gets that wrong is shown how it is spelled."""
    known = ["Shop", "shop", "shop-2", "web"]
    assert nearest("SHOP", known) == ["Shop", "shop", "shop-2"]
    assert nearest("WEB", known) == ["web"]
