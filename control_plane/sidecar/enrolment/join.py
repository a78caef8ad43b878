"""How the instance becomes a member, once at each start.

The rule of this module: the identity of an earlier start is kept for as long as the control plane
accepts it, even if the instance has another address now, so that a restart needs no new token. It
is renewed at once, which is how a removed instance learns that it was removed. If the control plane
is down, or the disk cannot store another identity, the old one is used as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc
import structlog

from control_plane import log_events
from control_plane.ca import KeyFactory
from control_plane.errors import (
    ConfigurationError,
    InvalidArgument,
    InvalidRequest,
    StorageError,
)
from control_plane.names import Address, shown
from control_plane.settings import SocketAddress
from control_plane.sidecar.channel import is_held
from control_plane.sidecar.directory import Credentials, Membership, SidecarDirectory
from control_plane.sidecar.enrolment.enrol import (
    address_towards,
    enrol,
    is_of_this_machine,
    name_ca_of,
    trust_anchor,
)
from control_plane.sidecar.enrolment.first_key import FirstKey
from control_plane.sidecar.enrolment.renew import renew
from control_plane.sidecar.options import SidecarOptions
from control_plane.sidecar.retry import Retry, why_not


class Joining:
    """Finds the identity of this instance, or gets one."""

    def __init__(
        self,
        options: SidecarOptions,
        directory: SidecarDirectory,
        *,
        retry: Retry,
        new_key: KeyFactory,
    ) -> None:
        """Join as the options say, and store the outcome in the directory."""
        self._options = options
        self._directory = directory
        self._retry = retry
        self._new_key = new_key
        self._first_key = FirstKey(directory.path, new_key)
        self._log = structlog.get_logger(__name__)

    async def join(self) -> Membership:
        """Return the membership of an earlier start if it still counts, else a new one.

        Raises:
            InvalidRequest: the control plane refused for good.
            ConfigurationError: the options do not suffice, or the server is not the control plane.
            StorageError: the identity could not be written.
        """
        earlier = self._earlier()
        if earlier and (resumed := await self._resumed(earlier)):
            self._directory.write(resumed)
            self._first_key.drop()
            return resumed
        self._directory.check_room()
        member = await enrol(self._options, new_key=self._first_key, retry=self._retry)
        self._log.info(
            log_events.SIDECAR_ENROLLED,
            instance=member.enrollment.instance_guid,
            index=member.enrollment.index,
            app=member.credentials.identity.app_guid,
            address=member.credentials.identity.address,
        )
        self._directory.write(member)
        self._first_key.drop()
        return member

    def _earlier(self) -> Membership | None:
        """Return the membership that an earlier start left, if it may still count."""
        try:
            member = self._directory.read()
            objection = "" if member is None else self._objection(member)
        except InvalidArgument as error:
            member, objection = None, error.rule
        if objection:
            if not self._options.token:
                raise ConfigurationError([self._lack_of_another(objection)])
            self._log.warning(log_events.IDENTITY_PASSED_OVER, reason=objection)
            return None
        return member

    def _lack_of_another(self, objection: str) -> str:
        where = shown(str(self._directory.path))
        return (
            f"identity in {where} cannot be used, and there is no join token for another (c2c "
            f"join-token): {objection}"
        )

    def _objection(self, member: Membership) -> str:
        """Return why the membership of an earlier start does not count, or "" if it may count."""
        identity, now = member.credentials.identity, self._retry.clock.now()
        here = f"and the clock of this machine says {now:%Y-%m-%dT%H:%M:%SZ}"
        if now < identity.not_before:
            return f"it begins at {identity.not_before:%Y-%m-%dT%H:%M:%SZ}, {here}: set the clock"
        if not identity.is_valid(now):
            return f"it ended at {identity.not_after:%Y-%m-%dT%H:%M:%SZ}, {here}"
        # With a token the sidecar can get another identity; without one, this is its only one.
        if self._options.token and not self._is_known(member):
            return "it is of a control plane that was known by another CA"
        return ""

    def _is_known(self, member: Membership) -> bool:
        """Tell whether the options mean the control plane of a membership, perhaps by a newer CA.

        Options that name no CA mean the same control plane: a token may stay in the environment
        long after the enrolment.
        """
        if trust_anchor(self._options) in ("", member.enrollment.trusted_by):
            return True
        return name_ca_of(self._options, member.credentials.trust_bundle)

    async def _resumed(self, earlier: Membership) -> Membership | None:
        """Return the membership with a fresh identity; None to try a token instead."""
        try:
            return await self._renewed(earlier)
        except InvalidRequest as error:
            if not self._options.token:
                raise
            self._log.warning(log_events.IDENTITY_PASSED_OVER, reason=error.rule)
            return None

    async def _renewed(self, earlier: Membership) -> Membership:
        options, held = self._options, earlier.credentials
        server = SocketAddress(options.server.host, earlier.enrollment.xds_port)
        place = (await self._address(held.identity.address), options.app_address)
        has_moved = place != (held.identity.address, earlier.enrollment.app_address)
        try:
            # Once another identity is issued, the control plane soon refuses the present one.
            self._directory.check_room()
        except StorageError as error:
            if has_moved:
                raise
            self._log.error(log_events.IDENTITY_RENEWAL_FAILED, reason=str(error))
            return earlier

        async def attempt() -> Credentials:
            return await renew(server, held, new_key=self._new_key, place=place)

        if has_moved:
            credentials = await self._retry.until_done("renew the identity", attempt)
        else:
            credentials = await self._once(attempt) or held
        enrollment = replace(earlier.enrollment, app_address=options.app_address)
        if options.token:
            # Store which CA the options name now: by the next rotation, the CA of the enrolment may
            # be long gone.
            trusted_by = trust_anchor(options) or enrollment.trusted_by
            enrollment = replace(enrollment, trusted_by=trusted_by)
        return Membership(enrollment, credentials)

    async def _address(self, held: Address) -> Address:
        """Return the instance's address; the old one if only the route cannot be found."""
        if self._options.address is not None:
            return self._options.address

        async def attempt() -> Address:
            try:
                return await address_towards(self._options.server, held)
            except OSError:
                # The name of a server that is down, such as a stopped container, may not resolve
                # either.
                if is_of_this_machine(held):
                    return held
                raise

        return await self._retry.until_done("find the own address", attempt)

    async def _once(self, attempt: Callable[[], Awaitable[Credentials]]) -> Credentials | None:
        """Try to renew, but only once, because nothing depends on it.

        If the address is held by another instance, it was given away while this one was gone. Then
        this one is admitted nowhere until it gets an address again, so it asks until it does.
        """
        try:
            return await attempt()
        except (OSError, grpc.aio.AioRpcError) as error:
            if isinstance(error, grpc.aio.AioRpcError) and is_held(error):
                return await self._retry.until_done("renew the identity", attempt)
            self._log.warning(log_events.IDENTITY_RENEWAL_FAILED, reason=why_not(error))
            return None
