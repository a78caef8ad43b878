"""OperatorService: who may use this API over TCP (protos/c2c/v1/operator.proto).

The rule of this module: nobody is given a certificate that is not on record, so whatever was issued
can be listed and revoked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import structlog
from google.protobuf.duration_pb2 import Duration

from control_plane import log_events
from control_plane.api.v1 import operator_pb2, operator_pb2_grpc
from control_plane.ca import Authority, OperatorRequest, Profile, issue, parse_csr
from control_plane.errors import InvalidArgument
from control_plane.model.change import Decision
from control_plane.model.entities import OperatorCertificate
from control_plane.model.operators import (
    drop_ended_certificates,
    known_certificates,
    note_issued,
    revoke_of,
    revoke_serial,
)
from control_plane.model.state import State
from control_plane.names import shown
from control_plane.registry import Committed, Registry
from control_plane.server.access.admission import Context
from control_plane.server.access.validity import Validity, asking_operator
from control_plane.server.api.messages import AT_ONCE, operator_certificate_message
from control_plane.server.durations import parse_duration
from control_plane.server.turns import unhurried
from control_plane.undisturbed import undisturbed

DEFAULT_TTL = timedelta(days=30)
MIN_TTL = timedelta(minutes=1)
MAX_TTL = timedelta(days=90)

_SERIAL = re.compile(r"[0-9a-fA-F]{1,2}(:?[0-9a-fA-F]{2}){0,19}|[0-9a-fA-F]{1,40}")
"""As we write them, and with the colons of OpenSSL; at most 20 octets (RFC 5280, 4.1.2.2)."""


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Issues operators' certificates, shows them, and revokes them."""

    def __init__(
        self,
        registry: Registry,
        validity: Validity,
        authority: Callable[[], Authority],
        *,
        new_serial: Callable[[], int],
    ) -> None:
        """Issue with the CA that ``authority`` returns at the moment of the call."""
        self._registry = registry
        self._validity = validity
        self._authority = authority
        self._new_serial = new_serial
        self._clock = validity.clock
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    async def IssueOperatorCertificate(
        self, request: operator_pb2.IssueOperatorCertificateRequest, context: Context
    ) -> operator_pb2.IssueOperatorCertificateResponse:
        """Issue a certificate for a key that the caller made; forget those that have ended."""
        ttl = _parse_ttl(request.ttl if request.HasField("ttl") else None)
        key = parse_csr(request.csr)
        asking = asking_operator(context, self._validity)
        authority, now = self._authority(), self._clock.now()
        leaf = issue(
            authority,
            Profile(lifetime=ttl),
            OperatorRequest(self._validity.trust_domain, request.name),
            key=key,
            now=now,
            serial=self._new_serial(),
        )
        noted = OperatorCertificate(
            leaf.serial,
            request.name,
            leaf.not_after,
            issued_at=now,
            issued_by=None if asking is None else asking.serial,
        )
        await self._registry.execute(
            lambda state: drop_ended_certificates(state, now).then(
                lambda state, _: note_issued(state, noted)
            )
        )
        self._audit.info(
            log_events.AUDIT_OPERATOR_CERT_ISSUED,
            operator=request.name,
            serial=f"{leaf.serial:x}",
            not_after=leaf.not_after.isoformat(),
        )
        return operator_pb2.IssueOperatorCertificateResponse(
            certificate=leaf.certificate_chain_pem,
            trust_bundle=authority.trust_bundle_pem.decode("ascii"),
        )

    async def ListOperatorCertificates(
        self,
        request: operator_pb2.ListOperatorCertificatesRequest,  # noqa: ARG002 - it is empty
        context: Context,
    ) -> operator_pb2.ListOperatorCertificatesResponse:
        """Show the certificates that have not ended."""
        state = self._registry.state
        known = known_certificates(state, self._clock.now())
        return operator_pb2.ListOperatorCertificatesResponse(
            certificates=[
                operator_certificate_message(state, each)
                async for each in unhurried(known, AT_ONCE)
            ]
        )

    async def RevokeOperatorCertificates(
        self, request: operator_pb2.RevokeOperatorCertificatesRequest, context: Context
    ) -> operator_pb2.RevokeOperatorCertificatesResponse:
        """Revoke the certificates of a holder, or one of them."""
        if bool(request.name) is bool(request.serial):
            raise InvalidArgument(
                "either the name of a holder or a serial is needed", field="serial"
            )
        now = self._clock.now()
        serial = _parse_serial(request.serial) if request.serial else None
        if serial is None:
            # A name that no certificate can have, such as a SPIFFE id, is a mistake.
            OperatorRequest(self._validity.trust_domain, request.name)

        def revoke(state: State) -> Decision[tuple[OperatorCertificate, ...]]:
            if serial is None:
                return revoke_of(state, request.name, now)
            # Nobody comes in with a certificate that outlives the CA that signed it.
            last = max(each.not_valid_after_utc for each in self._validity.issuers())
            return revoke_serial(state, serial, now, last)

        async def revoked() -> Committed[tuple[OperatorCertificate, ...]]:
            committed = await self._registry.execute(revoke)
            for each in committed.result:
                self._audit.info(
                    log_events.AUDIT_OPERATOR_CERT_REVOKED,
                    operator=each.name,
                    serial=f"{each.serial:x}",
                    not_after=each.ends_at.isoformat(),
                )
            return committed

        committed = await undisturbed(revoked())
        return operator_pb2.RevokeOperatorCertificatesResponse(
            revoked=[
                operator_certificate_message(committed.state, each) for each in committed.result
            ],
            revision=committed.revision,
        )


def _parse_ttl(ttl: Duration | None) -> timedelta:
    if ttl is None:
        return DEFAULT_TTL
    return parse_duration(ttl, field="ttl", least=MIN_TTL, most=MAX_TTL)


def _parse_serial(text: str) -> int:
    if not _SERIAL.fullmatch(text):
        raise InvalidArgument(
            "a serial has 1 to 40 hexadecimal digits, such as "
            f"3f1d1a528c6e4a4b9b0e0f9a53c3f5a1: {shown(text)}",
            field="serial",
        )
    return int(text.replace(":", ""), 16)
