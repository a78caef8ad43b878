"""The subject of a certificate (RFC 5280, section 4.1.2.6), in Cloud Foundry's form.

The rule of this module: every subject fits into a certificate. Its units come from ``parse_unit``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from control_plane.errors import InvalidArgument
from control_plane.names import shown

MAX_ATTRIBUTE_CHARACTERS = 64
"""RFC 5280, appendix A.1: ub-common-name and ub-organizational-unit-name."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A common name and the organizational units above it.

    Attributes:
        units: these go into one multi-valued RDN, as in Cloud Foundry; DER sorts them by their
            bytes.

    Raises:
        InvalidArgument: the common name is empty or too long.
    """

    common_name: str
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the common name."""
        if not 1 <= len(self.common_name.encode()) <= MAX_ATTRIBUTE_CHARACTERS:
            raise InvalidArgument(
                f"common name must have 1 to {MAX_ATTRIBUTE_CHARACTERS} octets: "
                f"{shown(self.common_name)}",
                field="common_name",
            )

    def name(self) -> x509.Name:
        """Return the X.501 name."""
        return _name(self)


def parse_unit(kind: str, value: str, *, field: str) -> str:
    """Return an organizational unit such as ``space:dev``.

    Raises:
        InvalidArgument: the value is empty, cannot be printed, or is too long together with its
            kind.
    """
    if not value:
        raise InvalidArgument(f"{field.replace('_', ' ')} missing", field=field)
    if not value.isprintable():
        raise InvalidArgument(
            f"{field.replace('_', ' ')} has characters that cannot be printed: {shown(value)}",
            field=field,
        )
    unit = f"{kind}:{value}"
    if len(unit) > MAX_ATTRIBUTE_CHARACTERS:
        room = MAX_ATTRIBUTE_CHARACTERS - len(kind) - 1
        raise InvalidArgument(
            f"{field.replace('_', ' ')} longer than the {room} characters that a certificate's "
            f"organizational unit has room for: {shown(value)}",
            field=field,
        )
    return unit


@lru_cache(maxsize=8192)  # all certificates of an instance have the same subject
def _name(subject: Subject) -> x509.Name:
    common_name = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    )
    if not subject.units:
        return x509.Name([common_name])
    units = x509.RelativeDistinguishedName(
        [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in subject.units]
    )
    return x509.Name([units, common_name])
