"""What a CA's certificate must not say, because clients would refuse the certificates below it.

The rule of this module: whatever makes Envoy, OpenSSL or Go refuse every leaf is a fault, and
nothing else is. What only strict clients mind is no fault here (see ``strict``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Network

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from control_plane.ca.certificate import extension_of
from control_plane.names import shown

WANTS_POLICY = (
    "wants a certificate policy of what is below it, and leaves have none (policy constraints)"
)
"""The fault, as it is said of a CA."""

_EVERY_ADDRESS = x509.IPAddress(IPv4Network("0.0.0.0/0"))

_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
    }
)
"""The extensions that all three know, so that they may be critical (RFC 5280, section 4.2)."""


def authority_faults(certificate: x509.Certificate, below: int) -> Iterator[str]:
    """Name what keeps clients from accepting a CA certificate with this many CAs below it."""
    constraints = extension_of(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        yield "is not a CA (basic constraints)"
    elif constraints.path_length is not None and constraints.path_length < below:
        yield f"allows {constraints.path_length} CAs below it and has {below} (path length)"
    if wants_policy(certificate, below):
        yield WANTS_POLICY
    # Absent means unrestricted (RFC 5280, section 4.2.1.3); "openssl req -x509" makes such CAs.
    key_usage = extension_of(certificate, x509.KeyUsage)
    if key_usage is not None and not key_usage.key_cert_sign:
        yield "may not sign certificates (key usage)"
    usages = extension_of(certificate, x509.ExtendedKeyUsage)
    if usages is not None and not _is_for_tls(usages):
        yield "is not for TLS servers and clients both (extended key usage)"
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            oid = extension.oid.dotted_string
            yield f"has the critical extension {oid}, and clients refuse what they do not know"


def name_faults(certificate: x509.Certificate, domains: Collection[str]) -> Iterator[str]:
    """Name what keeps leaves from having the names and addresses that every leaf has."""
    names = extension_of(certificate, x509.NameConstraints)
    if names is not None and names.permitted_subtrees:
        yield "permits certain names only, which GUIDs and addresses are not (name constraints)"
    excluded = (names.excluded_subtrees if names is not None else None) or ()
    if _EVERY_ADDRESS in excluded:
        yield "excludes every address, and each leaf has one (name constraints)"
    for each in excluded:
        for domain in domains:
            if isinstance(each, x509.DNSName) and _is_within(domain, each.value):
                yield f"excludes the internal domain {shown(domain)} (name constraints)"


def wants_policy(certificate: x509.Certificate, below: int) -> bool:
    """Tell whether what a CA says makes clients refuse leaves without a policy, as ours are.

    Clients that keep RFC 5280 (section 6.1) do so, such as Envoy and Go; what a root says does not
    count.

    Args:
        below: how many CAs there are between the CA and a leaf.
    """
    constraints = extension_of(certificate, x509.PolicyConstraints)
    if constraints is None or certificate.subject == certificate.issuer:
        return False
    skipped = constraints.require_explicit_policy
    return skipped is not None and skipped <= below + 1


def misnames_key(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate's authority key identifier names another issuer than this one.

    If a root was made anew with its old key, it may have another serial number than the previous
    root, which certificates below it may name. Go accepts that; OpenSSL and Envoy find no issuer.
    """
    theirs = extension_of(certificate, x509.AuthorityKeyIdentifier)
    if theirs is None:
        return False
    ours = extension_of(issuer, x509.SubjectKeyIdentifier)
    names = [each for each in theirs.authority_cert_issuer or () if _is_directory(each)]
    return (
        (ours is not None and theirs.key_identifier not in (None, ours.digest))
        or theirs.authority_cert_serial_number not in (None, issuer.serial_number)
        or (bool(names) and names[0].value != issuer.issuer)
    )


def _is_directory(name: x509.GeneralName) -> bool:
    return isinstance(name, x509.DirectoryName)


def _is_within(domain: str, subtree: str) -> bool:
    """Tell whether every name in a domain is in a subtree (RFC 5280, section 4.2.1.10)."""
    above = subtree.removeprefix(".").lower()
    return not above or f".{domain}".endswith(f".{above}")


def _is_for_tls(usages: x509.ExtendedKeyUsage) -> bool:
    needed = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    return ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages or needed.issubset(usages)
