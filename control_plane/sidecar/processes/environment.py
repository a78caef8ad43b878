"""The variables that Envoy and the app are started with.

The rule of this module: both get what the sidecar got, less the join token. The app also learns
where it is, in the words of Cloud Foundry, and whom to trust.
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.names import Port
from control_plane.sidecar.directory import Membership

INSTANCE_VARIABLE = "CF_INSTANCE_GUID"
"""Tells the app which instance it is of, and whatever it starts as a rule."""

_ITS_VARIABLE = "C2C_SIDECAR_TOKEN"


def without_token(inherited: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the variables in which the token is not, whatever they are called.

    The sidecar may have been given another one by an option; its own variable goes all the same.
    """
    return {
        name: value
        for name, value in inherited.items()
        if name != _ITS_VARIABLE and not (token and token in value)
    }


def app_environment(
    inherited: Mapping[str, str],
    membership: Membership,
    port: Port,
    trust: Mapping[str, str],
) -> dict[str, str]:
    """Return the variables of the app.

    Args:
        inherited: as ``without_token`` returns them.
        membership: which instance this is.
        port: where it should listen.
        trust: as ``AppTrust.write`` returns them.
    """
    identity = membership.credentials.identity
    facts = {
        INSTANCE_VARIABLE: identity.instance_guid,
        "CF_INSTANCE_INDEX": str(membership.enrollment.index),
        "CF_INSTANCE_INTERNAL_IP": identity.address,
    }
    # Where a twelve-factor app listens; whoever set it already knows better.
    return {"PORT": str(port), **inherited, **facts, **trust}
