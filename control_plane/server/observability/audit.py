"""Who asked for which change, and how that ended: one line in the audit log for each.

The rule of this module: each call that may change something has a line, whether it was done, was
refused, or its caller left before the end; a call that only reads has none. Requests of the
operator's API carry no secrets, so their content is logged.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from google.protobuf import json_format
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from control_plane import log_events
from control_plane.errors import ControlPlaneError
from control_plane.server.access.admission import Context
from control_plane.server.access.changing import ChangeInterceptor, Method
from control_plane.server.access.peers import identities_in
from control_plane.server.access.validity import shown_serial

CALLER_LEFT = "the caller left before it was answered"
"""The log of changes tells whether the change was made or dropped."""

LOCAL_OPERATOR = "local"
"""The user of the Unix socket: a process with the server's own user id, or root."""


class AuditInterceptor(ChangeInterceptor):
    """Logs every call that may change something; stands inside those that refuse callers."""

    def __init__(self) -> None:
        """Write to the audit log."""
        self._audit = structlog.get_logger(log_events.AUDIT_LOGGER)

    def wrapped(self, method: Method, name: str) -> Method:
        """Return the method, with a line of the audit log for each call."""

        async def told(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            said = _said(request)
            outcome, revision = "done", 0
            try:
                response = await method(request, context)
                revision = getattr(response, "revision", 0)
            except ControlPlaneError as error:
                outcome = str(error)
                raise
            except asyncio.CancelledError:
                outcome = CALLER_LEFT
                raise
            except Exception:
                outcome = "failed"
                raise
            else:
                return response
            finally:
                self._audit.info(
                    log_events.AUDIT_COMMAND,
                    method=name,
                    operator=_operator(context),
                    operator_serial=_serial(context),
                    request=said,
                    outcome=outcome,
                    revision=revision,
                )

        return told


def _said(request: Message) -> dict[str, Any]:
    """Return a request's content without a CSR, whose certificate is logged when it is issued."""
    try:
        said = MessageToDict(request, preserving_proto_field_name=True)
    except (json_format.Error, ValueError):  # such as a Duration that is no length of time
        return {"unreadable": f"{request.ByteSize()} octets"}
    said.pop("csr", None)
    return said


def _operator(context: Context) -> str:
    """Return the SPIFFE id of the caller; on the Unix socket no caller has one."""
    return ", ".join(identities_in(context)) or LOCAL_OPERATOR


def _serial(context: Context) -> str:
    """Return the serial of the caller's certificate, since any operator can have any name."""
    serial = shown_serial(context)
    return "" if serial is None else f"{serial:x}"
