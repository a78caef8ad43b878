"""What Envoy starts with: where the control plane is, and as which node Envoy connects to it.

The rule of this module: the template is text for people, in ``envoy/`` at the top of the
repository, and each value is put into it as one double-quoted scalar (YAML 1.2, section 7.3.1).
Whatever a value contains, it stays that value and adds no line to the bootstrap.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from string import Template

DEFAULT_MAX_MEMORY = 512 << 20
"""In octets. Envoy takes 7 MiB of them at rest, and 15 KiB or more for each connection."""

DEFAULT_MAX_FILES = 1 << 16
"""How many files may be open; connections that take as many take more memory than that."""

NODE_CLUSTER = "c2c"
"""The node's cluster, which is the same for all sidecars of one installation."""

_UNPRINTABLE = re.compile(r"[^ -~]")
_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 a type URL


class AdsVariant(StrEnum):
    """The variant of ADS that Envoy uses; the value is Envoy's name for it."""

    DELTA = "DELTA_GRPC"
    SOTW = "GRPC"


@dataclass(frozen=True, slots=True)
class XdsIdentity:
    """What an Envoy shows to the control plane, and what it requires of it.

    Attributes:
        identity_file: a file with the text that the function ``identity_file`` returns; a new file
            that is renamed into its place is used for the next connection.
        trust_file: likewise, with the text that ``trust_file`` returns.
        server_uri: the URI SAN (SPIFFE ID) that the control plane's certificate must have.
    """

    identity_file: Path
    trust_file: Path
    server_uri: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an Envoy may hold.

    Attributes:
        memory: how much memory, in octets.
        files: how many files it may have open; the process that starts Envoy has to see to that.
    """

    memory: int = DEFAULT_MAX_MEMORY
    files: int = DEFAULT_MAX_FILES

    @property
    def connections(self) -> int:
        """How many clients may be connected; each takes two files, and Envoy itself needs some."""
        return max(self.files * 7 // 16, 1)


DEFAULT_LIMITS = Limits()


def render(
    node_id: str,
    *,
    xds_address: str,
    xds_port: int,
    admin_socket: Path,
    tls: XdsIdentity | None,
    ads: AdsVariant = AdsVariant.DELTA,
    limits: Limits = DEFAULT_LIMITS,
) -> str:
    """Return the YAML that ``envoy --config-path`` reads.

    Args:
        node_id: the GUID of the instance, as in its certificate.
        xds_address: IP address or host name of the control plane.
        xds_port: its xDS port.
        admin_socket: where Envoy puts its admin interface; Linux allows 107 octets.
        tls: None for plaintext, which the control plane offers on loopback only.
        ads: the variant of ADS.
        limits: how much Envoy may hold before it turns clients away.
    """
    values: dict[str, str | int] = {
        "node_id": node_id,
        "node_cluster": NODE_CLUSTER,
        "admin_socket": str(admin_socket),
        "max_memory": limits.memory,
        "max_connections": limits.connections,
        "api_type": ads.value,
        "discovery": "STATIC" if _is_ip_address(xds_address) else "LOGICAL_DNS",
        "xds_address": xds_address,
        "xds_port": xds_port,
    }
    text = _template("bootstrap.yaml")
    if tls is not None:
        text += _template("bootstrap-mtls.yaml")
        values["identity_file"] = str(tls.identity_file)
        values["trust_file"] = str(tls.trust_file)
        values["server_uri"] = tls.server_uri
    return Template(text).substitute({key: _quoted(value) for key, value in values.items()})


def identity_file(chain_pem: str, key_pem: str) -> str:
    """Return the content of the identity file; it has the private key in it, so its mode is 0600.

    Certificate and key are in one file, so that Envoy never sees one without the other.
    """
    certificate = {
        "certificate_chain": {"inline_string": chain_pem},
        "private_key": {"inline_string": key_pem},
    }
    return _sds_file("identity", {"tls_certificate": certificate})


def trust_file(ca_pem: str) -> str:
    """Return the content of the trust file: the CAs that may have signed for the control plane."""
    return _sds_file("trust", {"validation_context": {"trusted_ca": {"inline_string": ca_pem}}})


def _sds_file(name: str, secret: dict[str, object]) -> str:
    return json.dumps({"resources": [{"@type": _SECRET, "name": name, **secret}]}, indent=2) + "\n"


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def _quoted(value: str | int) -> str:
    r"""Return a YAML scalar in printable ASCII; JSON's own surrogate pairs (\ud83d) are no YAML."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\U{ord(match[0]):08X}", text)


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
