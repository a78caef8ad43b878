"""Whatever bytes come over the wire, each call has a status and the next one is answered."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.api.v1 import sidecar_pb2
from tests.e2e.site import ANY_PORT, site
from tests.fuzz.budget import CALL
from tests.fuzz.methods import METHODS, Caller, Method
from tests.fuzz.plane import Plane
from tests.fuzz.sensible import requests

(REPORT,) = (
    each for each in METHODS if each.request is sidecar_pb2.ReportRequest and not each.takes_many
)
GOOD_REPORT = sidecar_pb2.ReportRequest(listening=True).SerializeToString()


def of(*callers: Caller) -> pytest.MarkDecorator:
    """Run a test for each method that these may call."""
    theirs = [each for each in METHODS if each.caller in callers]
    return pytest.mark.parametrize("method", theirs, ids=str)


@cache
def requests_of(method: Method, node: str) -> st.SearchStrategy[list[bytes]]:
    """Return what a method is asked with."""
    one = requests(method.request, node)
    return st.lists(one, max_size=5) if method.takes_many else one.map(lambda raw: [raw])


async def test_every_method_that_is_served_is_fuzzed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever adds a service has it fuzzed; the methods of one are found by themselves."""
    served: set[str] = set()
    make = grpc.method_handlers_generic_handler

    def noted(service: str, handlers: dict[str, Any]) -> grpc.GenericRpcHandler:
        served.update(f"/{service}/{name}" for name in handlers)
        return make(service, handlers)

    monkeypatch.setattr(grpc, "method_handlers_generic_handler", noted)
    async with site(tmp_path, admin_address=ANY_PORT):
        pass

    assert served == {each.path for each in METHODS}


@of(Caller.OPERATOR)
@CALL
@given(data=st.data())
def test_every_call_of_an_operator_has_a_status(
    plane: Plane, method: Method, data: st.DataObject
) -> None:
    """Bytes that are no message, or a message of any content: never a defect, never silence."""
    plane.outcome(method, data.draw(requests_of(method, "nobody")))

    assert plane.run(plane.cloud.routes()) is not None


@of(Caller.INSTANCE)
@CALL
@given(data=st.data())
def test_every_call_of_an_instance_has_a_status(
    plane: Plane, method: Method, data: st.DataObject
) -> None:
    """Likewise, and whatever it says on any stream, it is an instance and heard as one."""
    plane.outcome(method, data.draw(requests_of(method, plane.instance)))

    assert plane.outcome(REPORT, [GOOD_REPORT])[0] is grpc.StatusCode.OK


@of(Caller.STRANGER)
@CALL
@given(data=st.data())
def test_nobody_enrols_by_any_bytes(plane: Plane, method: Method, data: st.DataObject) -> None:
    """Without a join token there is no way in, whatever else is right."""
    before = len(plane.cloud.core.registry.state.all_instances())

    status, _ = plane.outcome(method, data.draw(requests_of(method, "nobody")))

    assert status in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAUTHENTICATED}
    assert len(plane.cloud.core.registry.state.all_instances()) == before
