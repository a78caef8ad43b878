"""What sidecars report, and what they are told in return.

The rule of this module: a sidecar speaks for the instance of its certificate and for no other, and
proves it with each report. A report that is refused leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from google.protobuf.duration_pb2 import Duration

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.ca import Authority, InstanceIdentity
from control_plane.clock import Clock
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.errors import InvalidArgument, Unavailable
from control_plane.model.change import Change
from control_plane.model.entities import App
from control_plane.model.state import State
from control_plane.names import InstanceGuid, parse_port, shown
from control_plane.reconciler.certificates.custody import Custody
from control_plane.reconciler.membership.presence import Presence
from control_plane.reconciler.membership.status import Word
from control_plane.reconciler.served.attestation import REPORTS_PER_SECOND, Attestation
from control_plane.server.access.admission import Context
from control_plane.server.access.instance_proof import InstanceProof
from control_plane.server.rates import TokenBuckets
from control_plane.server.sidecars.reporting import Facts, Reporting
from control_plane.server.status import end_call

MAX_PORTS = 1000
"""How many ports one report may name; an app has a few, and what is reported is kept."""

MAX_ROOTS = 16
"""How many CA certificates one report may name; there are two while a CA is rotated."""

READ_PER_SECOND = 10.0
"""How many reports of one sidecar are read in the long run. It has to say something new now and
then; without a bound one took half a core, at a quarter of a millisecond each."""

READ_AT_ONCE = 100

_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")

_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")
"""RFC 5280, section 4.1.2.2: at most 20 octets."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Where reports go, and where their answers come from.

    Attributes:
        state: returns the State, which has the ports of apps.
        presence: told whether the app listens.
        left: told of each instance that leaves.
        attestation: told what is served and trusted.
        custody: knows what should be served.
        authority: returns the CA that signs, which tells the CAs to trust.
        renew_in: returns after how many seconds an identity should be renewed ahead of its time, or
            None.
    """

    state: Callable[[], State]
    presence: Presence
    left: Callable[[InstanceGuid], None]
    attestation: Attestation
    custody: Custody
    authority: Callable[[], Authority]
    renew_in: Callable[[InstanceIdentity], float | None]

    def take(self, instance: InstanceGuid, request: sidecar_pb2.ReportRequest) -> Facts:
        """Take a report, and return what it says.

        Raises:
            InvalidArgument: a value in the report breaks its rule.
        """
        served = _parse_serial(request.served_serial)
        named = [request.c2c_port] if request.c2c_port else []
        _check_ports(request.exposed_ports, request.closed_ports, request.open_ports, named)
        app_ports = dict.fromkeys(request.closed_ports, False)
        app_ports |= dict.fromkeys(request.open_ports, True)
        trusted = _parse_fingerprints(request.trusted_roots)
        self.attestation.report(
            instance,
            served,
            tuple(request.exposed_ports),
            app_ports,
            trusted,
            is_ending=request.draining or request.leaving,
        )
        word = Word(
            listening=request.listening,
            leaving=request.leaving,
            not_serving=request.not_serving,
            draining=request.draining,
        )
        self.presence.reported(instance, word)
        if request.leaving:
            self.left(instance)
        tried = (request.c2c_port, frozenset(app_ports))
        return Facts(served, tried if request.c2c_port else None, trusted or None)

    def expected(self, identity: InstanceIdentity) -> Facts:
        """Return what a sidecar should report; there may be no certificate yet."""
        app = self.state().app(identity.app_guid)
        ports = (app.c2c_port, frozenset(app.ports)) if app and app.c2c_port else None
        roots = self.authority().trusted_fingerprints
        return Facts(self._serial(identity), ports, roots, self.renew_in(identity))

    def answer(self, identity: InstanceIdentity, expected: Facts) -> sidecar_pb2.ReportResponse:
        """Return the answer to a sidecar with this identity, whose report should say this."""
        app = self.state().app(identity.app_guid)
        return sidecar_pb2.ReportResponse(
            trust_bundle=self.authority().trust_bundle_pem.decode("ascii"),
            report_again_in=Duration(seconds=round(self.attestation.report_seconds)),
            expected_serial=f"{expected.serial:x}" if expected.serial is not None else "",
            renew_identity=expected.is_outdated,
            app_ports=app.ports if app else (),
            c2c_port=(app.c2c_port or 0) if app else 0,
        )

    def _serial(self, identity: InstanceIdentity) -> int | None:
        held = self.custody.get(identity.instance_guid, C2C_SECRET)
        return held.serial if held is not None else None


class SidecarService(sidecar_pb2_grpc.SidecarServiceServicer):
    """Takes the reports of sidecars."""

    def __init__(self, proof: InstanceProof, reports: Reports, clock: Clock) -> None:
        """Pass reports on.

        Args:
            proof: tells which instance a report is from.
            reports: takes the reports, and knows what to answer.
            clock: tells when it is time to report again.
        """
        self._proof = proof
        self._reports = reports
        self._clock = clock
        self._kept: dict[InstanceGuid, Reporting] = {}
        self._pace = TokenBuckets(READ_PER_SECOND, READ_AT_ONCE, clock)
        self._other_authorities = asyncio.Event()

    async def run(self) -> None:
        """Check the answer for every sidecar when the CAs have changed, one by one, without end.

        To check all of them at once would hold up everything else.
        """
        while True:
            await self._other_authorities.wait()
            self._other_authorities.clear()
            for reporting in tuple(self._kept.values()):
                reporting.wake()
                await self._clock.sleep(1 / REPORTS_PER_SECOND)

    def authorities_changed(self) -> None:
        """Soon tell the sidecars which CAs to trust, and when to renew their identities."""
        self._other_authorities.set()

    def committed(self, state: State, change: Change) -> None:
        """Check whether there is something to say to the sidecars of an app that changed."""
        for app in (each for each in change.puts if isinstance(each, App)):
            for instance in state.instances_of(app.guid):
                if kept := self._kept.get(instance.guid):
                    kept.wake()

    async def Report(
        self, request: sidecar_pb2.ReportRequest, context: Context
    ) -> sidecar_pb2.ReportResponse:
        """Take a report, and answer."""
        identity, instance = self._proof.of(context)
        self._reports.take(instance.guid, request)
        return self._reports.answer(identity, self._reports.expected(identity))

    async def KeepReporting(  # type: ignore[override]  # the stubs know generators only
        self, _: object, context: Context
    ) -> None:
        """Take reports, and answer whenever there is something to say."""
        try:
            identity, _ = self._proof.of(context)
            await self._keep(identity, context)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this stream only
            await end_call(context, "/c2c.v1.SidecarService/KeepReporting", error)

    async def _keep(self, identity: InstanceIdentity, context: Context) -> None:
        instance, reports = identity.instance_guid, self._reports

        def take(request: sidecar_pb2.ReportRequest) -> Facts:
            self._proof.again(context, identity)
            return reports.take(instance, request)

        reporting = Reporting(
            take=take,
            expected=lambda: reports.expected(identity),
            answer=lambda facts: reports.answer(self._proof.again(context, identity), facts),
            seconds=lambda: reports.attestation.report_seconds,
            turn=lambda: self._pace.turn(instance),
            clock=self._clock,
        )
        self._end_older(instance)
        self._kept[instance] = reporting
        try:
            with reports.custody.watched(instance, reporting.wake):
                await reporting.run(context)
        finally:
            if self._kept.get(instance) is reporting:
                del self._kept[instance]

    def _end_older(self, instance: InstanceGuid) -> None:
        older = self._kept.get(instance)
        if older is not None:
            older.end(Unavailable("this instance reports on a newer stream"))


def _parse_serial(text: str) -> int | None:
    if not text:
        return None
    if not _SERIAL.fullmatch(text):
        raise InvalidArgument(
            f"served serial must be at most 40 hexadecimal digits: {shown(text)}",
            field="served_serial",
        )
    return int(text, 16)


def _parse_fingerprints(texts: Sequence[str]) -> frozenset[str]:
    if len(texts) > MAX_ROOTS:
        raise InvalidArgument(
            f"a report may name {MAX_ROOTS} trusted roots, not {len(texts)}", field="trusted_roots"
        )
    for each in texts:
        if not _FINGERPRINT.fullmatch(each):
            raise InvalidArgument(
                f"a trusted root must be sha256: and 64 hexadecimal digits: {shown(each)}",
                field="trusted_roots",
            )
    return frozenset(texts)


def _check_ports(*lists: Sequence[int]) -> None:
    # Ports are counted before any of them is looked at: four megabytes can hold millions.
    number = sum(map(len, lists))
    if number > MAX_PORTS:
        raise InvalidArgument(
            f"a report may name {MAX_PORTS} ports, not {number}", field="exposed_ports"
        )
    for port in chain(*lists):
        parse_port(port, field="exposed_ports")
