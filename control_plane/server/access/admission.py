"""Who may open a stream.

The rule of this module: a client is let in once per stream, after it named its node and before
anything else in its request is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import grpc

from control_plane.nodes import Credential
from control_plane.xds.messages import Node

Context = grpc.aio.ServicerContext[Any, Any]
"""A call, whatever its messages are."""


class PeerContext(Protocol):
    """Tells who makes a call; the context of a gRPC call, or of a REST-JSON request."""

    def peer(self) -> str:
        """Return the address that the call comes from, such as ``ipv4:127.0.0.1:40000``."""

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return the names in the peer's certificate, or its common name if it has no others."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what the handshake proved; ``x509_pem_cert`` is the peer's certificate."""


class Admission(Protocol):
    """Decides on each new stream; must decide at once, without awaiting anything."""

    def admit(self, node: Node, context: PeerContext) -> Credential | None:
        """Return the credential that lets the client in as this node; None if none was required.

        Args:
            node: the node that the client says it is.
            context: the client's call, with the certificate that it showed.

        Raises:
            Unauthenticated: the client did not prove who it is.
            PermissionDenied: the client is not this node, or may not come in.
            PeerLimitExceeded: the client has enough streams already.
        """


class Everybody:
    """Lets every client in, as whatever node it says it is: for tests, and for trusted networks."""

    def admit(self, node: Node, context: PeerContext) -> Credential | None:
        """Ask for nothing."""


def admitted(admission: Admission, node: Node, context: PeerContext) -> Credential | None:
    """Return the credential with which an admission lets a client in, or None.

    An ``admit`` that returns False, or that is ``async`` and so never ran, has let nobody in.

    Raises:
        TypeError: the admission returned something else.
        ControlPlaneError: the admission does not let the client in, as ``Admission`` says.
    """
    answer: object = admission.admit(node, context)
    if answer is None or isinstance(answer, Credential):
        return answer
    kind = type(answer).__qualname__
    raise TypeError(f"admit() raises, or returns None or a Credential at once, not a {kind}")
