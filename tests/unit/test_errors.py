"""The exception tree: whose fault an error is, and what it carries."""

from __future__ import annotations

import inspect

import pytest

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

REFUSALS = [
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    LimitExceeded,
    Unauthenticated,
    PermissionDenied,
]


def test_every_error_is_in_the_tree() -> None:
    """Whoever catches the root catches every error of ours, and nobody else's."""
    defined = {
        value
        for _, value in inspect.getmembers(errors, inspect.isclass)
        if value.__module__ == errors.__name__
    }

    assert all(issubclass(each, ControlPlaneError) for each in defined)
    assert defined == {
        ControlPlaneError,
        InvalidRequest,
        *REFUSALS,
        PeerProtocolError,
        PeerLimitExceeded,
        Unavailable,
        ConfigurationError,
        IssuanceError,
        MessageError,
        StorageError,
        NotDurable,
    }


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_carries_field_and_rule(refusal: type[InvalidRequest]) -> None:
    """A refused request says which field breaks which rule, and its text is the rule."""
    error = refusal("port 61443 is reserved for container networking", field="ports")

    assert isinstance(error, InvalidRequest)
    assert error.field == "ports"
    assert error.rule == "port 61443 is reserved for container networking"
    assert str(error) == error.rule


def test_a_refusal_may_concern_no_single_field() -> None:
    """A rule about the whole request has an empty field."""
    assert FailedPrecondition("app is being deleted").field == ""


def test_whose_fault_it_is_decides_the_branch() -> None:
    """Neither an xDS client's fault, the operator's nor our own is taken for the API caller's."""
    for kind in (PeerProtocolError, Unavailable, ConfigurationError, IssuanceError, StorageError):
        assert not issubclass(kind, InvalidRequest)
    assert issubclass(PeerLimitExceeded, PeerProtocolError)


def test_a_configuration_error_keeps_every_problem() -> None:
    """The operator sees all problems at once, in the order they were found."""
    problems = ["port 0 is not in 1-65535", "no such file: 'ca.pem'"]

    error = ConfigurationError(problems)
    problems.clear()

    assert error.problems == ("port 0 is not in 1-65535", "no such file: 'ca.pem'")
    assert str(error) == "port 0 is not in 1-65535; no such file: 'ca.pem'"
