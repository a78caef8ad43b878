"""What helps: a ``c2c`` command, ready to be pasted into a shell, or what to do on a machine.

The rule of this module: what is printed works as it stands. An app outside the default space is
named together with its space, and a word in capitals stands for what only the operator knows.
"""

from __future__ import annotations

import shlex

from control_plane.model.entities import App, Instance
from control_plane.model.spec import DEFAULT_ORG, DEFAULT_SPACE
from control_plane.names import C2C_PORT, Domain, Port


def map_route(app: App | None, domain: Domain, host: str = "") -> str:
    """Return the command that maps a route to an app.

    Without a host, the name of the app is suggested. Without an app, the words in capitals are left
    to the operator.
    """
    chosen = app.key.name.lower().replace(".", "-") if app is not None else "HOST"
    return _command("map-route", app, *_name(app), domain, "--hostname", host or chosen)


def add_policy(source: App | None, destination: App) -> str:
    """Return the command that lets an app connect to another on 61443."""
    ends = [*_name(source, "SOURCE_APP"), destination.key.name]
    to = destination.key
    if source is not None and (source.key.space, source.key.org) != (to.space, to.org):
        ends += ["-s", to.space, "-o", to.org]
    ports = ["--protocol", "tcp", "--port", str(C2C_PORT)]
    return _command("add-network-policy", source or destination, *ends, *ports)


def join_token(app: App) -> str:
    """Return the command that makes the join token for a new instance."""
    return _command("join-token", app, app.key.name)


def update_port(app: App, port: Port) -> str:
    """Return the command that has 61443 lead to another port of an app."""
    kept = [each for each in app.ports if each not in (port, app.c2c_port)]
    ports = [word for each in (port, *kept) for word in ("--port", str(each))]
    return _command("update-app", app, app.key.name, *ports, "--c2c-port", str(port))


def other_port(app: App) -> str:
    """Return the command that declares the port, not known here, that an app listens on."""
    return _command("update-app", app, app.key.name, "--port", "PORT")


def wait(app: App) -> str:
    """Return the command that waits until all instances of an app are there and served."""
    return _command("wait", app, app.key.name)


def status(app: App) -> str:
    """Return the command that shows how far an app's instances are."""
    return _command("status", app, app.key.name)


def instances(app: App | None = None) -> str:
    """Return the command that lists the instances of an app, or all instances."""
    return _command("instances", app, *(_name(app) if app else ["--all"]))


def how_to_start(app: App, where: str, closed: tuple[Port, ...]) -> str:
    """Return how to have the app listen where 61443 leads, or 61443 lead where the app listens."""
    start = f"start the app on {where}"
    # If there are several ports, it is unknown which one the app should listen on.
    if app.ports != closed:
        return start
    return f"{start}, or say on which port it listens: {other_port(app)}"


def how_to_free(instance: Instance) -> str:
    """Return how to give an Envoy its port; the status would say no more than this."""
    return (
        f"end what listens on {C2C_PORT} of {instance.address} there ('ss -lntp' shows it); within "
        "a minute its Envoy tries again by itself"
    )


def how_to_serve(instance: Instance) -> str:
    """Return how to have an Envoy serve its certificate: it hangs, or a firewall is in the way."""
    what = "its sidecar, and Envoy with it" if instance.has_sidecar else "its Envoy"
    return (
        f"if that lasts, restart {what}; if that does not help, see whether a firewall there drops "
        f"what is sent to {C2C_PORT}"
    )


def how_to_hide(instance: Instance) -> str:
    """Return how to keep an app from being reached past its Envoy."""
    if instance.app_address == instance.address:
        return (
            "have the app listen on a loopback address only, and its sidecar find it there "
            "(--app-address)"
        )
    return f"have the app listen on {instance.app_address} only"


def _name(app: App | None, placeholder: str = "APP") -> list[str]:
    return [placeholder if app is None else app.key.name]


def _command(name: str, app: App | None, *words: str) -> str:
    where = []
    if app is not None and (app.key.org, app.key.space) != (DEFAULT_ORG, DEFAULT_SPACE):
        where = ["--org", app.key.org, "--space", app.key.space]
    return shlex.join(["c2c", *where, name, *words])
