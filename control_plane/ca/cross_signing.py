"""Cross-signing: a CA's root, signed by another CA so that clients of the other verify it too.

The rule of this module: it is always the root that is signed, never an intermediate below it. So a
server sends only one certificate of each name, and no client can pick the wrong one: OpenSSL takes
the first that fits and does not backtrack.
"""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from control_plane.ca.authority import CA_KEY_USAGE, Authority
from control_plane.ca.certificate import extension_of
from control_plane.ca.constraints import WANTS_POLICY, wants_policy
from control_plane.ca.profile import MAX_BACKDATE, check_serial
from control_plane.names import shown


def objection(subject: Authority, signer: Authority, now: datetime) -> str:
    """Return why clients would not believe the root of one CA if another cross-signed it, or "".

    Args:
        subject: the CA whose leaves are to be verified.
        signer: the CA whose root the clients trust.
        now: an aware datetime.
    """
    if not signer.not_before <= now < signer.not_after:
        return f"CA {shown(signer.subject)} is not valid now"
    for below, certificate in enumerate(signer.path):
        constraints = extension_of(certificate, x509.BasicConstraints)
        allowed = constraints.path_length if constraints is not None else None
        needed = below + len(subject.path)
        if allowed is not None and allowed < needed:
            return (
                f"CA {shown(certificate.subject.rfc4514_string())} allows {allowed} CAs below it "
                f"and would have {needed} (path length)"
            )
        if wants_policy(certificate, needed):
            return f"CA {shown(certificate.subject.rfc4514_string())} {WANTS_POLICY}"
    for certificate in subject.path[-2:-1]:
        identifier = extension_of(certificate, x509.AuthorityKeyIdentifier)
        if identifier is not None and identifier.authority_cert_serial_number is not None:
            return (
                f"CA {shown(certificate.subject.rfc4514_string())} names its root by a serial "
                "number, and a cross-signed one has another (authority key identifier)"
            )
    return ""


def cross_sign(
    subject: Authority, signer: Authority, *, now: datetime, serial: int
) -> x509.Certificate:
    """Return the root of one CA as another CA signs it; ``objection`` must have found none.

    It has the key identifier of the root, so the same leaf leads to either of the two certificates.

    Raises:
        IssuanceError: the serial number is not valid.
    """
    check_serial(serial)
    root = subject.path[-1]
    now = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(root.subject)
        .issuer_name(signer.name)
        .public_key(root.public_key())
        .serial_number(serial)
        .not_valid_before(max(now - MAX_BACKDATE, signer.not_before))
        .not_valid_after(min(root.not_valid_after_utc, signer.not_after))
        .add_extension(
            x509.BasicConstraints(ca=True, path_length=len(subject.path) - 1), critical=True
        )
        .add_extension(CA_KEY_USAGE, critical=True)
        .add_extension(signer.key_identifier, critical=False)
    )
    identifier = extension_of(root, x509.SubjectKeyIdentifier)
    if identifier is not None:
        builder = builder.add_extension(identifier, critical=False)
    return builder.sign(signer.key.private, signer.key.hash)
