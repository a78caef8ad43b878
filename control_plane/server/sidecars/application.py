"""A request to enrol, and the GUID of the instance that it stands for.

The rule of this module: the same request always stands for the same GUID. If the answer was lost,
the sidecar can therefore repeat the request and finds the instance that it registered. Until that
instance has connected, the repetition costs no further use of the token. It gives nothing to a
third party: the certificate is for a key that only the sidecar has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid5

from control_plane.api.v1 import enrollment_pb2
from control_plane.ca import PublicKey, parse_csr
from control_plane.model.entities import Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import Address, InstanceGuid, parse_address


@dataclass(frozen=True, slots=True)
class Application:
    """A request to enrol after its token was found and its fields were parsed.

    Attributes:
        digest: the hash of the token.
        key: the public key to certify; the request proved possession of the private key.
        source: the address from which the request came.
        address: the address at which other containers are to reach the instance.
        app_address: the address at which its Envoy is to reach the app, as the request has it.
    """

    digest: str = field(repr=False)
    key: PublicKey
    source: Address
    address: Address
    app_address: str

    @classmethod
    def read(
        cls, request: enrollment_pb2.EnrollRequest, digest: str, source: Address
    ) -> Application:
        """Parse a request whose token is known.

        Raises:
            InvalidArgument: its signing request or its address cannot be used.
        """
        key = parse_csr(request.csr)
        address = parse_address(request.address or source)
        return cls(digest, key, source, address, request.app_address)

    @property
    def guid(self) -> InstanceGuid:
        """The GUID that follows from token, key and addresses (RFC 9562, section 5.5)."""
        name = f"{self.key.spki.hex()} {self.address} {self.app_address}"
        return InstanceGuid(str(uuid5(UUID(self.digest[:32]), name)))

    def earlier(self, state: State) -> Instance | None:
        """Return the instance that this request registered before, unless it has connected."""
        instance = state.instance(self.guid)
        if instance is None or instance.status is not InstanceStatus.REGISTERED:
            return None
        return instance if instance.address == self.address else None
