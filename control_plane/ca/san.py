"""The names that a certificate is good for (subjectAltName, RFC 5280, section 4.2.1.6).

The rule of this module: the order of the names is part of the value, because it is part of the
bytes. A DNS name gets into a certificate only in the form that this module allows (``x509.DNSName``
itself would take ``a..b``).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from control_plane.errors import InvalidArgument
from control_plane.names import MAX_HOSTNAME_OCTETS, shown

_DNS_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


@dataclass(frozen=True, slots=True)
class San:
    """The names of one certificate, each kind in the order of the certificate.

    Attributes:
        dns: host names; in every certificate of an instance, the first is its GUID.
        ips: addresses in canonical form.
        uris: SPIFFE ids.
    """

    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    def extension(self) -> x509.SubjectAlternativeName:
        """Return the X.509 extension: DNS names, then addresses, then URIs."""
        return _extension(self)


def read_san(extension: x509.SubjectAlternativeName) -> San:
    """Return the DNS names, addresses and URIs of a certificate; other kinds are left out."""
    return San(
        dns=tuple(extension.get_values_for_type(x509.DNSName)),
        ips=tuple(str(ip) for ip in extension.get_values_for_type(x509.IPAddress)),
        uris=tuple(extension.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def parse_dns_name(text: str, *, field: str = "hostname") -> str:
    """Return a host name of one or more labels, in lower case.

    Raises:
        InvalidArgument: the name breaks RFC 1035, section 2.3.4, or has characters other than
            letters, digits, ``-`` and ``_`` (which Cloud Foundry allows in the host of a route).
    """
    if len(text) > MAX_HOSTNAME_OCTETS:
        raise InvalidArgument(
            f"DNS name longer than {MAX_HOSTNAME_OCTETS} octets: {shown(text)}", field=field
        )
    if not _DNS_NAME.fullmatch(text):
        raise InvalidArgument(
            f"DNS name must be labels of 1 to 63 letters, digits, '-' and '_': {shown(text)}",
            field=field,
        )
    return text.lower()


@lru_cache(maxsize=64)  # the signer and the linter of a certificate ask in turn
def _extension(san: San) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in san.dns]
    names.extend(x509.IPAddress(ipaddress.ip_address(ip)) for ip in san.ips)
    names.extend(x509.UniformResourceIdentifier(uri) for uri in san.uris)
    return x509.SubjectAlternativeName(names)
