"""The certificates of the instances, private keys included: in memory, and nowhere else.

The rule of this module: an instance's certificate is replaced when it no longer says what it must
say, when it does not lead to the current CA, when half of its life is over, or when its life has
not begun (the clock was set back). Only a certificate that passed the linter replaces it. If
issuing fails, the old certificate stays in use. A certificate that a change needs may be issued
before the change is made, and is given to nobody until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from control_plane.ca.authority import Authority
from control_plane.ca.issuer import issue
from control_plane.ca.keys import KeyFactory
from control_plane.ca.linter import Leaf
from control_plane.ca.profile import Profile, renew_at
from control_plane.ca.request import Request
from control_plane.envoy.secrets import tls_secret
from control_plane.errors import ControlPlaneError
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.held import Ensured, Held, Recorded, names_of
from control_plane.reconciler.certificates.issuers import Issued
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.resource import Resource
from control_plane.xds.resource_type import SECRET

Watcher = Callable[[], None]
"""Called when a secret was replaced or dropped; returns at once."""


@dataclass(frozen=True, slots=True)
class Custodian:
    """What issuing needs, passed in as values so that tests can control each of them.

    Attributes:
        authority: returns the current CA.
        note: is called with the record of each new certificate, and returns at once.
        issuing: returns a context manager that surrounds the issuing of each certificate in this
            process, to measure it.
        issued_elsewhere: is called with the seconds that another process took to issue a
            certificate.
    """

    authority: Callable[[], Authority]
    profile: Profile
    new_key: KeyFactory
    new_serial: Callable[[], int]
    note: Callable[[IssuedRecord], None] = lambda _: None
    issuing: Callable[[], AbstractContextManager[object]] = nullcontext
    issued_elsewhere: Callable[[float], None] = lambda _: None


class Custody:
    """The secrets of every instance, by name."""

    def __init__(self, custodian: Custodian, records: Iterable[IssuedRecord] = ()) -> None:
        """Start with the records of the certificates that an earlier run issued."""
        self._custodian = custodian
        self._held: dict[InstanceGuid, dict[str, Held | Recorded]] = {}
        for each in records:
            at = renew_at(each.not_before, each.not_after, each.instance_guid)
            self._held.setdefault(each.instance_guid, {})[each.secret] = Recorded(each, at)
        self._ready: dict[InstanceGuid, dict[str, Issued]] = {}
        self._foreseen: dict[tuple[InstanceGuid, str], Held] = {}
        self._failures: dict[InstanceGuid, dict[str, str]] = {}
        self._watchers: dict[InstanceGuid, list[Watcher]] = {}

    def get(self, instance: InstanceGuid, name: str) -> Held | Recorded | None:
        """Return the present secret of a name."""
        return self._held.get(instance, {}).get(name)

    def recorded(self) -> tuple[IssuedRecord, ...]:
        """Return the records of those secrets of which nothing but the record is left."""
        return tuple(
            held.record
            for secrets in self._held.values()
            for held in secrets.values()
            if isinstance(held, Recorded)
        )

    def failure(self, instance: InstanceGuid) -> str:
        """Return why an instance lacks the certificates that it should have, or ""."""
        return next(iter(self._failures.get(instance, {}).values()), "")

    def has_failed(self, instance: InstanceGuid, name: str) -> bool:
        """Tell whether a secret does not say what it must because no new one could be issued."""
        return name in self._failures.get(instance, {})

    def is_due(self, instance: InstanceGuid, name: str, request: Request, now: datetime) -> bool:
        """Tell whether ``ensure`` would issue a certificate."""
        held = self.get(instance, name)
        return held is None or not self._is_good(held, request, now)

    @contextmanager
    def ready(self, instance: InstanceGuid, issued: Mapping[str, Issued]) -> Iterator[None]:
        """Within this context, use certificates issued elsewhere, if they are still right."""
        self._ready[instance] = dict(issued)
        try:
            yield
        finally:
            del self._ready[instance]

    def forget_foreseen(self) -> None:
        """Forget the certificates that were issued for changes that were never made."""
        self._foreseen.clear()

    def foresee(self, instance: InstanceGuid, name: str, request: Request, now: datetime) -> None:
        """Issue what ``ensure`` will want if a change is made; nobody is told of it yet."""
        if self.is_due(instance, name, request, now):
            with suppress(ControlPlaneError):  # ``ensure`` reports it if the change is made
                self._foreseen[instance, name] = self._issue(instance, name, request, now)

    def ensure(self, instance: InstanceGuid, name: str, request: Request, now: datetime) -> Ensured:
        """Return a secret that says what it must, or the old one if issuing fails."""
        held = self.get(instance, name)
        failures = self._failures.setdefault(instance, {})
        if held is not None and self._is_good(held, request, now):
            failures.pop(name, None)
            return Ensured(held)
        try:
            fresh = self._issue(instance, name, request, now)
        except ControlPlaneError as error:
            failures[name] = str(error)
            return Ensured(held, failure=str(error))
        failures.pop(name, None)
        self._held.setdefault(instance, {})[name] = fresh
        self._custodian.note(fresh.record)
        self._tell_watchers(instance)
        return Ensured(fresh, is_fresh=True)

    def make_anew(self, instance: InstanceGuid, name: str) -> None:
        """Have a secret issued when it is next asked for, if only its record is left."""
        if isinstance(self.get(instance, name), Recorded):
            del self._held[instance][name]

    @contextmanager
    def watched(self, instance: InstanceGuid, watcher: Watcher) -> Iterator[None]:
        """Within this context, call a watcher when a secret is replaced or dropped."""
        watchers = self._watchers.setdefault(instance, [])
        watchers.append(watcher)
        try:
            yield
        finally:
            watchers.remove(watcher)
            if not watchers and self._watchers.get(instance) is watchers:
                del self._watchers[instance]

    def drop(self, instance: InstanceGuid) -> None:
        """Forget everything about an instance that is gone."""
        self._held.pop(instance, None)
        self._failures.pop(instance, None)
        self._tell_watchers(instance)

    def _tell_watchers(self, instance: InstanceGuid) -> None:
        for watcher in self._watchers.get(instance, ()):
            watcher()

    def _is_good(self, held: Held | Recorded, request: Request, now: datetime) -> bool:
        """Tell whether a certificate need not be replaced."""
        return held.not_before <= now < held.renew_at and self._says(held, request)

    def _says(self, held: Held | Recorded, request: Request) -> bool:
        """Tell whether a certificate says what it must, and leads to the current CA."""
        authority = self._custodian.authority()
        if held.record.issuer != authority.fingerprint:
            return False
        match held:
            case Held():
                return held.request == request and held.record.sent_digest == authority.sent_digest
            case Recorded(record):
                is_sent = record.sent_digest in ("", authority.sent_digest)
                return record.names == names_of(request.san) and is_sent
            case _:
                assert_never(held)

    def _issue(self, instance: InstanceGuid, name: str, request: Request, now: datetime) -> Held:
        foreseen = self._foreseen.get((instance, name))
        if foreseen is not None and self._is_good(foreseen, request, now):
            return self._foreseen.pop((instance, name))
        authority = self._custodian.authority()
        leaf = self._made_ready(instance, name, request, authority)
        if leaf is None:
            leaf = self._made_here(authority, request, now)
        body = tls_secret(name, leaf.certificate_chain_pem, leaf.private_key_pem or b"")
        resource = Resource.of(SECRET, name, body)
        record = IssuedRecord(
            instance,
            name,
            resource.version,
            leaf.serial,
            # The same names as in the leaf, which the linter has compared with the request; those
            # of the request are in memory already.
            names_of(request.san),
            leaf.not_before,
            leaf.not_after,
            leaf.issuer_fingerprint,
            authority.sent_digest,
        )
        at = renew_at(leaf.not_before, leaf.not_after, instance)
        return Held(request, record, resource, at)

    def _made_here(self, authority: Authority, request: Request, now: datetime) -> Leaf:
        by = self._custodian
        with by.issuing():
            return issue(
                authority, by.profile, request, key=by.new_key, now=now, serial=by.new_serial()
            )

    def _made_ready(
        self, instance: InstanceGuid, name: str, request: Request, authority: Authority
    ) -> Leaf | None:
        """Return a certificate issued elsewhere, if it is as requested and by the current CA."""
        ready = self._ready.get(instance, {}).pop(name, None)
        if ready is None or ready.request != request or ready.sent_digest != authority.sent_digest:
            return None
        if ready.leaf.issuer_fingerprint != authority.fingerprint:
            return None
        self._custodian.issued_elsewhere(ready.seconds)
        return ready.leaf
