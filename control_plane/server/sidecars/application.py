"""What somebody asks for who enrols, and as which instance.

The rule of this module: the same request has the same GUID. So one whose answer was lost can be
sent again, and finds the instance that it registered; until that has come, it costs no second use
of the token, and the answer is of use to nobody but the holder of the private key.
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
    """A request to enrol, read.

    Attributes:
        digest: the hash of its token.
        key: what its certificate is to be for; whoever asks has the private half.
        source: where it comes from.
        address: where the instance is to be reached.
        app_address: where its Envoy is to reach the app, as it was given.
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
        """Read a request whose token is known.

        Raises:
            InvalidArgument: it has no signing request that can be used, or no address.
        """
        key = parse_csr(request.csr)
        address = parse_address(request.address or source)
        return cls(digest, key, source, address, request.app_address)

    @property
    def guid(self) -> InstanceGuid:
        """The GUID that follows from all of it (RFC 9562, section 5.5); no other token's has it."""
        name = f"{self.key.spki.hex()} {self.address} {self.app_address}"
        return InstanceGuid(str(uuid5(UUID(self.digest[:32]), name)))

    def earlier(self, state: State) -> Instance | None:
        """Return what the same request registered before, if that was never heard of since."""
        instance = state.instance(self.guid)
        if instance is None or instance.status is not InstanceStatus.REGISTERED:
            return None
        return instance if instance.address == self.address else None
