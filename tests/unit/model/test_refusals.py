"""Every command refuses bad input with the exact sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.errors import InvalidRequest
from control_plane.model.apps import create_app, find_app, update_app
from control_plane.model.change import Decision
from control_plane.model.entities import JoinToken
from control_plane.model.instances import register_instance
from control_plane.model.policies import PolicySpec, add_policies, remove_policies
from control_plane.model.routes import map_route, unmap_route
from control_plane.model.spec import AppSpec
from control_plane.model.state import State
from control_plane.model.tokens import add_token
from control_plane.names import AppGuid, Domain
from tests.unit.model.refusals import REFUSALS, SETUP, Refusal

Fields = Mapping[str, Any]

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def app_guid(state: State, request: Fields) -> AppGuid:
    """Find the app that a request names, as a server does."""
    return find_app(state, request["app"], request.get("org", ""), request.get("space", "")).guid


def create(state: State, request: Fields) -> Decision[Any]:
    """CreateApp."""
    spec = {name: value for name, value in request.items() if name != "guid"}
    return create_app(state, request["guid"], AppSpec(**spec))


def update(state: State, request: Fields) -> Decision[Any]:
    """UpdateApp."""
    guid = app_guid(state, request)
    fields = {name: value for name, value in request.items() if name != "app"}
    return update_app(state, guid, replace(AppSpec.of(state.apps[guid]), **fields))


def register(state: State, request: Fields) -> Decision[Any]:
    """RegisterInstance."""
    app = app_guid(state, request)
    app_address = request.get("app_address", "")
    return register_instance(state, request["guid"], app, request["address"], app_address)


def map_(state: State, request: Fields) -> Decision[Any]:
    """MapRoute."""
    app = app_guid(state, request)
    domains = [Domain("apps.internal")]
    return map_route(state, app, request["hostname"], request["domain"], domains)


def unmap(state: State, request: Fields) -> Decision[Any]:
    """UnmapRoute."""
    return unmap_route(state, app_guid(state, request), request["hostname"], request["domain"])


def add(state: State, request: Fields) -> Decision[Any]:
    """AddNetworkPolicies."""
    return add_policies(state, [PolicySpec(**policy) for policy in request["policies"]])


def remove(state: State, request: Fields) -> Decision[Any]:
    """RemoveNetworkPolicies."""
    return remove_policies(state, [PolicySpec(**policy) for policy in request["policies"]])


def token(state: State, request: Fields) -> Decision[Any]:
    """CreateJoinToken."""
    made = JoinToken(
        "0" * 64,
        app_guid(state, request),
        NOW + timedelta(minutes=10),
        request.get("uses", 1),
        request.get("address_range", ""),
    )
    return add_token(state, made, NOW)


METHODS: Mapping[str, Callable[[State, Fields], Decision[Any]]] = {
    "CreateApp": create,
    "UpdateApp": update,
    "RegisterInstance": register,
    "MapRoute": map_,
    "UnmapRoute": unmap,
    "AddNetworkPolicies": add,
    "RemoveNetworkPolicies": remove,
    "CreateJoinToken": token,
}


@pytest.fixture(scope="module")
def state() -> State:
    """Build what the table expects to exist."""
    state = State()
    for method, request in SETUP:
        state = METHODS[method](state, request).state
    return state


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_bad_input_is_refused_with_its_sentence(state: State, refusal: Refusal) -> None:
    """A request that breaks a rule is refused with the sentence and the field of that rule."""
    with pytest.raises(InvalidRequest) as caught:
        METHODS[refusal.method](state, refusal.request)

    error = caught.value
    assert (refusal.error, refusal.sentence, refusal.field) == (
        type(error),
        error.rule,
        error.field,
    )


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_sentences_are_written_in_one_style(refusal: Refusal) -> None:
    """A sentence starts in lower case, has no final period and is one line of printable text."""
    assert refusal.sentence[0].islower()
    assert not refusal.sentence.endswith(".") or refusal.sentence.endswith("...")
    assert refusal.sentence.isprintable()


def test_the_table_has_no_row_twice() -> None:
    """Each row is about another mistake."""
    names = [refusal.name for refusal in REFUSALS]

    assert sorted(set(names)) == sorted(names)
