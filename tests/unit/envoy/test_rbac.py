"""The HTTP filter that says whose requests are answered, read back with protobuf's own classes."""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import extension_pb2
from envoy.config.rbac.v3 import rbac_pb2 as rules_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

from control_plane.envoy import rbac


def _rules(packed: Any) -> Any:  # noqa: ANN401 untyped upb
    config = rbac_pb2.RBAC()
    assert packed.Unpack(config)
    assert config.HasField("rules"), "a filter without rules allows everything"
    assert config.rules.action == rules_pb2.RBAC.ALLOW
    return config.rules


def test_the_filter_names_each_source_by_the_peers_own_address() -> None:
    """Sources are matched by direct_remote_ip, which no header can forge, in order."""
    body = rbac.http_rbac("allowed-sources-61443-a", ["fd00::1", "10.0.0.10", "10.0.0.9"])
    config = extension_pb2.TypedExtensionConfig.FromString(body)

    (policy,) = _rules(config.typed_config).policies.values()
    assert config.name == rbac.sources_filter_name(61443, "a") == "allowed-sources-61443-a"
    assert [permission.any for permission in policy.permissions] == [True]
    assert [principal.WhichOneof("identifier") for principal in policy.principals] == [
        "direct_remote_ip"
    ] * 3
    ranges = [principal.direct_remote_ip for principal in policy.principals]
    assert [(each.address_prefix, each.prefix_len.value) for each in ranges] == [
        ("10.0.0.9", 32),
        ("10.0.0.10", 32),
        ("fd00::1", 128),
    ]


def test_no_source_is_an_allow_rule_that_allows_nobody() -> None:
    """An empty filter still has rules: ALLOW without a policy denies every request."""
    config = extension_pb2.TypedExtensionConfig.FromString(rbac.http_rbac("a-filter", []))

    assert not _rules(config.typed_config).policies


def test_the_default_is_to_deny() -> None:
    """What holds until the filter comes, and when it is withdrawn, allows nobody."""
    place = hcm_pb2.HttpFilter.FromString(bytes(rbac.discovered_filter("a-filter")))

    assert not _rules(place.config_discovery.default_config).policies


def test_the_same_sources_have_the_same_bytes() -> None:
    """Order and repetition do not reach the bytes, other sources do."""
    one = rbac.http_rbac("a-filter", ["10.0.0.1", "10.0.0.2"])

    assert rbac.http_rbac("a-filter", ["10.0.0.2", "10.0.0.1", "10.0.0.2"]) == one
    assert rbac.http_rbac("a-filter", ["10.0.0.1"]) != one
