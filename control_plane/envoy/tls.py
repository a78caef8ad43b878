"""How a listener proves its identity: TLS 1.2 or newer, with a certificate that comes over SDS.

The rule of this module: a listener names its secret and never contains it, so a new certificate
leaves the listener, and every connection that it has, untouched. The cipher list stays Envoy's own:
Cloud Foundry's list is for RSA keys only and would refuse a P-256 leaf in TLS 1.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    TransportSocket,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CommonTlsContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    TlsParameters,
    TlsParametersTlsProtocol,
)
from envoy_data_plane.google.protobuf import Any

HTTP_ALPN = ("h2", "http/1.1")
"""The protocols that an HTTP listener offers; separate entries, unlike Cloud Foundry's single
"h2,http/1.1"."""


def over_ads(*, initial_fetch_timeout: timedelta | None = None) -> ConfigSource:
    """Return the source "the stream that this resource came on"; Envoy waits 15 s by default."""
    return ConfigSource(
        ads=AggregatedConfigSource(),
        resource_api_version=ApiVersion.V3,
        initial_fetch_timeout=initial_fetch_timeout,
    )


def downstream_tls(
    secret_name: str, *, alpn: Sequence[str], validation: str = ""
) -> TransportSocket:
    """Return the transport socket of a filter chain: TLS, one-way as on Cloud Foundry's 61443.

    The port opens once the certificate is there, however long that takes. After a timeout, Envoy
    would open it without a certificate and reset every connection, which looks like a fault of the
    app; a port that is not open yet looks like what it is.

    Args:
        secret_name: the secret with the certificate.
        alpn: the protocols to offer.
        validation: the secret that says which client certificates are accepted; if empty, none is
            asked for.
    """
    context = DownstreamTlsContext(
        require_client_certificate=bool(validation),
        # A client that resumes a session is not asked for its certificate again, which may have
        # expired.
        disable_stateless_session_resumption=True if validation else None,
        disable_stateful_session_resumption=bool(validation),
        common_tls_context=CommonTlsContext(
            tls_params=TlsParameters(
                tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2,
                tls_maximum_protocol_version=TlsParametersTlsProtocol.TLSv1_3,
            ),
            tls_certificate_sds_secret_configs=[_secret(secret_name)],
            validation_context_sds_secret_config=_secret(validation) if validation else None,
            alpn_protocols=list(alpn),
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))


def _secret(name: str) -> SdsSecretConfig:
    return SdsSecretConfig(name=name, sds_config=over_ads(initial_fetch_timeout=timedelta(0)))
