"""How the instance keeps its identity.

The rule of this module: renewal starts at half life, or earlier if the control plane asks for it or
takes no report of the instance. So a control plane that is down has the other half to come back.
Each renewal uses a new key. A renewal that fails is repeated until it succeeds, and nothing that
runs is ever stopped because of it. If the clock here is ahead, so that the new identity is due for
renewal at once, the renewal counts as failed; otherwise identities would be renewed without a
pause.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import grpc
import structlog

from control_plane import log_events
from control_plane.api.v1 import identity_pb2, identity_pb2_grpc
from control_plane.ca import KeyFactory, make_csr, read_certificates
from control_plane.clock import Clock
from control_plane.errors import ControlPlaneError, InvalidArgument
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import instance_channel, reason, refusal, silence
from control_plane.sidecar.directory import Credentials
from control_plane.sidecar.enrolment.credentials import LiveCredentials
from control_plane.sidecar.enrolment.enrol import address_towards, is_of_this_machine
from control_plane.sidecar.identity import hold
from control_plane.sidecar.race import first_of
from control_plane.sidecar.retry import delays
from control_plane.sidecar.seldom import Seldom

RENEW_SECONDS = 10.0
"""How long a call may take."""

MOST_SECONDS_BETWEEN = 60.0
"""The longest pause between attempts; a twentieth of the identity's life if that is shorter."""

_ENDED = (
    "by the clock here the identity has ended: if that is right, the control plane lets this "
    "instance in no more, so start the sidecar again with a new token (c2c join-token)"
)

_AHEAD = (
    "the new identity is due again at once, so the clock here is ahead of the control plane's: "
    "set the clock"
)

_BEHIND = (
    "by the clock here the identity has not begun, so it would be renewed late or never: set the "
    "clock"
)

MOVED_SECONDS = 5.0
"""How often to check whether the machine still has the address of the instance. That is seldom
enough to ignore an address that DHCP takes away and gives again."""

_LOOK_AGAIN_SECONDS = 60.0
"""A machine that slept, or whose clock was set, notices within this time that a renewal is due."""


async def renew(
    server: SocketAddress,
    credentials: Credentials,
    *,
    new_key: KeyFactory,
    place: tuple[str, str] = ("", ""),
) -> Credentials:
    """Return new credentials for the instance of the given ones.

    Args:
        server: the port of discovery and renewal.
        new_key: makes the key of the new identity.
        place: where the instance is reached, and where its Envoy reaches the app, in case either
            has changed; an empty text keeps what is registered.

    Raises:
        grpc.aio.AioRpcError: the call failed.
        InvalidArgument: the answer does not contain an identity of this instance.
    """
    key = new_key()
    address, app_address = place
    request = identity_pb2.RenewRequest(csr=make_csr(key), address=address, app_address=app_address)
    async with instance_channel(server, credentials) as channel:
        stub = identity_pb2_grpc.IdentityServiceStub(channel)
        try:
            response = await stub.Renew(request, timeout=RENEW_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise silence(error, server, RENEW_SECONDS) from None
    identity = hold(response.certificate, key)
    if identity.instance_guid != credentials.identity.instance_guid:
        raise InvalidArgument(
            f"identity of instance {identity.instance_guid} came back for instance "
            f"{credentials.identity.instance_guid}"
        )
    trust_bundle = response.trust_bundle.encode()
    read_certificates(trust_bundle)
    return Credentials(identity, trust_bundle)


@dataclass(frozen=True, slots=True)
class _Failure:
    why: str
    is_final: bool


class Renewal:
    """Renews the identity, for as long as it runs."""

    name = "renewal"

    def __init__(
        self,
        server: SocketAddress,
        live: LiveCredentials,
        *,
        new_key: KeyFactory,
        clock: Clock,
        draw: Callable[[], float],
        may_move: bool = False,
    ) -> None:
        """Renew these credentials at this port.

        Args:
            draw: returns a number from 0 up to 1, another one each time.
            may_move: whether the instance takes the source address of the route to the server, and
                so may move with it.
        """
        self._server = server
        self._live = live
        self._new_key = new_key
        self._clock = clock
        self._draw = draw
        self._may_move = may_move
        self._seldom = Seldom(clock)
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Renew whenever it is time, until cancelled."""
        while True:
            at = self._live.current.identity.renew_at
            await first_of(self._until(at), self._live.renewal_wanted.wait(), self._moved())
            await self._renew()

    async def _moved(self) -> None:
        """Return once the machine no longer has the address of the instance."""
        await self._clock.sleep(MOVED_SECONDS)
        while not self._has_moved():
            await self._clock.sleep(MOVED_SECONDS)

    def _has_moved(self) -> bool:
        return self._may_move and not is_of_this_machine(self._live.current.identity.address)

    async def _place(self) -> tuple[str, str]:
        """Return where the instance is now; empty texts if it has not moved.

        Raises:
            OSError: there is no route to the server.
            InvalidArgument: the source address of the route is one that no instance can have.
        """
        return (await address_towards(self._server), "") if self._has_moved() else ("", "")

    async def _until(self, moment: datetime) -> None:
        while (left := (moment - self._clock.now()).total_seconds()) > 0:
            self._look_at_clock()
            await self._clock.sleep(min(left, _LOOK_AGAIN_SECONDS))

    def _look_at_clock(self) -> None:
        """Log that the clock is far behind; otherwise that shows only once a connection breaks."""
        identity = self._live.current.identity
        if self._clock.now() < identity.not_before and self._seldom.is_news(_BEHIND):
            self._log.error(
                log_events.IDENTITY_RENEWAL_FAILED,
                instance=identity.instance_guid,
                reason=_BEHIND,
                not_after=identity.not_after,
            )

    async def _renew(self) -> None:
        identity = self._live.current.identity
        life = (identity.not_after - identity.not_before).total_seconds()
        most = min(MOST_SECONDS_BETWEEN, life / 20)
        for delay in delays(self._draw, first=most / 16, most=most):
            failure = await self._attempt()
            if failure is None:
                return
            self._alarm(failure, delay)
            await self._clock.sleep(delay)

    async def _attempt(self) -> _Failure | None:
        """Renew once; return why the attempt failed, or None if it succeeded."""
        try:
            asked = self._live.current
            # Once another identity is issued, the control plane ends streams that show this one.
            await self._live.check_room()
            place = await self._place()
            new = await renew(self._server, asked, new_key=self._new_key, place=place)
            await self._live.renewed(new.identity, new.trust_bundle, asked=asked)
        except OSError as error:
            return _Failure(error.strerror or str(error), is_final=False)
        except grpc.aio.AioRpcError as error:
            return _Failure(reason(error), is_final=refusal(error) is not None)
        except ControlPlaneError as error:
            return _Failure(str(error), is_final=False)
        self._log.info(
            log_events.IDENTITY_RENEWED,
            instance=new.identity.instance_guid,
            serial=f"{new.identity.serial:x}",
            address=new.identity.address,
            not_after=new.identity.not_after,
        )
        if new.identity.renew_at <= self._clock.now():
            return _Failure(_AHEAD, is_final=True)
        return None

    def _alarm(self, failure: _Failure, delay: float) -> None:
        """Log a failure, as an error if time will not help or is running out."""
        identity = self._live.current.identity
        left = identity.not_after - self._clock.now()
        is_urgent = left < (identity.not_after - identity.not_before) / 4 or failure.is_final
        log = self._log.error if is_urgent else self._log.warning
        # An ended identity makes the handshake fail, and what gRPC says of that does not help.
        why = failure.why if left > timedelta() else f"{failure.why} ({_ENDED})"
        log(
            log_events.IDENTITY_RENEWAL_FAILED,
            instance=identity.instance_guid,
            reason=why,
            not_after=identity.not_after,
            seconds_left=max(0, round(left.total_seconds())),
            again_in=round(delay, 1),
        )
