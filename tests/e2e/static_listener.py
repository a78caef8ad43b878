"""An Envoy with a static listener, which gets nothing but its certificate from the control plane.

The rule of this module: the secret comes over the per-type service, SDS, on a stream of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from control_plane.envoy.bootstrap import AdsVariant
from tests.e2e.site import Render, Ticket, over_ads
from tests.envoy.harness import C2C_PORT

_LISTENER = """
  - name: app
    type: STATIC
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {app_address}, port_value: 8080}}}}}}
  listeners:
  - name: static
    address: {{socket_address: {{address: {address}, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": {extensions}.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: app
          cluster: app
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": {extensions}.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificate_sds_secret_configs:
            - name: c2c-cert-and-key
              sds_config:
                resource_api_version: V3
                api_config_source:
                  api_type: {api_type}
                  transport_api_version: V3
                  set_node_on_first_message_only: true
                  grpc_services:
                  - envoy_grpc: {{cluster_name: control-plane}}
"""

_ADS = re.compile(r"dynamic_resources:.*(?=static_resources:)", re.DOTALL)


def over_sds(variant: AdsVariant) -> Render:
    """Return what writes a bootstrap with a static listener whose secret comes over SDS alone."""

    def render(ticket: Ticket, admin_socket: Path) -> str:
        text = over_ads(variant)(ticket, admin_socket)
        without_ads = _ADS.sub("", text)
        assert without_ads != text
        return without_ads + _LISTENER.format(
            address=ticket.address,
            app_address=ticket.app_address,
            port=C2C_PORT,
            api_type=variant.value,
            extensions="type.googleapis.com/envoy.extensions",
        )

    return render
