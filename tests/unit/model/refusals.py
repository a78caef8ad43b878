"""Requests that the model refuses: each with the error, the exact sentence and the field at fault.

A row is a request of the API in its own field names, so that the same table can be run against the
commands (``test_refusals.py``) and against a server. ``SETUP`` is what has to exist before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from control_plane.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)

Request = tuple[str, Mapping[str, Any]]
"""The name of a method of the API, and its request in JSON."""

SETUP: tuple[Request, ...] = (
    ("CreateApp", {"name": "app-a", "guid": "guid-a"}),
    ("CreateApp", {"name": "app-b", "guid": "guid-b", "ports": [8080, 9090]}),
    ("CreateApp", {"name": "app-w", "guid": "guid-w", "os": "windows"}),
    ("RegisterInstance", {"app": "app-b", "guid": "inst-b0", "address": "10.255.0.4"}),
    ("MapRoute", {"app": "app-b", "hostname": "app-b", "domain": "apps.internal"}),
    (
        "AddNetworkPolicies",
        {
            "policies": [
                {
                    "source": "app-a",
                    "destination": "app-b",
                    "protocol": "tcp",
                    "start_port": 61443,
                    "end_port": 61443,
                }
            ]
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that breaks a rule.

    Attributes:
        name: what is wrong with it, as the test's id.
    """

    name: str
    method: str
    request: Mapping[str, Any]
    error: type[InvalidRequest]
    sentence: str
    field: str


WINDOWS = "container-to-container networking is not available for apps hosted on Windows"
IN_DEFAULT = ": one is in org 'default' / space 'default'"
UNKNOWN_APPS = "one or more applications cannot be found or accessed"
LABEL_64 = "a" * 64
DOMAIN_249 = ".".join(["a" * 63, "a" * 63, "a" * 63, "a" * 57])


def no_app(
    name: str,
    *,
    org: str = "default",
    space: str = "default",
    hint: str = ": 'c2c apps --all' lists every app",
) -> str:
    """Return how it is said that there is no such app where it was looked for."""
    return f"app '{name}' not found in org '{org}' / space '{space}'{hint}"


def _app(
    name: str,
    sentence: str,
    field: str,
    /,
    *,
    error: type[InvalidRequest] = InvalidArgument,
    **request: object,
) -> Refusal:
    defaults = {"name": "app-c", "guid": "guid-c"}
    return Refusal(name, "CreateApp", defaults | request, error, sentence, field)


def _route(
    name: str,
    sentence: str,
    field: str,
    /,
    *,
    error: type[InvalidRequest] = InvalidArgument,
    method: str = "MapRoute",
    **request: object,
) -> Refusal:
    defaults = {"app": "app-b", "hostname": "shop", "domain": "apps.internal"}
    return Refusal(name, method, defaults | request, error, sentence, field)


def _instance(
    name: str,
    sentence: str,
    field: str,
    /,
    *,
    error: type[InvalidRequest] = InvalidArgument,
    **request: object,
) -> Refusal:
    defaults = {"app": "app-b", "guid": "inst-b1", "address": "10.255.0.5"}
    return Refusal(name, "RegisterInstance", defaults | request, error, sentence, field)


def _policy(
    name: str,
    sentence: str,
    field: str,
    /,
    *,
    error: type[InvalidRequest] = InvalidArgument,
    method: str = "AddNetworkPolicies",
    **policy: object,
) -> Refusal:
    good = {
        "source": "app-a",
        "destination": "app-b",
        "protocol": "tcp",
        "start_port": 8080,
        "end_port": 8080,
    }
    request = {"policies": [good, good | policy]}
    return Refusal(name, method, request, error, sentence, f"policies[1].{field}")


APPS = (
    _app("app-name-missing", "app name missing", "name", name=""),
    _app(
        "app-name-long",
        f"app name longer than 63 characters: '{LABEL_64}'",
        "name",
        name=LABEL_64,
    ),
    _app(
        "app-name-with-space",
        "app name must start with a letter or digit and have only letters, digits, '.', '-' and "
        "'_': 'app c'",
        "name",
        name="app c",
    ),
    _app(
        "app-guid-with-dot",
        "guid must be 1 to 63 letters, digits and '-', with '-' neither first nor last: 'guid.c'",
        "guid",
        guid="guid.c",
    ),
    _app(
        "app-guid-too-long-for-a-certificate",
        f"guid longer than 60 characters, which is what a certificate has room for: '{'a' * 61}'",
        "guid",
        guid="a" * 61,
    ),
    _app(
        "org-too-long-for-a-certificate",
        f"org longer than 51 characters, which is what a certificate has room for: '{'o' * 52}'",
        "org",
        org="o" * 52,
    ),
    _app(
        "space-too-long-for-a-certificate",
        f"space longer than 58 characters, which is what a certificate has room for: '{'s' * 59}'",
        "space",
        space="s" * 59,
    ),
    _app(
        "org-with-line-break",
        "org must be printable, without spaces around it: 'a\\nb'",
        "org",
        org="a\nb",
    ),
    _app(
        "space-with-spaces-around",
        "space must be printable, without spaces around it: ' dev'",
        "space",
        space=" dev",
    ),
    _app(
        "port-61443",
        "port 61443 is reserved for container networking",
        "ports",
        ports=[8080, 61443],
    ),
    _app("port-0", "invalid app port 0, must be in range 1024-65535", "ports", ports=[0]),
    _app("port-negative", "invalid app port -1, must be in range 1024-65535", "ports", ports=[-1]),
    _app("port-80", "invalid app port 80, must be in range 1024-65535", "ports", ports=[80]),
    _app(
        "port-65536", "invalid app port 65536, must be in range 1024-65535", "ports", ports=[65536]
    ),
    _app(
        "ports-11",
        "an app may have at most 10 ports, not 11",
        "ports",
        ports=list(range(8080, 8091)),
    ),
    _app(
        "protocol-unknown",
        "unknown app protocol 'h3', known are: http1, http2, tcp",
        "protocol",
        protocol="h3",
    ),
    _app(
        "protocol-in-capitals",
        "unknown app protocol 'HTTP1', known are: http1, http2, tcp",
        "protocol",
        protocol="HTTP1",
    ),
    _app(
        "os-unknown",
        "unknown operating system 'macos', known are: linux, windows",
        "os",
        os="macos",
    ),
    _app(
        "health-check-type-unknown",
        "unknown health check type 'http', known are: port, process",
        "health_check_type",
        health_check_type="http",
    ),
    _app(
        "c2c-port-not-a-port-of-the-app",
        "c2c port 9090 is not a port of the app, its ports are: 7070, 8080",
        "c2c_port",
        ports=[7070, 8080],
        c2c_port=9090,
    ),
    _app(
        "c2c-port-61443",
        "c2c port 61443 is not a port of the app, its ports are: 8080",
        "c2c_port",
        c2c_port=61443,
    ),
    _app(
        "c2c-port-on-windows",
        WINDOWS,
        "c2c_port",
        error=FailedPrecondition,
        os="windows",
        c2c_port=8080,
    ),
    _app(
        "app-exists-with-other-ports",
        "app 'app-b' in org 'default' / space 'default' exists with other properties: ports "
        "('c2c update-app' changes them)",
        "ports",
        error=AlreadyExists,
        name="app-b",
        ports=[8080],
    ),
    _app(
        "app-exists-with-other-protocol-and-ssh",
        "app 'app-a' in org 'default' / space 'default' exists with other properties: "
        "protocol, ssh ('c2c update-app' changes them)",
        "protocol",
        error=AlreadyExists,
        name="app-a",
        protocol="tcp",
        ssh=True,
    ),
    _app(
        "app-guid-taken",
        "app guid 'guid-a' is taken by app 'app-a' in org 'default' / space 'default'",
        "guid",
        error=AlreadyExists,
        guid="guid-a",
    ),
    Refusal(
        "update-unknown-app",
        "UpdateApp",
        {"app": "pineapple"},
        NotFound,
        no_app("pineapple"),
        "app",
    ),
    Refusal("update-no-app", "UpdateApp", {"app": ""}, InvalidArgument, "app missing", "app"),
    Refusal(
        "update-c2c-port-without-its-port",
        "UpdateApp",
        {"app": "app-b", "ports": [7070], "c2c_port": 8080},
        InvalidArgument,
        "c2c port 8080 is not a port of the app, its ports are: 7070",
        "c2c_port",
    ),
    Refusal(
        "update-to-a-name-that-is-taken",
        "UpdateApp",
        {"app": "app-a", "name": "app-b"},
        AlreadyExists,
        "app name 'app-b' in org 'default' / space 'default' is taken by another app",
        "name",
    ),
    Refusal(
        "update-to-windows-in-use",
        "UpdateApp",
        {"app": "app-b", "os": "windows"},
        FailedPrecondition,
        f"{WINDOWS}: remove its instances, routes, policies and join tokens first",
        "os",
    ),
)

ROUTES = (
    _route(
        "host-missing", "hostname missing: an internal route needs a host", "hostname", hostname=""
    ),
    _route(
        "host-wildcard",
        "wildcard hosts are not supported for internal domains: '*'",
        "hostname",
        hostname="*",
    ),
    _route(
        "host-with-path",
        "paths are not supported for internal domains: 'shop/x'",
        "hostname",
        hostname="shop/x",
    ),
    _route(
        "host-of-two-labels",
        "hostname may only have letters, digits, '-' and '_' in one label: 'a.b'",
        "hostname",
        hostname="a.b",
    ),
    _route(
        "host-with-line-break",
        "hostname may only have letters, digits, '-' and '_' in one label: 'shop\\n'",
        "hostname",
        hostname="shop\n",
    ),
    _route(
        "host-long",
        f"hostname label longer than 63 octets: '{LABEL_64}'",
        "hostname",
        hostname=LABEL_64,
    ),
    _route(
        "domain-with-underscore",
        "domain does not comply with RFC 1035: 'my_apps.internal'",
        "domain",
        domain="my_apps.internal",
    ),
    _route(
        "domain-of-one-label",
        "domain needs at least two labels: 'internal'",
        "domain",
        domain="internal",
    ),
    _route(
        "domain-label-long",
        f"domain label longer than 63 octets: '{LABEL_64}'",
        "domain",
        domain=f"{LABEL_64}.internal",
    ),
    _route(
        "domain-not-internal",
        "domain 'example.com' is not an internal domain, known are: apps.internal",
        "domain",
        domain="example.com",
    ),
    _route(
        "domain-below-an-internal-one",
        "domain 'sub.apps.internal' is not an internal domain, known are: apps.internal",
        "domain",
        domain="sub.apps.internal",
    ),
    _route("route-to-unknown-app", no_app("pineapple"), "app", error=NotFound, app="pineapple"),
    _route("route-to-no-app", "app missing", "app", app=""),
    _route(
        "route-to-app-of-another-space",
        no_app("app-b", space="elsewhere", hint=IN_DEFAULT),
        "app",
        error=NotFound,
        space="elsewhere",
    ),
    _route("route-on-windows", WINDOWS, "app", error=FailedPrecondition, app="app-w"),
    _route(
        "unmap-host-wildcard",
        "wildcard hosts are not supported for internal domains: '*'",
        "hostname",
        method="UnmapRoute",
        hostname="*",
    ),
    _route(
        "unmap-name-too-long",
        "host combined with domain name must be no more than 253 characters: 254 in "
        f"'host.{DOMAIN_249[:74]}...",
        "hostname",
        method="UnmapRoute",
        hostname="host",
        domain=DOMAIN_249,
    ),
    _route(
        "unmap-unknown-app",
        no_app("pineapple"),
        "app",
        error=NotFound,
        method="UnmapRoute",
        app="pineapple",
    ),
)

INSTANCES = (
    _instance(
        "instance-guid-with-underscore",
        "guid must be 1 to 63 letters, digits and '-', with '-' neither first nor last: 'inst_b1'",
        "guid",
        guid="inst_b1",
    ),
    _instance("address-missing", "address missing", "address", address=""),
    _instance("address-a-name", "not an IP address: 'localhost'", "address", address="localhost"),
    _instance(
        "address-out-of-range", "not an IP address: '10.0.0.256'", "address", address="10.0.0.256"
    ),
    _instance(
        "address-unspecified",
        "an instance cannot have an unspecified, multicast, broadcast, IPv6 link-local or scoped "
        "address: '0.0.0.0'",
        "address",
        address="0.0.0.0",
    ),
    _instance(
        "app-address-a-port",
        "not an IP address: '127.0.0.1:8080'",
        "app_address",
        app_address="127.0.0.1:8080",
    ),
    _instance(
        "instance-of-unknown-app",
        no_app("pineapple"),
        "app",
        error=NotFound,
        app="pineapple",
    ),
    _instance("instance-on-windows", WINDOWS, "app", error=FailedPrecondition, app="app-w"),
    _instance(
        "address-held-by-an-instance-of-another-app",
        "address '10.255.0.4' is held by another instance, which 'c2c instances --all' shows: "
        "remove that one first",
        "address",
        error=AlreadyExists,
        app="app-a",
        address="10.255.0.4",
    ),
    _instance(
        "address-held-by-an-instance-with-another-app-address",
        "address '10.255.0.4' is held by another instance, which 'c2c instances --all' shows: "
        "remove that one first",
        "address",
        error=AlreadyExists,
        address="10.255.0.4",
        app_address="127.0.0.2",
    ),
    _instance(
        "instance-guid-taken",
        "instance 'inst-b0' exists with another app or address: remove that one first, and take "
        "another GUID",
        "guid",
        error=AlreadyExists,
        guid="inst-b0",
    ),
)

POLICIES = (
    Refusal(
        "policies-missing",
        "AddNetworkPolicies",
        {"policies": []},
        InvalidArgument,
        "missing policies",
        "policies",
    ),
    _policy("source-missing", "missing source id", "source", source="", destination=""),
    _policy(
        "destination-missing", "missing destination id", "destination", destination="", protocol="x"
    ),
    _policy(
        "protocol-icmp",
        "invalid destination protocol, specify either udp or tcp",
        "protocol",
        protocol="icmp",
        start_port=9,
        end_port=8,
    ),
    _policy(
        "protocol-upper-case",
        "invalid destination protocol, specify either udp or tcp",
        "protocol",
        protocol="TCP",
    ),
    _policy(
        "protocol-missing",
        "invalid destination protocol, specify either udp or tcp",
        "protocol",
        protocol="",
    ),
    _policy(
        "range-backwards",
        "invalid port range 8081-8080, start must be less than or equal to end",
        "start_port",
        start_port=8081,
    ),
    _policy(
        "range-backwards-below-zero",
        "invalid port range -1--2, start must be less than or equal to end",
        "start_port",
        start_port=-1,
        end_port=-2,
    ),
    _policy(
        "start-port-negative",
        "invalid start port -1, must be in range 1-65535",
        "start_port",
        start_port=-1,
    ),
    _policy("start-port-0", "missing start port", "start_port", start_port=0, end_port=65536),
    _policy(
        "end-port-0",
        "invalid port range 8080-0, start must be less than or equal to end",
        "start_port",
        end_port=0,
    ),
    _policy(
        "end-port-65536",
        "invalid end port 65536, must be in range 1-65535",
        "end_port",
        end_port=65536,
        source="pineapple",
    ),
    _policy("source-unknown", UNKNOWN_APPS, "source", error=NotFound, source="pineapple"),
    _policy("destination-unknown", UNKNOWN_APPS, "destination", error=NotFound, destination="x"),
    _policy(
        "destination-in-another-space",
        UNKNOWN_APPS,
        "destination",
        error=NotFound,
        destination_space="elsewhere",
    ),
    _policy("source-on-windows", WINDOWS, "source", error=FailedPrecondition, source="app-w"),
    _policy(
        "destination-on-windows",
        WINDOWS,
        "destination",
        error=FailedPrecondition,
        destination="app-w",
    ),
    _policy(
        "remove-with-range-backwards",
        "invalid port range 8081-8080, start must be less than or equal to end",
        "start_port",
        method="RemoveNetworkPolicies",
        start_port=8081,
    ),
    _policy(
        "remove-of-unknown-app",
        UNKNOWN_APPS,
        "source",
        error=NotFound,
        method="RemoveNetworkPolicies",
        source="pineapple",
    ),
    Refusal(
        "policy-151-of-a-source",
        "AddNetworkPolicies",
        {
            "policies": [
                {
                    "source": "app-a",
                    "destination": "app-b",
                    "protocol": "udp",
                    "start_port": port,
                    "end_port": port,
                }
                for port in range(1000, 1150)
            ]
        },
        LimitExceeded,
        "policy quota exceeded",
        "policies",
    ),
)

TOKENS = (
    Refusal(
        "token-for-unknown-app",
        "CreateJoinToken",
        {"app": "pineapple"},
        NotFound,
        no_app("pineapple"),
        "app",
    ),
    Refusal(
        "token-on-windows",
        "CreateJoinToken",
        {"app": "app-w"},
        FailedPrecondition,
        WINDOWS,
        "app",
    ),
    Refusal(
        "token-without-uses",
        "CreateJoinToken",
        {"app": "app-b", "uses": -1},
        InvalidArgument,
        "a join token needs at least one use, not -1",
        "uses",
    ),
    Refusal(
        "token-range-with-host-bits",
        "CreateJoinToken",
        {"app": "app-b", "address_range": "10.255.0.4/16"},
        InvalidArgument,
        "an address range begins with its first address, as in 10.255.0.0/16: '10.255.0.4/16'",
        "address_range",
    ),
    Refusal(
        "token-range-with-a-scope",
        "CreateJoinToken",
        {"app": "app-b", "address_range": "fe80::%eth0/64"},
        InvalidArgument,
        "not an address range in CIDR notation, such as 10.255.0.0/16: 'fe80::%eth0/64'",
        "address_range",
    ),
    Refusal(
        "token-range-a-word",
        "CreateJoinToken",
        {"app": "app-b", "address_range": "everywhere"},
        InvalidArgument,
        "not an address range in CIDR notation, such as 10.255.0.0/16: 'everywhere'",
        "address_range",
    ),
)

REFUSALS: tuple[Refusal, ...] = APPS + ROUTES + INSTANCES + POLICIES + TOKENS
