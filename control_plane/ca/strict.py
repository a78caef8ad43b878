"""What verifiers that keep RFC 5280 to the letter object to in a CA.

The rule of this module: a CA with these faults works with Envoy, Go, Java and Node.js, so they are
no reason to refuse it. Python since 3.13 (``VERIFY_X509_STRICT``) and ``openssl verify
-x509_strict`` do refuse it. An operator's own CA may well have one: ``openssl req -x509`` makes CAs
without key usage.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from control_plane.ca.authority import Authority
from control_plane.ca.certificate import extension_of
from control_plane.names import shown

NOT_STRICT = "strict clients, such as Python 3.13, refuse what this CA signs"
"""The warning to an operator; the reason follows."""


def strict_problem(authority: Authority) -> str:
    """Return why a strict verifier refuses what an authority signs, or "" if none does."""
    path = dict.fromkeys((*authority.chain, *authority.roots))
    faults = [
        f"CA certificate {shown(each.subject.rfc4514_string())} {fault}"
        for each in path
        for fault in _faults(each, is_root=each in authority.roots)
    ]
    return "; ".join(faults)


def _faults(certificate: x509.Certificate, *, is_root: bool) -> Iterator[str]:
    extensions = {each.oid: each for each in certificate.extensions}
    constraints = extensions.get(x509.BasicConstraints.oid)
    if constraints is not None and not constraints.critical:
        yield "has basic constraints that are not critical (RFC 5280, section 4.2.1.9)"
    if x509.KeyUsage.oid not in extensions:
        yield "has no key usage (RFC 5280, section 4.2.1.3)"
    if x509.SubjectKeyIdentifier.oid not in extensions:
        yield "has no subject key identifier (RFC 5280, section 4.2.1.2)"
    if is_root:
        return
    theirs = extension_of(certificate, x509.AuthorityKeyIdentifier)
    if theirs is None:
        yield "has no authority key identifier (RFC 5280, section 4.2.1.1)"
    elif not theirs.key_identifier:
        yield "has an authority key identifier without a key (RFC 5280, section 4.2.1.1)"
