"""Whatever bytes come over the wire, each call has a status and the next one is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from control_plane.app.administration import ADMIN_SERVICES
from control_plane.ca import make_csr, new_key_pair
from control_plane.server.credentials import SERVER_NAME
from tests.e2e.site import Site, site
from tests.fuzz.budget import CALL
from tests.fuzz.messages import messages

T = TypeVar("T")

METHODS = [
    method
    for service in ADMIN_SERVICES
    if service.startswith("c2c.")
    for method in descriptor_pool.Default().FindServiceByName(service).methods
]
ENROLL = "/c2c.v1.EnrollmentService/Enroll"
ENROLL_REQUEST = "c2c.v1.EnrollRequest"
DEFECTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class Plane:
    """A control plane on an event loop of its own, and its clients."""

    loop: asyncio.AbstractEventLoop
    cloud: Site
    operator: grpc.aio.Channel
    enrolling: grpc.aio.Channel

    def run(self, what: Awaitable[T]) -> T:
        """Return what becomes of it."""
        return self.loop.run_until_complete(_awaited(what))


async def _awaited(what: Awaitable[T]) -> T:
    return await what


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Run a control plane for all tests of this module."""
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    made = loop.run_until_complete(_start(loop, stack, tmp_path_factory.mktemp("fuzz")))
    try:
        yield made
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


async def _start(loop: asyncio.AbstractEventLoop, stack: AsyncExitStack, path: Path) -> Plane:
    # What is refused without being looked at would be fuzzed no more.
    unbounded = site(path, max_refused_enrollments_per_minute=10**6)
    cloud = await stack.enter_async_context(unbounded)
    await cloud.create_app("app-a")
    await cloud.register("app-a")
    running = cloud._plane
    assert running is not None
    operator = grpc.aio.insecure_channel(f"unix:{running.admin_socket}")
    enrolling = grpc.aio.secure_channel(
        str(running.enroll_address),
        grpc.ssl_channel_credentials(cloud.trust),
        options=[("grpc.ssl_target_name_override", SERVER_NAME)],
    )
    for channel in (operator, enrolling):
        await stack.enter_async_context(channel)
    return Plane(loop, cloud, operator, enrolling)


async def outcome(channel: grpc.aio.Channel, path: str, raw: bytes, *, streams: bool) -> str:
    """Make a call with these bytes; return its status, and check that it is one of ours."""
    try:
        if streams:
            call: grpc.aio.UnaryStreamCall[bytes, bytes]
            open_stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
            open_stream = channel.unary_stream(path)
            call = open_stream(raw, timeout=10)
            first = asyncio.ensure_future(call.read())
            await asyncio.wait([first], timeout=0.05)
            call.cancel()
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        else:
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            await ask(raw, timeout=10)
    except grpc.aio.AioRpcError as error:
        code, details = error.code(), error.details() or ""
        assert code not in DEFECTS, (code, details)
        assert details.isprintable()
        return code.name
    return "OK"


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@pytest.mark.parametrize("method", METHODS, ids=[each.name for each in METHODS])
@CALL
@given(data=st.data())
def test_every_call_of_an_operator_has_a_status(
    plane: Plane, method: MethodDescriptor, data: st.DataObject
) -> None:
    """Bytes that are no message, or a message of any content: never a defect, never silence."""
    kind = GetMessageClass(method.input_type)
    raw = data.draw(st.one_of(messages(kind), st.binary(max_size=200)))

    plane.run(outcome(plane.operator, _path(method), raw, streams=method.server_streaming))

    assert plane.run(plane.cloud.routes()) is not None


@CALL
@given(data=st.data())
def test_nobody_enrols_by_any_bytes(plane: Plane, data: st.DataObject) -> None:
    """Without a join token there is no way in, whatever else is right."""
    known = descriptor_pool.Default().FindMessageTypeByName(ENROLL_REQUEST)
    before = len(plane.cloud.core.registry.state.all_instances())
    request = GetMessageClass(known)
    raw = data.draw(
        st.one_of(
            messages(request),
            st.text().map(lambda token: request(token=token, csr=CSR).SerializeToString()),
            st.binary(max_size=200),
        )
    )

    status = plane.run(outcome(plane.enrolling, ENROLL, raw, streams=False))

    assert status in {"INVALID_ARGUMENT", "UNAUTHENTICATED"}
    assert len(plane.cloud.core.registry.state.all_instances()) == before


CSR = make_csr(new_key_pair())
