"""What sidecars tell, and what they are told in return.

The rule of this module: a sidecar speaks for the instance of its certificate and for no other. A
report that brings nothing new is answered when there is something to say: that another certificate
should be served by now, or that it is time to report again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from google.protobuf.duration_pb2 import Duration

from control_plane.api.v1 import sidecar_pb2, sidecar_pb2_grpc
from control_plane.ca import InstanceIdentity
from control_plane.envoy.listeners import C2C_SECRET
from control_plane.errors import InvalidArgument
from control_plane.names import InstanceGuid, parse_port, shown
from control_plane.reconciler.attestation import Attestation
from control_plane.reconciler.custody import Custody
from control_plane.reconciler.presence import Presence
from control_plane.server.peers import Context, InstanceProof

MAX_PORTS = 1000
"""Ports in one report; an app has a few, and what is reported is kept."""

MAX_ROOTS = 16
"""CA certificates in one report; there are two while a CA is rotated."""

_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")

_SERIAL = re.compile(r"[0-9a-fA-F]{1,40}")
"""RFC 5280, section 4.1.2.2: at most 20 octets."""


class SidecarService(sidecar_pb2_grpc.SidecarServiceServicer):
    """Takes the reports of sidecars."""

    def __init__(
        self,
        proof: InstanceProof,
        *,
        presence: Presence,
        attestation: Attestation,
        custody: Custody,
        trust_bundle: Callable[[], bytes],
        is_outdated: Callable[[InstanceIdentity], bool],
    ) -> None:
        """Pass on what is reported to these.

        Args:
            proof: tells whose report it is.
            presence: is told whether the app listens.
            attestation: is told what is served and trusted.
            custody: knows what should be served.
            trust_bundle: returns the CA certificates to trust.
            is_outdated: tells whether an identity should be renewed before its time.
        """
        self._proof = proof
        self._presence = presence
        self._attestation = attestation
        self._custody = custody
        self._trust_bundle = trust_bundle
        self._is_outdated = is_outdated

    async def Report(
        self, request: sidecar_pb2.ReportRequest, context: Context
    ) -> sidecar_pb2.ReportResponse:
        """Take a report; answer at once if another certificate should be served."""
        identity, instance = self._proof.of(context)
        served = _parse_serial(request.served_serial)
        _check_ports([*request.exposed_ports, *request.closed_ports, *request.open_ports])
        app_ports = dict.fromkeys(request.closed_ports, False)
        app_ports |= dict.fromkeys(request.open_ports, True)
        trusted = _parse_fingerprints(request.trusted_roots)
        self._attestation.report(
            instance.guid, served, tuple(request.exposed_ports), app_ports, trusted
        )
        self._presence.reported(instance.guid, listening=request.listening, leaving=request.leaving)
        if served is not None and served == self._expected(instance.guid) and not request.leaving:
            await self._custody.renewed(instance.guid, C2C_SECRET, self._attestation.report_seconds)
        expected = self._expected(instance.guid)
        return sidecar_pb2.ReportResponse(
            trust_bundle=self._trust_bundle().decode("ascii"),
            report_again_in=Duration(seconds=round(self._attestation.report_seconds)),
            expected_serial=f"{expected:x}" if expected is not None else "",
            renew_identity=self._is_outdated(identity),
        )

    def _expected(self, instance: InstanceGuid) -> int | None:
        held = self._custody.get(instance, C2C_SECRET)
        return held.serial if held is not None else None


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


def _check_ports(ports: Sequence[int]) -> None:
    if len(ports) > MAX_PORTS:
        raise InvalidArgument(
            f"a report may name {MAX_PORTS} ports, not {len(ports)}", field="exposed_ports"
        )
    for port in ports:
        parse_port(port, field="exposed_ports")
