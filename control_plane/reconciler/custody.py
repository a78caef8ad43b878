"""The certificates of the instances, private keys included: in memory, and nowhere else.

The rule of this module: an instance's certificate is replaced when it no longer says what it must
say, or when half of its life is over, and only by one that passed the linter. If issuing fails the
old one stays in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.ca.authority import Authority
from control_plane.ca.issuer import issue
from control_plane.ca.keys import KeyFactory
from control_plane.ca.linter import Leaf
from control_plane.ca.profile import Profile, renew_at
from control_plane.ca.request import Request
from control_plane.envoy.secrets import tls_secret
from control_plane.errors import ControlPlaneError
from control_plane.names import InstanceGuid
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import SECRET


@dataclass(frozen=True, slots=True)
class Held:
    """One secret of one instance: what was asked for, what was issued, and its resource."""

    request: Request
    leaf: Leaf = field(repr=False)
    resource: Resource
    renew_at: datetime


@dataclass(frozen=True, slots=True)
class Custodian:
    """What issuing needs, as values, so that tests can decide each of them."""

    authority: Authority
    profile: Profile
    new_key: KeyFactory
    new_serial: Callable[[], int]


class Custody:
    """Every instance's secrets by name."""

    def __init__(self, custodian: Custodian) -> None:
        """Start with none."""
        self._custodian = custodian
        self._held: dict[InstanceGuid, dict[str, Held]] = {}
        self._failures: dict[InstanceGuid, dict[str, str]] = {}
        self._news: dict[tuple[InstanceGuid, str], asyncio.Event] = {}

    def get(self, instance: InstanceGuid, name: str) -> Held | None:
        """Return a secret as it is now."""
        return self._held.get(instance, {}).get(name)

    def failure(self, instance: InstanceGuid) -> str:
        """Return why the last certificate of an instance could not be issued, or ""."""
        return next(iter(self._failures.get(instance, {}).values()), "")

    def ensure(
        self, instance: InstanceGuid, name: str, request: Request, now: datetime
    ) -> tuple[Held | None, bool]:
        """Return the secret that says what it must, and whether it was issued just now.

        Where issuing fails the old one is returned, or None if there never was one, and ``failure``
        says why.
        """
        held = self.get(instance, name)
        if held is not None and held.request == request and now < held.renew_at:
            return held, False
        authority, profile = self._custodian.authority, self._custodian.profile
        try:
            leaf = issue(
                authority,
                profile,
                request,
                key=self._custodian.new_key,
                now=now,
                serial=self._custodian.new_serial(),
            )
        except ControlPlaneError as error:
            self._failures.setdefault(instance, {})[name] = str(error)
            return held, False
        self._failures.get(instance, {}).pop(name, None)
        fresh = Held(
            request,
            leaf,
            Resource.of(
                SECRET,
                name,
                tls_secret(name, leaf.certificate_chain_pem, leaf.private_key_pem or b""),
            ),
            renew_at(leaf.not_before, leaf.not_after, instance),
        )
        self._held.setdefault(instance, {})[name] = fresh
        news = self._news.pop((instance, name), None)
        if news is not None:
            news.set()
        return fresh, True

    async def renewed(self, instance: InstanceGuid, name: str, timeout: float) -> None:
        """Return when this secret is replaced, or after that many seconds."""
        event = self._news.setdefault((instance, name), asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await event.wait()

    def drop(self, instance: InstanceGuid) -> None:
        """Forget all of an instance that is gone."""
        self._held.pop(instance, None)
        self._failures.pop(instance, None)
