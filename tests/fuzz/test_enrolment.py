"""Whatever is sent with a good join token, an instance is registered in full or not at all."""

from __future__ import annotations

import ipaddress

import grpc
from hypothesis import event, given

from control_plane.api.v1 import enrollment_pb2
from control_plane.ca import read_certificate
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from tests.fuzz.budget import CALL
from tests.fuzz.methods import METHODS, Caller
from tests.fuzz.plane import Plane
from tests.fuzz.sensible import ADDRESSES, CSRS

(ENROLL,) = (each for each in METHODS if each.caller is Caller.STRANGER)

REFUSALS = {
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
}
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


@CALL
@given(csr=CSRS, address=ADDRESSES, app_address=ADDRESSES)
def test_whoever_has_a_token_is_an_instance_or_refused(
    plane: Plane, csr: bytes, address: str, app_address: str
) -> None:
    """A request to sign that is none, or an address that is another's, costs nobody anything."""
    before = state(plane)
    request = enrollment_pb2.EnrollRequest(
        token=plane.token, csr=csr, address=address, app_address=app_address
    )

    status, answer = plane.outcome(ENROLL, [request.SerializeToString()])

    event(status.name)
    if status is grpc.StatusCode.OK:
        check(plane, enrollment_pb2.EnrollResponse.FromString(answer))
    else:
        assert status in REFUSALS
        assert state(plane) is before


def check(plane: Plane, enrolled: enrollment_pb2.EnrollResponse) -> None:
    """Require of who was let in what holds for every instance."""
    guid = InstanceGuid(enrolled.instance_guid)
    instance = state(plane).instances[guid]
    assert (instance.index, instance.address) == (enrolled.index, enrolled.address)
    assert ipaddress.ip_address(enrolled.address) in LOOPBACK
    san = read_certificate(enrolled.certificate).san
    assert (san.dns[0], san.ips) == (guid, (instance.address,))


def state(plane: Plane) -> State:
    """Return the State of the moment."""
    return plane.cloud.core.registry.state
