"""Who may open a stream.

The rule of this module: a client is let in once, when it told its node and before anything of its
request is looked at.
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
    """What tells who makes a call: the context of a call of gRPC, or of a request of REST-JSON."""

    def peer(self) -> str:
        """Return where it comes from, such as ``ipv4:127.0.0.1:40000``."""

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return the names in its certificate, or the common name if it has none of those."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what the handshake proved; ``x509_pem_cert`` is its certificate."""


class Admission(Protocol):
    """Decides on each new stream; must return at once."""

    def admit(self, node: Node, context: PeerContext) -> Credential | None:
        """Return by what the client may have a stream as this node; None if nothing was asked for.

        Args:
            node: who it says it is.
            context: its call, with the certificate that it showed.

        Raises:
            Unauthenticated: it did not prove who it is.
            PermissionDenied: it is somebody else, or may not come in.
            PeerLimitExceeded: it has enough already.
        """


class Everybody:
    """Lets every client in, as whatever node it says it is: for tests, and for trusted networks."""

    def admit(self, node: Node, context: PeerContext) -> Credential | None:
        """Ask for nothing."""


def admitted(admission: Admission, node: Node, context: PeerContext) -> Credential | None:
    """Return by what an admission lets a client in.

    One that answers with False, or is ``async`` and so never ran, has let nobody in.

    Raises:
        TypeError: it answered with something else.
        ControlPlaneError: it lets nobody in, as ``Admission`` says.
    """
    answer: object = admission.admit(node, context)
    if answer is None or isinstance(answer, Credential):
        return answer
    kind = type(answer).__qualname__
    raise TypeError(f"admit() raises, or returns None or a Credential at once, not a {kind}")
