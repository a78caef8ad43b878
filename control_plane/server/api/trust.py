"""TrustService: what a client needs to verify certificates (protos/c2c/v1/trust.proto).

The rule of this module: it shows the CAs that are trusted now. A client that fetches the bundle
again during a CA rotation has the new root before anybody serves a certificate below it.
"""

from __future__ import annotations

from collections.abc import Callable

from control_plane.api.v1 import trust_pb2, trust_pb2_grpc
from control_plane.ca import TrustDomain
from control_plane.server.access.admission import Context


class TrustService(trust_pb2_grpc.TrustServiceServicer):
    """Shows the trust bundle."""

    def __init__(
        self,
        trust_bundle: Callable[[], bytes],
        trust_domain: TrustDomain,
        xds_server: Callable[[], str],
    ) -> None:
        """Show what these return at the moment of the call.

        Args:
            trust_bundle: returns the CA certificates in PEM.
            trust_domain: the trust domain of the SPIFFE ids in certificates below them.
            xds_server: returns where Envoys find the control plane, as host and port.
        """
        self._trust_bundle = trust_bundle
        self._trust_domain = trust_domain
        self._xds_server = xds_server

    async def GetTrustBundle(
        self,
        request: trust_pb2.GetTrustBundleRequest,  # noqa: ARG002 - it is empty
        context: Context,
    ) -> trust_pb2.GetTrustBundleResponse:
        """Show the CA certificates to trust."""
        return trust_pb2.GetTrustBundleResponse(
            trust_bundle=self._trust_bundle().decode("ascii"),
            trust_domain=self._trust_domain,
            xds_server=self._xds_server(),
        )
