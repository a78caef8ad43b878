"""What is said to a user whose command does not exist here.

The rule of this module: a command that removes something is never suggested just because its name
looks like what was typed, nor is any other command suggested for a typed word that means removal. A
user of ``cf``, ``istioctl`` or ``kubectl`` is told the command here that corresponds to a word from
there.
"""

from __future__ import annotations

import difflib

from control_plane.cli import catalog
from control_plane.names import shown

_TAKING_AWAY = ("delete", "destroy", "purge", "remove", "unmap", "ca activate", "ca retire")
"""The beginnings of commands that remove something, or change which CA signs."""

MEANT = {
    # cf
    "a": "apps",
    "access-list": "network-policies",
    "allow-access": "add-network-policy",
    "check-route": "routes",
    "create-route": "map-route",
    "d": "delete-app",
    "delete": "delete-app",
    "delete-route": "unmap-route",
    "deny-access": "remove-network-policy",
    "disable-ssh": "update-app --no-ssh",
    "enable-ssh": "update-app --ssh",
    "h": "help",
    "list-access": "network-policies",
    "r": "routes",
    "remove-access": "remove-network-policy",
    "remove-app": "delete-app",
    "remove-route": "unmap-route",
    "rename": "update-app --name",
    # istioctl, kubectl
    "analyze": "why",
    "install": "serve",
    "proxy-status": "status",
    "ps": "status",
    "rollout": "wait",
    "watch": "status --watch",
    # what they do, in other words
    "enrol": "join-token",
    "enroll": "join-token",
    "join": "join-token",
    "policy": "network-policies",
}
"""The command that is meant by a word, as the user types it."""

_DOMAINS = "domains are a setting of 'c2c serve', --internal-domain, and 'c2c check' shows them"
_ENV = "whoever starts an app sets its environment; 'c2c help sidecar' says how one is started"
_ENVOY = "'c2c status' shows what each Envoy has, and docs/grpcurl.md how to see all of it (CSDS)"
_ORGS = "orgs and spaces need not be created: name them with -o and -s, or C2C_ORG and C2C_SPACE"
_PUSH = "'c2c create-app' makes an app known, and 'c2c join-token' says how it is run"
_RUNS = "whoever runs the sidecar of an instance starts and stops it: see 'c2c help sidecar'"
_SERVER = "choose the server with --data-dir or --server, or with C2C_DATA_DIR or C2C_SERVER"
_SHELL = "c2c opens no shell; 'c2c update-app --ssh' leads a port of Envoy to the app's SSH server"

EXPLAINED = {
    # cf
    "api": _SERVER,
    "create-domain": _DOMAINS,
    "create-org": _ORGS,
    "create-private-domain": _DOMAINS,
    "create-shared-domain": _DOMAINS,
    "create-space": _ORGS,
    "domains": _DOMAINS,
    "e": _ENV,
    "env": _ENV,
    "l": _SERVER,
    "login": _SERVER,
    "logs": "an app logs where its sidecar does; 'c2c events' shows what happens here",
    "o": _ORGS,
    "orgs": _ORGS,
    "p": _PUSH,
    "push": _PUSH,
    "restage": _RUNS,
    "restart": _RUNS,
    "restart-app-instance": _RUNS,
    "rg": _RUNS,
    "rs": _RUNS,
    "scale": "each sidecar is an instance: 'c2c join-token' says how to start another",
    "security-groups": "'c2c network-policies' lists who may connect to whom; nobody else may",
    "set-env": _ENV,
    "sp": _RUNS,
    "spaces": _ORGS,
    "ssh": _SHELL,
    "st": _RUNS,
    "start": _RUNS,
    "stop": _RUNS,
    "t": _ORGS,
    "target": _ORGS,
    # istioctl, kubectl
    "curl": "'c2c why' says whether an app reaches another; run curl itself beside an app",
    "describe": "'c2c app' shows an app, and 'c2c why' what reaches it",
    "exec": _SHELL,
    "get": "'c2c apps', 'c2c instances' and 'c2c routes' list what there is",
    "pc": _ENVOY,
    "proxy-config": _ENVOY,
}
"""What to say about a word for which there is no command."""


def no_command(word: str) -> str:
    """Return the sentence for a word that is no command."""
    unknown = f"{shown(word)} is not a registered command"
    if word in EXPLAINED:
        return f"{unknown}: {EXPLAINED[word]}"
    meant = MEANT.get(word) or _similar(word)
    return f"{unknown}, did you mean '{meant}'?" if meant else f"{unknown}, see 'c2c help'"


def _similar(word: str) -> str:
    """Return the command that looks most like a word, or ""."""
    names = [entry.name for group in catalog.GROUPS for entry in group.entries]
    near = difflib.get_close_matches(word, names, n=1)
    if not near or word.startswith(_TAKING_AWAY) or near[0].startswith(_TAKING_AWAY):
        return ""
    return near[0]
