"""The environment variables that Envoy and the app are started with.

The rule of this module: both get the variables of the sidecar, without the join token. The app also
gets variables that say where it is, named as in Cloud Foundry, and whom to trust.
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.names import Port
from control_plane.sidecar.directory import Membership

INSTANCE_VARIABLE = "CF_INSTANCE_GUID"
"""Tells the app its instance; the processes that the app starts usually inherit it."""

_ITS_VARIABLE = "C2C_SIDECAR_TOKEN"


def without_token(inherited: Mapping[str, str], token: str) -> dict[str, str]:
    """Return the variables that do not contain the token, whatever their names are.

    The token may have been given by an option, and the sidecar's variable may contain another one;
    that variable is removed all the same.
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
        membership: the membership of this instance.
        port: the port on which the app should listen.
        trust: as ``AppTrust.write`` returns them.
    """
    identity = membership.credentials.identity
    facts = {
        INSTANCE_VARIABLE: identity.instance_guid,
        "CF_INSTANCE_INDEX": str(membership.enrollment.index),
        "CF_INSTANCE_INTERNAL_IP": identity.address,
    }
    # The port on which a twelve-factor app listens; a value that is already set takes precedence.
    return {"PORT": str(port), **inherited, **facts, **trust}
