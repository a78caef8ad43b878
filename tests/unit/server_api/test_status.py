"""Errors become gRPC status in one place."""

from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2

from control_plane import errors
from control_plane.errors import (
    AlreadyExists,
    ConfigurationError,
    ControlPlaneError,
    FailedPrecondition,
    InvalidArgument,
    InvalidRequest,
    IssuanceError,
    LimitExceeded,
    MessageError,
    NotDurable,
    NotFound,
    PeerLimitExceeded,
    PeerProtocolError,
    PermissionDenied,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from control_plane.server.status import code_of, status_of

Code = grpc.StatusCode

CODES: tuple[tuple[Exception, grpc.StatusCode], ...] = (
    (InvalidArgument("x"), Code.INVALID_ARGUMENT),
    (NotFound("x"), Code.NOT_FOUND),
    (AlreadyExists("x"), Code.ALREADY_EXISTS),
    (FailedPrecondition("x"), Code.FAILED_PRECONDITION),
    (LimitExceeded("x"), Code.RESOURCE_EXHAUSTED),
    (Unauthenticated("x"), Code.UNAUTHENTICATED),
    (PermissionDenied("x"), Code.PERMISSION_DENIED),
    (PeerProtocolError("x"), Code.INVALID_ARGUMENT),
    (PeerLimitExceeded("x"), Code.RESOURCE_EXHAUSTED),
    (Unavailable("x"), Code.UNAVAILABLE),
    (StorageError("x"), Code.UNAVAILABLE),
    (NotDurable("x"), Code.UNAVAILABLE),
    (IssuanceError("x"), Code.INTERNAL),
    (MessageError("x"), Code.INTERNAL),
    (ConfigurationError(["x"]), Code.INTERNAL),
    (RuntimeError("x"), Code.INTERNAL),
)


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda value: getattr(value, "name", None))
def test_each_error_has_the_code_that_says_whose_fault_it_is(
    error: Exception, code: grpc.StatusCode
) -> None:
    """Callers, peers, the operator and we ourselves are told apart by the status code."""
    assert code_of(error) is code
    assert status_of(error).code == code.value[0]


def test_no_error_is_forgotten() -> None:
    """Every error that the project can raise has a row in the table above."""
    abstract = {ControlPlaneError, InvalidRequest}
    known = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, ControlPlaneError)
    }

    assert known - abstract == {type(error) for error, _ in CODES} - {RuntimeError}


def test_a_long_value_does_not_cost_the_caller_the_reason() -> None:
    """A status is metadata, of which a client takes some 16 KB."""
    status = status_of(InvalidArgument(f"file '/{'a' * 10_000}' cannot be read", field="ca_cert"))

    assert status.message == f"file '/{'a' * 78}... cannot be read"
    assert status.ByteSize() < 1_000


def test_a_refusal_names_field_and_rule() -> None:
    """A program finds the field at fault in a google.rpc.BadRequest, a person in the message."""
    status = status_of(InvalidArgument("domain missing", field="domain"))

    details = error_details_pb2.BadRequest()
    assert status.message == "domain missing"
    assert status.details[0].Unpack(details)
    assert [(each.field, each.description) for each in details.field_violations] == [
        ("domain", "domain missing")
    ]


def test_a_refusal_without_a_field_has_no_details() -> None:
    """Where no single field is at fault none is named."""
    assert not status_of(Unauthenticated("a client certificate is required")).details


def test_a_defect_tells_the_caller_nothing() -> None:
    """What an unforeseen exception says may be anything, a secret too, so it stays here."""
    status = status_of(RuntimeError("password=hunter2"))

    assert (status.message, list(status.details)) == ("internal error", [])
