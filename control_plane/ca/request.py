"""What a certificate should contain: one frozen request for each kind of certificate.

The rule of this module: every request can be issued as it stands. Its names were parsed, sorted and
deduplicated, so the same facts in another order are the same request and lead to the same
certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar

from control_plane.ca.san import San, parse_dns_name
from control_plane.ca.spiffe import TrustDomain, is_segment, spiffe_id
from control_plane.ca.subject import Subject, parse_unit
from control_plane.errors import InvalidArgument
from control_plane.names import (
    MAX_HOSTNAME_OCTETS,
    MAX_LABEL_OCTETS,
    parse_address,
    parse_guid,
    shown,
)

_MANY = 4096

# The instances of an app share its routes, and requests are made again and again.
_known_dns_name = lru_cache(maxsize=_MANY)(parse_dns_name)
_known_address = lru_cache(maxsize=_MANY)(parse_address)
_known_unit = lru_cache(maxsize=_MANY)(parse_unit)


class Usage(StrEnum):
    """What a key may prove in a TLS handshake (extended key usage, RFC 5280, section 4.2.1.12)."""

    CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
    SERVER_AUTH = "1.3.6.1.5.5.7.3.1"


@dataclass(frozen=True, slots=True)
class C2CRequest:
    """The certificate that an instance shows to other containers: ``c2c-cert-and-key``.

    Attributes:
        hostnames: every internal route mapped to the app, in any order.
        index: the index of the instance in its app, which is the first label of its per-index
            names.
        address: where other containers reach the instance.

    Raises:
        InvalidArgument: a value breaks its rule; ``field`` names it.
    """

    instance_guid: str
    app_guid: str
    org: str
    space: str
    hostnames: tuple[str, ...]
    index: int
    address: str
    # Apps present it as servers; like Cloud Foundry's, it may prove clients too.
    usages: ClassVar[tuple[Usage, ...]] = (Usage.CLIENT_AUTH, Usage.SERVER_AUTH)

    subject: Subject = field(init=False, repr=False, compare=False)
    san: San = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Parse every value, and put the names in order."""
        if self.index < 0:
            raise InvalidArgument(
                f"instance index must not be negative: {self.index}", field="index"
            )
        subject = _instance_subject(self)
        hostnames = {_known_dns_name(hostname) for hostname in self.hostnames}
        per_index = {f"{self.index}.{hostname}" for hostname in hostnames}
        names = hostnames | {name for name in per_index if len(name) <= MAX_HOSTNAME_OCTETS}
        dns = (subject.common_name, *sorted(names - {subject.common_name}))
        object.__setattr__(self, "hostnames", tuple(sorted(hostnames)))
        object.__setattr__(self, "subject", subject)
        object.__setattr__(self, "address", _known_address(self.address))
        object.__setattr__(self, "san", San(dns=dns, ips=(self.address,)))


@dataclass(frozen=True, slots=True)
class IdentityRequest:
    """The certificate that proves to us which instance a sidecar is; the sidecar made its key.

    Raises:
        InvalidArgument: a value breaks its rule; ``field`` names it.
    """

    trust_domain: TrustDomain
    instance_guid: str
    app_guid: str
    org: str
    space: str
    address: str
    # It is for a client of the control plane; like Cloud Foundry's, it may prove servers too.
    usages: ClassVar[tuple[Usage, ...]] = (Usage.CLIENT_AUTH, Usage.SERVER_AUTH)

    subject: Subject = field(init=False, repr=False, compare=False)
    san: San = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Parse every value."""
        subject = _instance_subject(self)
        san = San(
            dns=(subject.common_name,),
            ips=(_known_address(self.address),),
            uris=(
                spiffe_id(self.trust_domain, "app", self.app_guid, "instance", self.instance_guid),
            ),
        )
        object.__setattr__(self, "san", san)
        object.__setattr__(self, "subject", subject)


@dataclass(frozen=True, slots=True)
class PortsRequest:
    """The certificate that an instance shows on the ports from 61001 up: ``id-cert-and-key``.

    It has no URI, and so is no identity, because the control plane makes its key and sends it.

    Raises:
        InvalidArgument: a value breaks its rule; ``field`` names it.
    """

    instance_guid: str
    app_guid: str
    org: str
    space: str
    address: str
    # Like Cloud Foundry's, it may prove clients too.
    usages: ClassVar[tuple[Usage, ...]] = (Usage.CLIENT_AUTH, Usage.SERVER_AUTH)

    subject: Subject = field(init=False, repr=False, compare=False)
    san: San = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Parse every value."""
        subject = _instance_subject(self)
        object.__setattr__(self, "subject", subject)
        san = San(dns=(subject.common_name,), ips=(_known_address(self.address),))
        object.__setattr__(self, "san", san)


@dataclass(frozen=True, slots=True)
class ServerRequest:
    """The certificate of the control plane's own ports.

    Attributes:
        dns_names: the names by which sidecars and operators reach it, in order of preference.
        addresses: the addresses by which they reach it.

    Raises:
        InvalidArgument: there is neither a name nor an address, or a value breaks its rule.
    """

    trust_domain: TrustDomain
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    # A thief of this certificate is still no client of ours.
    usages: ClassVar[tuple[Usage, ...]] = (Usage.SERVER_AUTH,)

    subject: Subject = field(init=False, repr=False, compare=False)
    san: San = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Parse every value."""
        if not self.dns_names and not self.addresses:
            raise InvalidArgument(
                "a server certificate needs a DNS name or an address", field="dns_names"
            )
        dns = dict.fromkeys(parse_dns_name(name, field="dns_names") for name in self.dns_names)
        ips = dict.fromkeys(parse_address(ip, field="addresses") for ip in self.addresses)
        uri = spiffe_id(self.trust_domain, "control-plane")
        object.__setattr__(self, "san", San(dns=tuple(dns), ips=tuple(ips), uris=(uri,)))
        object.__setattr__(self, "subject", Subject("control-plane"))


@dataclass(frozen=True, slots=True)
class OperatorRequest:
    """The certificate of an operator who may use the operators' API over TCP.

    Raises:
        InvalidArgument: the name is empty, too long, or has characters other than letters, digits,
            ``.``, ``-`` and ``_``.
    """

    trust_domain: TrustDomain
    name: str
    # No operator's laptop can pose as an app or as the control plane.
    usages: ClassVar[tuple[Usage, ...]] = (Usage.CLIENT_AUTH,)

    subject: Subject = field(init=False, repr=False, compare=False)
    san: San = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Parse the name."""
        if not 1 <= len(self.name) <= MAX_LABEL_OCTETS:
            raise InvalidArgument(
                f"operator name must have 1 to {MAX_LABEL_OCTETS} characters: {shown(self.name)}",
                field="name",
            )
        if not is_segment(self.name):
            raise InvalidArgument(
                "operator name must be letters, digits, '.', '-' and '_', other than '.' and '..': "
                f"{shown(self.name)}",
                field="name",
            )
        uri = spiffe_id(self.trust_domain, "operator", self.name)
        object.__setattr__(self, "san", San(uris=(uri,)))
        object.__setattr__(self, "subject", Subject(self.name))


Request = C2CRequest | IdentityRequest | PortsRequest | ServerRequest | OperatorRequest
"""Everything that can be requested."""


def _instance_subject(request: C2CRequest | IdentityRequest | PortsRequest) -> Subject:
    """Return the subject in Cloud Foundry's form, because authorisation libraries parse it."""
    return Subject(
        common_name=parse_guid(request.instance_guid, field="instance_guid"),
        units=(
            _known_unit("organization", request.org, field="org"),
            _known_unit("space", request.space, field="space"),
            _known_unit("app", parse_guid(request.app_guid, field="app_guid"), field="app_guid"),
        ),
    )
