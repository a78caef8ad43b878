"""Every error that this project raises on purpose, sorted by whose fault it is.

The rule of this module: an error says who has to act: the caller of the API (``InvalidRequest``),
the xDS client at the other end of a stream (``PeerProtocolError``), the operator
(``ConfigurationError``), or ourselves (``IssuanceError``, ``MessageError``, ``StorageError``).
Exactly one function, ``server.status.status_of``, maps errors to gRPC status codes, so nothing
below the server knows about gRPC.

A message starts in lower case, has no final period, and names the value and the rule that it
breaks.
"""

from __future__ import annotations

from collections.abc import Sequence


class ControlPlaneError(Exception):
    """The root of the tree; only its subclasses are ever raised."""


class InvalidRequest(ControlPlaneError):
    """The caller asked for something that a rule forbids; nothing was changed.

    Attributes:
        field: the request field at fault, in the API's snake_case; empty if no single field is.
        rule: the sentence that names the value and the rule.
    """

    def __init__(self, rule: str, *, field: str = "") -> None:
        """Remember which field breaks which rule."""
        super().__init__(rule)
        self.field = field
        self.rule = rule


class InvalidArgument(InvalidRequest):
    """A value that could never be right, whatever the state (gRPC INVALID_ARGUMENT)."""


class NotFound(InvalidRequest):
    """The request names something that does not exist (gRPC NOT_FOUND)."""


class AlreadyExists(InvalidRequest):
    """What the request would create exists already, with other properties (gRPC ALREADY_EXISTS)."""


class FailedPrecondition(InvalidRequest):
    """The request is well formed, but the present state forbids it (gRPC FAILED_PRECONDITION)."""


class LimitExceeded(InvalidRequest):
    """The request would exceed a configured limit (gRPC RESOURCE_EXHAUSTED)."""


class Unauthenticated(InvalidRequest):
    """The caller did not prove who it is (gRPC UNAUTHENTICATED)."""


class PermissionDenied(InvalidRequest):
    """The caller proved who it is, but may not do this (gRPC PERMISSION_DENIED)."""


class PeerProtocolError(ControlPlaneError):
    """An xDS client broke the protocol; its stream ends, no other does (gRPC INVALID_ARGUMENT)."""


class PeerLimitExceeded(PeerProtocolError):
    """An xDS client exceeded a limit; its stream ends, no other does (gRPC RESOURCE_EXHAUSTED)."""


class Unavailable(ControlPlaneError):
    """The server cannot serve this now, but will later or elsewhere (gRPC UNAVAILABLE)."""


class ConfigurationError(ControlPlaneError):
    """The operator's settings or files cannot be used; every problem found is reported at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep each problem as a sentence of its own."""
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class IssuanceError(ControlPlaneError):
    """A certificate could not be issued or did not pass the linter; the old one stays in use."""


class MessageError(ControlPlaneError):
    """A message for Envoy breaks a rule and is not sent; what was sent before stays in use."""


class StorageError(ControlPlaneError):
    """The store refused or lost a write; the change was not made (gRPC UNAVAILABLE)."""


class NotDurable(StorageError):
    """The change was made nevertheless, but a crash of the machine may undo it."""
