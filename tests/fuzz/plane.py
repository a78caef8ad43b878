"""A control plane that is called by everybody who may, with any bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from control_plane.api.v1 import (
    enrollment_pb2,
    enrollment_pb2_grpc,
    join_token_pb2,
    join_token_pb2_grpc,
)
from control_plane.app import port_limits, ports
from control_plane.ca import KeyPair, make_csr, new_key_pair
from control_plane.names import SERVER_NAME
from control_plane.server.limits import ServerLimits
from control_plane.settings import Settings
from tests.e2e.site import Site, site
from tests.envoy.harness import unique_address
from tests.fuzz.methods import Caller, Method

T = TypeVar("T")

DEADLINE = 10.0
"""Seconds after which a call has no answer."""

DEFECTS = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What no caller is told whatever it sends."""

_APP = "the-app-of-an-instance"
"""Longer than what is made up, so that nobody deletes it by chance."""

_LIMIT = 10**6
"""What is refused without being looked at would be fuzzed no more."""


_POLL_SECONDS = 0.02
"""Most of what is made up asks for what there never is."""


@dataclass(frozen=True, slots=True)
class Plane:
    """A control plane on an event loop of its own, and its clients.

    Attributes:
        instance: who calls as an instance.
        token: what strangers may enrol with, as often as they like and on any address of loopback.
    """

    loop: asyncio.AbstractEventLoop
    cloud: Site
    channels: dict[Caller, grpc.Channel]
    instance: str
    token: str

    def run(self, what: Awaitable[T]) -> T:
        """Return what becomes of it."""
        return self.loop.run_until_complete(_awaited(what))

    def outcome(self, method: Method, raws: Sequence[bytes]) -> tuple[grpc.StatusCode, bytes]:
        """Make a call with these bytes; return its status and first answer, if it is no defect."""
        # grpc.aio would lose the status of a call that is over before all was written.
        call = asyncio.to_thread(_make, self.channels[method.caller], method, raws)
        code, details, answer = self.run(call)
        is_polled_in_vain = code is grpc.StatusCode.UNAVAILABLE and details.endswith("ask again")
        assert code not in DEFECTS or is_polled_in_vain, (code, details)
        assert details.isprintable()
        return code, answer


async def _awaited(what: Awaitable[T]) -> T:
    return await what


def _make(
    channel: grpc.Channel, method: Method, raws: Sequence[bytes]
) -> tuple[grpc.StatusCode, str, bytes]:
    # On the wire a call with one request is one with many that has just one.
    open_call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method.path)
    call: Any = open_call(iter(raws), timeout=DEADLINE)
    answers: list[bytes] = []
    if method.gives_many and not method.takes_many and not _is_refused(channel, call):
        call.cancel()
        return grpc.StatusCode.OK, "", b""
    with suppress(grpc.RpcError):
        answers = list(call)
    return call.code(), call.details() or "", b"".join(answers[:1])


def _is_refused(channel: grpc.Channel, call: grpc.Call) -> bool:
    """Tell whether a call has ended that else would go on for ever."""
    call.initial_metadata()
    # What ended it came before the answer to what is asked afterwards on the same connection.
    check: grpc.UnaryUnaryMultiCallable[bytes, bytes]
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    check.future(b"", timeout=DEADLINE).result()
    return not call.is_active()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Plane]:
    """Run a control plane with an instance, whose app nobody knows."""
    limits = port_limits.limits_of

    def unbounded(settings: Settings) -> ServerLimits:
        return replace(
            limits(settings),
            new_streams_burst=_LIMIT,
            new_streams_per_node_and_minute=_LIMIT,
            refused_enrollments_per_minute=_LIMIT,
            renewals_burst=_LIMIT,
            new_calls_per_client_and_minute=_LIMIT,
            request_octets_per_second=_LIMIT,
            poll_seconds=_POLL_SECONDS,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ports, "limits_of", unbounded)
        async with site(directory) as cloud:
            await cloud.create_app("app-a")
            await cloud.register("app-a")
            await cloud.create_app(_APP)
            token, identity = await _token(cloud), new_key_pair()
            instance = await _enrolled(cloud, token, identity)
            with _channels(cloud, identity, instance.certificate) as channels:
                loop = asyncio.get_running_loop()
                yield Plane(loop, cloud, channels, instance.instance_guid, token)


async def _token(cloud: Site) -> str:
    tokens = join_token_pb2_grpc.JoinTokenServiceStub(cloud._channel)
    request = join_token_pb2.CreateJoinTokenRequest(
        app=_APP, uses=_LIMIT, address_range="127.0.0.0/8", ttl=Duration(seconds=86_400)
    )
    return (await tokens.CreateJoinToken(request)).token


@contextmanager
def _channels(
    cloud: Site, identity: KeyPair, certificate: bytes
) -> Iterator[dict[Caller, grpc.Channel]]:
    plane = cloud._plane
    assert plane is not None
    as_nobody = grpc.ssl_channel_credentials(cloud.trust)
    as_instance = grpc.ssl_channel_credentials(cloud.trust, identity.private_pem(), certificate)
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    with (
        grpc.insecure_channel(f"unix:{plane.admin_socket}") as operator,
        grpc.secure_channel(str(plane.enroll_address), as_nobody, options) as stranger,
        grpc.secure_channel(str(plane.xds_address), as_instance, options) as instance,
    ):
        yield {
            Caller.OPERATOR: operator,
            Caller.STRANGER: stranger,
            Caller.INSTANCE: instance,
        }


async def _enrolled(cloud: Site, token: str, identity: KeyPair) -> enrollment_pb2.EnrollResponse:
    plane = cloud._plane
    assert plane is not None
    request = enrollment_pb2.EnrollRequest(
        token=token, csr=make_csr(identity), address=unique_address()
    )
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    async with grpc.aio.secure_channel(
        str(plane.enroll_address), grpc.ssl_channel_credentials(cloud.trust), options
    ) as channel:
        return await enrollment_pb2_grpc.EnrollmentServiceStub(channel).Enroll(request)
