"""A CA rotation: which CA signs, which others are trusted, and the steps from one to the next.

The rule of this module: each step is a function from one rotation to the next, and each step but
the last can be undone. A new CA is trusted before anything is signed with it, and an old one is
trusted until nothing that it signed is in use; the caller makes sure of both.

::

    steady --prepare--> prepared --activate--> activated --retire--> steady
           <--undo-----          <--undo------
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from cryptography import x509

from control_plane.ca.authority import Authority
from control_plane.ca.certificate import Issuers
from control_plane.ca.cross_signing import cross_sign, objection
from control_plane.errors import FailedPrecondition, InvalidArgument
from control_plane.names import shown


class Stage(StrEnum):
    """How far a rotation has got."""

    STEADY = "steady"
    """There is one CA."""

    PREPARED = "prepared"
    """The other CA is trusted, but signs nothing yet."""

    ACTIVATED = "activated"
    """The other CA signs nothing any more, but is still trusted."""


# No slots: cached_property needs the instance's dict.
@dataclass(frozen=True, eq=False)
class Rotation:
    """The CAs that there are, and the role of each.

    Attributes:
        active: the CA that signs.
        since: when the rotation reached this stage, in UTC.
        other: the CA that will sign next, or that signed before; None if there is only one CA.
        cross: the root of the active CA as the other one signed it.
    """

    stage: Stage
    active: Authority
    since: datetime
    other: Authority | None = None
    cross: x509.Certificate | None = None

    @property
    def active_since(self) -> datetime | None:
        """When the active CA began to sign; None if that was before this rotation."""
        # Nothing is cross-signed between the first step and the second.
        is_swapped = self.stage is Stage.ACTIVATED or self.cross is not None
        return self.since if is_swapped else None

    @cached_property
    def issuers(self) -> Issuers:
        """The certificates of the CAs whose leaves are accepted."""
        return tuple(each.certificate for each in (self.active, self.other) if each is not None)

    @cached_property
    def signing(self) -> Authority:
        """The active CA, with what it has to send and what clients have to trust at this stage."""
        if self.other is None:
            return self.active
        detour = () if self.cross is None else (self.cross, *self.other.below_root)
        others = tuple(each for each in self.other.roots if each not in self.active.roots)
        return replace(self.active, detour=detour, other_roots=others)


def steady(active: Authority, now: datetime) -> Rotation:
    """Return the rotation of a single CA."""
    return Rotation(Stage.STEADY, active, now)


def require_steady(rotation: Rotation) -> None:
    """Refuse if a rotation is under way.

    Raises:
        FailedPrecondition: one is.
    """
    if rotation.other is not None:
        raise FailedPrecondition(
            f"CA {shown(rotation.other.subject)} is {_role(rotation)}: one rotation at a time "
            f"({_NEXT_STEPS[rotation.stage]})"
        )


def prepare(
    rotation: Rotation, successor: Authority, now: datetime, *, uncrossed: bool = False
) -> Rotation:
    """Have another CA trusted.

    Args:
        uncrossed: whether the other CA may be one that the active CA cannot cross-sign.

    Raises:
        FailedPrecondition: another rotation is under way, or clients that know only the active CA
            could not verify what the other one signs.
        InvalidArgument: clients could take the other CA for the active one.
    """
    require_steady(rotation)
    active = rotation.active
    if successor.name == active.name or successor.key.public == active.key.public:
        raise InvalidArgument(
            f"CA {shown(successor.subject)} has the name or the key of the active CA, and clients "
            "could take one for the other: give it a name and a key of its own"
        )
    _require_names_apart(active, successor)
    problem = crossing_problem(active=successor, other=active, now=now)
    if problem and not uncrossed:
        raise FailedPrecondition(
            f"the active CA cannot cross-sign the new one: {problem}; programs that read their "
            "trust bundle once would fail after the activation: if there are none, use "
            "--allow-uncrossed"
        )
    return Rotation(Stage.PREPARED, active, now, other=successor)


def activate(rotation: Rotation, now: datetime, serial: int) -> Rotation:
    """Have the prepared CA sign; the CA that signed before cross-signs its root.

    Raises:
        FailedPrecondition: no CA is prepared.
    """
    return _swap(rotation, Stage.PREPARED, Stage.ACTIVATED, now, serial)


def undo_activate(
    rotation: Rotation, now: datetime, serial: int, *, force: bool = False
) -> Rotation:
    """Have the CA sign that signed before; the other CA cross-signs its root.

    Args:
        force: whether it may be one that the active CA cannot cross-sign.

    Raises:
        FailedPrecondition: no CA was activated, the CA before is gone for good, or clients that
            know only the active CA could not verify what that one signs.
    """
    before = _require(rotation, Stage.ACTIVATED)
    problem = crossing_problem(active=before, other=rotation.active, now=now)
    if problem and not force:
        raise FailedPrecondition(
            f"the active CA cannot cross-sign the one before: {problem}; programs that trust "
            "only the active one would fail: if there are none, use --force",
            field="force",
        )
    return _swap(rotation, Stage.ACTIVATED, Stage.PREPARED, now, serial)


def undo_prepare(rotation: Rotation, now: datetime) -> Rotation:
    """Forget the prepared CA.

    Raises:
        FailedPrecondition: no CA is prepared.
    """
    _require(rotation, Stage.PREPARED)
    return steady(rotation.active, now)


def retire(rotation: Rotation, now: datetime) -> Rotation:
    """Forget the CA that signed before.

    Raises:
        FailedPrecondition: there is none.
    """
    _require(rotation, Stage.ACTIVATED)
    return steady(rotation.active, now)


def crossing_problem(*, active: Authority, other: Authority, now: datetime) -> str:
    """Return why clients that trust only the other CA could not verify the active one, or ""."""
    return "" if active.roots == other.roots else objection(active, other, now)


def pinning_problem(*, active: Authority, other: Authority, now: datetime) -> str:
    """Return why clients that pin only the other CA's fingerprint refuse the active one, or ""."""
    if active.roots == other.roots:
        return "both lead to one root, so neither signs the other"
    return objection(active, other, now)


_NEXT_STEPS = {
    Stage.STEADY: "'c2c ca prepare' prepares another",
    Stage.PREPARED: "'c2c ca activate' has it sign",
    Stage.ACTIVATED: "'c2c ca retire' forgets it",
}
"""The hint to an operator who takes a step out of order."""


def _swap(rotation: Rotation, before: Stage, after: Stage, now: datetime, serial: int) -> Rotation:
    other = _require(rotation, before)
    cross = None
    # Two CAs below a common root need no cross-signing.
    if other.roots != rotation.active.roots and not objection(other, rotation.active, now):
        cross = cross_sign(other, rotation.active, now=now, serial=serial)
    return Rotation(after, other, now, other=rotation.active, cross=cross)


def _require_names_apart(active: Authority, successor: Authority) -> None:
    """Refuse a CA in whose path a name has another key than in the active CA's path.

    Without key identifiers, clients take the first certificate of a name that they find.
    """
    keys = {each.subject: each.public_key() for each in active.path}
    for each in successor.path:
        if keys.get(each.subject, each.public_key()) != each.public_key():
            raise InvalidArgument(
                f"CA {shown(successor.subject)} has {shown(each.subject.rfc4514_string())} in its "
                "path, the active CA has another one of that name in its own, and clients could "
                "take one for the other: give it a path with names of its own"
            )


def _require(rotation: Rotation, stage: Stage) -> Authority:
    """Return the other CA, if the rotation is at this stage."""
    if rotation.stage is stage and rotation.other is not None:
        return rotation.other
    match rotation.stage:
        case Stage.STEADY:
            state = f"{shown(rotation.active.subject)} is the only CA"
        case _:
            state = f"CA {shown(rotation.signing.subject)} is active, and another {_role(rotation)}"
    state += f" ({_NEXT_STEPS[rotation.stage]})"
    wanted = "prepared" if stage is Stage.PREPARED else "retiring"
    raise FailedPrecondition(f"no CA is {wanted}: {state}")


def _role(rotation: Rotation) -> str:
    return "prepared" if rotation.stage is Stage.PREPARED else "retiring"
