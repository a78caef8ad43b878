"""Every setting: its name, its meaning, its reader, and its default.

The rule of this module: a field of ``Settings`` is the only place that knows a setting. The flag,
the C2C_ variable, the TOML key and the help text are derived from it. Settings that exist fit
together: settings that contradict each other are refused at construction, all problems at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from control_plane.ca.profile import MAX_LIFETIME, MIN_LIFETIME
from control_plane.ca.spiffe import DEFAULT_TRUST_DOMAIN, TrustDomain, parse_trust_domain
from control_plane.errors import ConfigurationError
from control_plane.model.policies import DEFAULT_POLICY_LIMIT
from control_plane.names import Domain, parse_domain
from control_plane.settings.conflicts import conflicts
from control_plane.settings.paths import read_file_path, read_path
from control_plane.settings.values import (
    LogFormat,
    LogLevel,
    Reader,
    SocketAddress,
    choice_of,
    count_between,
    duration_between,
    list_of,
    read_bool,
    read_listen_address,
    read_server_name,
    read_text,
    size_between,
)


class Setting(NamedTuple):
    """What is known of one setting besides its value.

    Attributes:
        name: the field of ``Settings`` and the key in TOML.
        flag: the option of ``c2c serve``; the flag of a list takes one value each time.
        variable: the environment variable.
        help: one sentence for the help text.
        read: converts a text or a TOML value to the type of the field.
        default: the value if no source sets it.
        is_list: whether the flag may be given several times.
        is_switch: whether the flag takes no value.
    """

    name: str
    flag: str
    variable: str
    help: str
    read: Reader[Any]
    default: object
    is_list: bool
    is_switch: bool


def _about(text: str, read: Reader[Any], *, flag: str = "") -> Mapping[str, object]:
    """Return the metadata of a field; the flag only if it does not follow from the name."""
    return {"help": text, "read": read, "flag": flag}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings.

    Raises:
        ConfigurationError: settings contradict each other; every contradiction is named.
    """

    data_dir: Path = field(
        metadata=_about(
            "Directory of the database, the embedded CA and the admin socket, mode 0700.", read_path
        )
    )
    xds_address: SocketAddress = field(
        default=SocketAddress("127.0.0.1", 18000),
        metadata=_about("Where Envoys and sidecars connect, by mTLS.", read_listen_address),
    )
    enroll_address: SocketAddress = field(
        default=SocketAddress("127.0.0.1", 18001),
        metadata=_about("Where sidecars enrol with a join token.", read_listen_address),
    )
    http_address: SocketAddress = field(
        default=SocketAddress("127.0.0.1", 18002),
        metadata=_about("Where /healthz, /readyz and /metrics are served.", read_listen_address),
    )
    admin_address: SocketAddress | None = field(
        default=None,
        metadata=_about(
            "Where operators connect by mTLS, besides the socket in the data directory.",
            read_listen_address,
        ),
    )
    server_names: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Host names and addresses by which this server is reached, for its certificate; "
            "join-token and bootstrap print the first.",
            list_of(read_server_name),
            flag="--server-name",
        ),
    )
    internal_domains: tuple[Domain, ...] = field(
        default=(Domain("apps.internal"),),
        metadata=_about(
            "Domains that internal routes may be in, none of them below another.",
            list_of(lambda value: parse_domain(read_text(value))),
            flag="--internal-domain",
        ),
    )
    trust_domain: TrustDomain = field(
        default=DEFAULT_TRUST_DOMAIN,
        metadata=_about(
            "Trust domain of the SPIFFE ids in identity certificates.",
            lambda value: parse_trust_domain(read_text(value)),
        ),
    )
    ca_cert: Path | None = field(
        default=None,
        metadata=_about(
            "PEM certificate of an own CA, and the chain above it; without it, a CA is made once.",
            read_file_path,
        ),
    )
    ca_key: Path | None = field(
        default=None, metadata=_about("PEM private key of the own CA.", read_path)
    )
    certificate_lifetime: timedelta = field(
        default=timedelta(hours=24),
        metadata=_about(
            "How long certificates are valid; they are renewed at half of it.",
            duration_between(MIN_LIFETIME, MAX_LIFETIME),
        ),
    )
    log_level: LogLevel = field(
        default=LogLevel.INFO,
        metadata=_about(
            "Least important events that are logged: debug, info, warning or error. "
            "The audit log is always whole.",
            choice_of(LogLevel),
        ),
    )
    log_format: LogFormat = field(
        default=LogFormat.AUTO,
        metadata=_about(
            "json, console, or auto: console on a terminal, json elsewhere.", choice_of(LogFormat)
        ),
    )
    drain_time: timedelta = field(
        default=timedelta(seconds=10),
        metadata=_about(
            "How long streams and calls may take to end when the server stops; streams end in "
            "slices over up to half of it, and what is left when it is over is cut.",
            duration_between(timedelta(), timedelta(hours=1)),
        ),
    )
    router_ca: Path | None = field(
        default=None,
        metadata=_about(
            "PEM certificates of the CAs whose clients may connect to ports 61001 and up.",
            read_file_path,
        ),
    )
    router_sans: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Subject alternative names of which such a client has to show one.",
            list_of(read_text),
            flag="--router-san",
        ),
    )
    unproxied_port_mappings: bool = field(
        default=False,
        metadata=_about("Let apps be reached on their own ports too, without TLS.", read_bool),
    )
    policies_per_source: int = field(
        default=DEFAULT_POLICY_LIMIT,
        metadata=_about(
            "How many network policies one source app may have.", count_between(1, 10**6)
        ),
    )
    max_message_size: int = field(
        default=4 * 2**20,
        metadata=_about(
            "Largest message that a client may send, in bytes.", size_between(64 * 2**10, 2**30)
        ),
    )
    max_names_per_stream: int = field(
        default=4096,
        metadata=_about(
            "How many resource names one xDS stream may subscribe to.", count_between(16, 10**6)
        ),
    )
    max_streams_per_node: int = field(
        default=16,
        metadata=_about(
            "How many xDS streams one instance may have open.", count_between(2, 10_000)
        ),
    )
    max_new_streams_per_second: int = field(
        default=500,
        metadata=_about(
            "How many xDS streams are let in each second; the others are told to come back.",
            count_between(1, 10**6),
        ),
    )
    max_refused_enrollments_per_minute: int = field(
        default=30,
        metadata=_about(
            "How many enrolments of one address or token are refused with a reason each minute, "
            "and ten times as many of all strangers; the others are told to come back.",
            count_between(1, 10**6),
        ),
    )

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        problems = [conflict.sentence for conflict in conflicts(values)]
        if problems:
            raise ConfigurationError(problems)


def all_settings() -> tuple[Setting, ...]:
    """Return every setting, in the order of the help text."""
    return tuple(_described(each) for each in fields(Settings))


def _described(each: Field[Any]) -> Setting:
    return Setting(
        name=each.name,
        flag=each.metadata["flag"] or f"--{each.name.replace('_', '-')}",
        variable=f"C2C_{each.name.upper()}",
        help=each.metadata["help"],
        read=each.metadata["read"],
        default=None if each.default is MISSING else each.default,
        is_list=isinstance(each.default, tuple),
        is_switch=isinstance(each.default, bool),
    )
