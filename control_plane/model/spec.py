"""What a caller says an app should be, and how that is parsed.

The rule of this module: a spec holds raw values, as the API received them. ``parse`` turns it into
an App, or names the first value that breaks a rule. An empty value means the default, so a caller
states only what matters to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from control_plane.errors import FailedPrecondition, InvalidArgument
from control_plane.model.entities import App, AppKey, AppProtocol, HealthCheckType, OperatingSystem
from control_plane.model.reach import NOT_ON_WINDOWS
from control_plane.names import (
    C2C_PORT,
    DEFAULT_APP_PORT,
    AppGuid,
    Port,
    parse_app_name,
    parse_guid,
    shown,
)

DEFAULT_ORG = "default"
DEFAULT_SPACE = "default"

MAX_PORTS = 10
"""Cloud Foundry's limit for an app."""

MIN_APP_PORT = 1024
"""Cloud Foundry's limit: an app's process is not root, and cannot listen on a lower port."""

MAX_UNIT_CHARACTERS = 64
"""RFC 5280, appendix A.1, ub-organizational-unit-name. In these units a certificate says which app
it belongs to."""

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class AppSpec:
    """What an app should be.

    Attributes:
        ports: in the order in which proxy ports are allotted; repetitions count once.
        protocol: one of AppProtocol's values.
        os: one of OperatingSystem's values.
        health_check_type: one of HealthCheckType's values.
        c2c_port: the port that 61443 forwards to; 0 or None for 8080 if the app has it, else its
            first port.
    """

    name: str
    org: str = DEFAULT_ORG
    space: str = DEFAULT_SPACE
    ports: Sequence[int] = (DEFAULT_APP_PORT,)
    protocol: str = AppProtocol.HTTP1
    os: str = OperatingSystem.LINUX
    ssh: bool = False
    health_check_type: str = HealthCheckType.PORT
    c2c_port: int | None = None

    @classmethod
    def of(cls, app: App) -> AppSpec:
        """Return the present spec of an app, of which a caller changes a part.

        ``c2c_port`` is stated only if it differs from the default for the app's ports, so that it
        follows when the ports change.
        """
        stated = None if app.c2c_port == _derived(app.ports, app.os) else app.c2c_port
        return cls(
            name=app.key.name,
            org=app.key.org,
            space=app.key.space,
            ports=app.ports,
            protocol=app.protocol,
            os=app.os,
            ssh=app.ssh,
            health_check_type=app.health_check_type,
            c2c_port=stated,
        )

    def parse(self, guid: str) -> App:
        """Return the app that this describes.

        Raises:
            InvalidArgument: a value breaks a rule; ``field`` says which.
            FailedPrecondition: a C2C port is given for an app on Windows.
        """
        key = parse_key(self.name, self.org, self.space)
        ports = _parse_ports(self.ports)
        os = _parse_choice(
            OperatingSystem, self.os, OperatingSystem.LINUX, "os", "operating system"
        )
        return App(
            guid=_parse_app_guid(guid),
            key=key,
            ports=ports,
            c2c_port=self._parse_c2c_port(ports, os),
            protocol=_parse_choice(
                AppProtocol, self.protocol, AppProtocol.HTTP1, "protocol", "app protocol"
            ),
            os=os,
            ssh=self.ssh,
            health_check_type=_parse_choice(
                HealthCheckType,
                self.health_check_type,
                HealthCheckType.PORT,
                "health_check_type",
                "health check type",
            ),
        )

    def _parse_c2c_port(self, ports: tuple[Port, ...], os: OperatingSystem) -> Port | None:
        if not self.c2c_port:
            return _derived(ports, os)
        if os is OperatingSystem.WINDOWS:
            raise FailedPrecondition(NOT_ON_WINDOWS, field="c2c_port")
        if self.c2c_port not in ports:
            known = ", ".join(str(port) for port in ports)
            raise InvalidArgument(
                f"c2c port {self.c2c_port} is not a port of the app, its ports are: {known}",
                field="c2c_port",
            )
        return Port(self.c2c_port)


def parse_key(name: str, org: str = "", space: str = "") -> AppKey:
    """Return an app's key; an empty org or space means the default.

    Raises:
        InvalidArgument: a name breaks a rule; ``field`` says which.
    """
    return AppKey(
        org=_parse_unit("organization", org or DEFAULT_ORG, field="org"),
        space=_parse_unit("space", space or DEFAULT_SPACE, field="space"),
        name=parse_app_name(name),
    )


def _derived(ports: tuple[Port, ...], os: OperatingSystem) -> Port | None:
    if os is OperatingSystem.WINDOWS:
        return None
    return DEFAULT_APP_PORT if DEFAULT_APP_PORT in ports else ports[0]


def _parse_app_guid(text: str) -> AppGuid:
    guid = parse_guid(text, field="guid")
    return AppGuid(_fitting("app", guid, field="guid"))


def _parse_unit(kind: str, text: str, *, field: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise InvalidArgument(
            f"{field} must be printable, without spaces around it: {shown(text)}", field=field
        )
    return _fitting(kind, text, field=field)


def _fitting(kind: str, text: str, *, field: str) -> str:
    room = MAX_UNIT_CHARACTERS - len(f"{kind}:")
    if len(text) > room:
        raise InvalidArgument(
            f"{field} longer than {room} characters, which is what a certificate has room for: "
            f"{shown(text)}",
            field=field,
        )
    return text


def _parse_ports(values: Sequence[int]) -> tuple[Port, ...]:
    ports = tuple(_parse_app_port(value) for value in dict.fromkeys(values))
    if len(ports) > MAX_PORTS:
        raise InvalidArgument(
            f"an app may have at most {MAX_PORTS} ports, not {len(ports)}", field="ports"
        )
    return ports or (DEFAULT_APP_PORT,)


def _parse_app_port(value: int) -> Port:
    if value == C2C_PORT:
        raise InvalidArgument(
            f"port {C2C_PORT} is reserved for container networking", field="ports"
        )
    if not MIN_APP_PORT <= value <= 65535:
        raise InvalidArgument(
            f"invalid app port {value}, must be in range {MIN_APP_PORT}-65535", field="ports"
        )
    return Port(value)


def _parse_choice(
    kind: type[_Choice], text: str, default: _Choice, field: str, meaning: str
) -> _Choice:
    try:
        return kind(text or default)
    except ValueError:
        known = ", ".join(kind)
        raise InvalidArgument(
            f"unknown {meaning} {shown(text)}, known are: {known}", field=field
        ) from None
