"""Every command by name, with its group, its summary and its module.

The rule of this module: it knows the commands without importing any of them. So ``c2c`` without
arguments, its help and its completion are there at once, and a command imports only what it needs.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One command.

    Attributes:
        name: what users type, one word or two; the function in the module has this name with
            underscores.
        summary: one line for the overview.
        module: the module of this package that defines it.
    """

    name: str
    summary: str
    module: str


class Group(NamedTuple):
    """Commands that belong together in the overview."""

    title: str
    entries: tuple[Entry, ...]


GROUPS = (
    Group(
        "GETTING STARTED",
        (
            Entry("demo", "Show a certificate follow its routes on three real Envoys", "demo"),
            Entry("serve", "Run the control plane", "serve"),
            Entry("check", "Check the settings without running anything", "serve"),
            Entry("version", "Print the version of this program", "about"),
            Entry("help", "Show help", "about"),
        ),
    ),
    Group(
        "APPS",
        (
            Entry("apps", "List apps", "apps"),
            Entry("app", "Show an app and its instances", "apps"),
            Entry("create-app", "Create an app", "app_changes"),
            Entry("update-app", "Change properties of an app", "app_changes"),
            Entry("delete-app", "Delete an app and all that belongs to it", "app_changes"),
        ),
    ),
    Group(
        "ROUTES",
        (
            Entry("routes", "List internal routes", "routes"),
            Entry("map-route", "Map an internal route to an app", "routes"),
            Entry("unmap-route", "Remove an internal route from an app", "routes"),
        ),
    ),
    Group(
        "NETWORK POLICIES",
        (
            Entry("network-policies", "List direct network traffic policies", "policies"),
            Entry(
                "add-network-policy",
                "Create policy to allow direct network traffic from one app to another",
                "policy_changes",
            ),
            Entry(
                "remove-network-policy", "Remove network traffic policy of an app", "policy_changes"
            ),
        ),
    ),
    Group(
        "INSTANCES",
        (
            Entry("instances", "List app instances", "instances"),
            Entry("join-token", "Create a token with which an instance can enrol", "trust"),
            Entry("join-tokens", "List the join tokens that can still be used", "trust"),
            Entry("revoke-join-tokens", "Make the join tokens of an app worthless", "trust"),
            Entry("sidecar", "Run next to an app: enrol, start Envoy, renew", "sidecar"),
            Entry("register-instance", "Register an instance of an app", "instances"),
            Entry("remove-instance", "Remove an instance for good", "instances"),
            Entry(
                "bootstrap", "Print the bootstrap configuration of an instance's Envoy", "bootstrap"
            ),
        ),
    ),
    Group(
        "INSPECT",
        (
            Entry(
                "status", "Show how far every instance is: sent, ACKed, served", "inspect_status"
            ),
            Entry("certs", "List the certificates of instances", "inspect_certs"),
            Entry("why", "Say why an app reaches another, or what is missing", "inspect_why"),
            Entry("wait", "Wait until every instance has what it should have", "inspect_wait"),
            Entry("events", "Show what happens, while it happens", "inspect_events"),
        ),
    ),
    Group(
        "TRUST",
        (
            Entry("trust-bundle", "Print the CA certificates that clients have to trust", "trust"),
            Entry("issue-operator-cert", "Issue a certificate for the operator's port", "operator"),
            Entry(
                "operator-certs", "List the certificates for the operator's port", "operator_certs"
            ),
            Entry(
                "revoke-operator-cert",
                "Make certificates for the operator's port worthless",
                "operator_certs",
            ),
            Entry(
                "ca list",
                "List the CA that signs, and the one that follows or came before",
                "authority",
            ),
            Entry("ca prepare", "Have another CA trusted everywhere", "authority"),
            Entry("ca activate", "Have the prepared CA sign", "authority"),
            Entry("ca retire", "Forget the CA that signed before", "authority"),
        ),
    ),
)


FAMILIES = {"ca": "Show the CA that signs everything, and have another take its place"}
"""What the commands of two words are about that share the first."""


def family(word: str) -> tuple[Entry, ...]:
    """Return the commands of two words whose first is this one."""
    entries = (entry for group in GROUPS for entry in group.entries)
    return tuple(entry for entry in entries if entry.name.startswith(f"{word} "))


def find(name: str) -> Entry | None:
    """Return the command with this name."""
    return next((entry for group in GROUPS for entry in group.entries if entry.name == name), None)
