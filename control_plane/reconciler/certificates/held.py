"""One certificate of one instance, as the control plane holds it.

The rule of this module: these are values. Only ``Held`` contains a private key, and its ``repr``
leaves that out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from control_plane.ca.request import Request
from control_plane.ca.san import San
from control_plane.store.protocol import IssuedRecord
from control_plane.xds.resource import Resource, Version


@dataclass(frozen=True, slots=True)
class Held:
    """One secret of one instance: the request for it, its record and its resource.

    The certificate and its key are in the resource, and nowhere else.
    """

    request: Request
    record: IssuedRecord
    resource: Resource = field(repr=False)
    renew_at: datetime

    @property
    def serial(self) -> int:
        """The serial number of its certificate."""
        return self.record.serial

    @property
    def not_before(self) -> datetime:
        """When its certificate becomes valid."""
        return self.record.not_before

    @property
    def version(self) -> Version:
        """The version of its resource."""
        return self.resource.version

    @property
    def content(self) -> Resource:
        """What a plan contains of it."""
        return self.resource


@dataclass(frozen=True, slots=True)
class Recorded:
    """One secret of one instance that was issued before the last restart; its key is gone."""

    record: IssuedRecord
    renew_at: datetime

    @property
    def serial(self) -> int:
        """The serial number of its certificate."""
        return self.record.serial

    @property
    def not_before(self) -> datetime:
        """When its certificate becomes valid."""
        return self.record.not_before

    @property
    def version(self) -> Version:
        """The version that its resource had."""
        return Version(self.record.version)

    @property
    def content(self) -> Version:
        """What a plan contains of it: the version only, for a client that still has the secret."""
        return self.version


@dataclass(frozen=True, slots=True)
class Ensured:
    """The outcome of asking for a secret.

    Attributes:
        held: the secret in use; None if there never was one.
        is_fresh: whether it was issued just now.
        failure: why no new one could be issued; "" if the secret in use says what it must.
    """

    held: Held | Recorded | None
    is_fresh: bool = False
    failure: str = ""


def names_of(san: San) -> tuple[str, ...]:
    """Return the names of a certificate in the form in which they are recorded."""
    return (*san.dns, *san.ips, *san.uris)
