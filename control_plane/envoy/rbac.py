"""Who may send requests on a connection that is open already: an HTTP RBAC filter, over ECDS.

The rule of this module: deny unless named. A listener has a filter chain for each source, so a
stranger does not get this far; but a chain that goes away lets its connections live until the drain
time ends, and this filter refuses their next request. It looks at the address of the peer itself
(``direct_remote_ip``): ``remote_ip`` believes X-Forwarded-For, which the client writes.
"""

from __future__ import annotations

from collections.abc import Iterable

from envoy_data_plane.envoy.config.core.v3 import (
    CidrRange,
    ExtensionConfigSource,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.rbac.v3 import Permission, Policy, Principal, RbacAction
from envoy_data_plane.envoy.config.rbac.v3 import Rbac as Rules
from envoy_data_plane.envoy.extensions.filters.http.rbac.v3 import Rbac
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import HttpFilter
from envoy_data_plane.google.protobuf import Any

from control_plane.envoy.addresses import host_prefix_len, in_order
from control_plane.envoy.tls import over_ads
from control_plane.envoy.validation import check_filter

_RBAC = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"


def sources_filter_name(proxy_port: int) -> str:
    """Return the name of a listener's filter, which is the name of its ECDS resource too."""
    return f"allowed-sources-{proxy_port}"


def http_rbac(name: str, sources: Iterable[str]) -> bytes:
    """Build the ECDS resource that allows requests from these addresses, and from no other."""
    filter_config = _allow(in_order(sources))
    config = TypedExtensionConfig(name=name, typed_config=Any.pack(filter_config))
    return check_filter(bytes(config))


def discovered_filter(name: str) -> HttpFilter:
    """Return the place in a listener that the ECDS resource fills; empty, it denies everything.

    The listener does not wait for the resource: without it, it is open and answers 403.
    """
    return HttpFilter(
        name=name,
        config_discovery=ExtensionConfigSource(
            config_source=over_ads(),
            default_config=Any.pack(_allow(())),
            apply_default_config_without_warming=True,
            type_urls=[_RBAC],
        ),
    )


def _allow(sources: tuple[str, ...]) -> Rbac:
    """Return the filter; ALLOW without a policy denies all, but no rules at all would allow all."""
    if not sources:
        return Rbac(rules=Rules(action=RbacAction.ALLOW))
    policy = Policy(
        permissions=[Permission(any=True)],
        principals=[Principal(direct_remote_ip=_host(address)) for address in sources],
    )
    return Rbac(rules=Rules(action=RbacAction.ALLOW, policies={"sources": policy}))


def _host(address: str) -> CidrRange:
    return CidrRange(address_prefix=address, prefix_len=host_prefix_len(address))
