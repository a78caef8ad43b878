"""Which callers may send requests on connections that are open already: HTTP RBAC, over ECDS.

The rule of this module: deny unless named. A listener has a filter chain for each app that may
connect, so a stranger does not get as far as this filter. But connections of a chain that is
removed live until the drain time ends, and an instance that is removed may still have connections;
this filter refuses their next request. It compares the address of the peer itself
(``direct_remote_ip``), because ``remote_ip`` trusts X-Forwarded-For, which the client writes. Each
chain has a filter of its own, with the addresses of its app only, since Envoy builds a copy of
everything in a filter for each chain.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy.config.core.v3 import extension_pb2
from envoy.config.rbac.v3 import rbac_pb2 as rules_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy_data_plane.envoy.config.core.v3 import ExtensionConfigSource
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any

from control_plane.envoy.addresses import host_prefix_len, in_order
from control_plane.envoy.tls import over_ads
from control_plane.envoy.validation import check_filter

_RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"


def sources_filter_name(proxy_port: int, app: str) -> str:
    """Return the name of a filter, which is the name of its ECDS resource too.

    Args:
        app: the GUID of the app whose requests it allows.
    """
    return f"allowed-sources-{proxy_port}-{app}"


def http_rbac(name: str, sources: Iterable[str]) -> bytes:
    """Build the ECDS resource that allows requests from these addresses, and from no other."""
    config = extension_pb2.TypedExtensionConfig(name=name)
    config.typed_config.Pack(_allow(in_order(sources)), deterministic=True)
    return check_filter(config.SerializeToString(deterministic=True))


def discovered_filter(name: str) -> HttpFilter:
    """Return the place in a listener that the ECDS resource fills; empty, it denies everything.

    A listener waits for the resource, for 15 s at most; otherwise clients that may connect would
    get 403 until it arrives.
    """
    return HttpFilter(
        name=name,
        config_discovery=ExtensionConfigSource(
            config_source=over_ads(),
            default_config=Any(type_url=_RBAC, value=_allow(()).SerializeToString()),
            type_urls=[_RBAC],
        ),
    )


def _allow(sources: tuple[str, ...]) -> rbac_pb2.RBAC:
    """Return the filter; ALLOW without policies denies all, but no rules at all would allow all."""
    config = rbac_pb2.RBAC()
    config.rules.action = rules_pb2.RBAC.ALLOW
    if sources:
        policy = config.rules.policies["sources"]
        policy.permissions.add(any=True)
        for address in sources:
            allowed = policy.principals.add().direct_remote_ip
            allowed.address_prefix = address
            allowed.prefix_len.value = host_prefix_len(address)
    return config
