"""A short notation for resources and responses, so that a test reads like a transcript.

``c@1`` is the resource ``c`` with the content of its version 1, ``c@1|x`` one that is also called
``x``, ``?c`` a name whose content is pending, and ``=c@1`` one of which only the version is
recorded. A response is written ``1 CDS c@1 d@2 -e``: its nonce, its type, its resources, and the
names in ``removed_resources``, ``!f`` for one that is told without content, and ``~g`` for one that
is told not to exist (``~g(why)`` not to be allowed) in ``resource_errors``. What may not be had is
``-c(why)`` among resources.

``c@1{env=prod}`` is a variant of ``c`` for clients whose parameter ``env`` is ``prod``, ``{env}``
for those that have it, ``{!env}`` for those that have not, ``{env=a,v=1}`` for those that match
both, and ``{env=a/env=b}`` either. In a response it is what is told by ``resource_name``, and
``-c{env=prod}`` is in ``removed_resource_names``, without constraints ``-c{}``. A client asks by
the locator ``c{env=prod,v=1}``.
"""

from __future__ import annotations

from collections.abc import Iterable

from control_plane.xds.constraints import Constraints, Not, Rule, Several, Single
from control_plane.xds.messages import Locator, Reply
from control_plane.xds.resource import Resource, TypeUrl, Version, version_of
from control_plane.xds.resource_error import NOT_FOUND
from control_plane.xds.resource_type import (
    CLUSTER,
    ENDPOINT,
    EXTENSION_CONFIG,
    LB_ENDPOINT,
    LISTENER,
    ROUTE,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
)
from control_plane.xds.snapshot import Snapshot, TypeSnapshot

TYPES = {
    "CDS": CLUSTER,
    "EDS": ENDPOINT,
    "LEDS": LB_ENDPOINT,
    "LDS": LISTENER,
    "RDS": ROUTE,
    "SRDS": SCOPED_ROUTE,
    "SDS": SECRET,
    "ECDS": EXTENSION_CONFIG,
    "VHDS": VIRTUAL_HOST,
}


def url_of(short: str) -> TypeUrl:
    """Return the type URL that a short name stands for; anything else stands for itself."""
    return TYPES.get(short, TypeUrl(short))


def short_of(url: TypeUrl) -> str:
    """Return the short name of a type URL, or the URL if it has none."""
    return next((short for short, each in TYPES.items() if each == url), url)


def resource(short: str, text: str) -> Resource:
    """Return the resource that ``c@1`` or ``c@1|alias`` stands for."""
    text, _, whose = text.removesuffix("}").partition("{")
    label, *aliases = text.split("|")
    name = label.partition("@")[0]
    limited = constraints(whose) if whose else None
    return Resource.of(url_of(short), name, label.encode(), aliases, constraints=limited)


def constraints(text: str) -> Constraints:
    """Return the constraints that ``env=prod,!version`` stands for."""
    return Constraints(text.encode(), _rule(text))


def _rule(text: str) -> Rule:
    for sign in "/,":
        if sign in text:
            parts = tuple(map(_rule, text.split(sign)))
            return Several(parts, one_is_enough=sign == "/")
    if text.startswith("!"):
        return Not(_rule(text[1:]))
    key, sign, value = text.partition("=")
    return Single(key, value if sign else None)


def locators(*names: str) -> tuple[Locator, ...]:
    """Return the locators that ``c{env=prod}`` and the like stand for."""
    return tuple(
        Locator(name, tuple((key, value) for key, _, value in pairs))
        for name, given in (each.removesuffix("}").split("{") for each in names)
        for pairs in [[each.partition("=") for each in given.split(",") if each]]
    )


def sorted_out(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[Locator, ...]]:
    """Return the plain names, and the locators, of some that a client gives."""
    plain: list[str] = []
    located: list[str] = []
    for name in names:
        (located if name.endswith("}") else plain).append(name)
    return tuple(plain), locators(*located)


def version(text: str) -> Version:
    """Return the version of the resource that ``c@1`` stands for."""
    return version_of(text.encode()) if text[-1] != "}" else resource("CDS", text).version


def content(short: str, text: str) -> TypeSnapshot:
    """Return the resources of one type: ``c@1 d@1 ?pending =recorded@1``."""
    words = text.split()
    recorded = [word[1:] for word in words if word[0] == "="]
    return TypeSnapshot.of(
        [resource(short, word) for word in words if word[0] not in "?=-"],
        pending=[word[1:] for word in words if word[0] == "?"],
        recorded={label.partition("@")[0]: version(label) for label in recorded},
        denied=dict(word[1:-1].split("(") for word in words if word[0] == "-"),
    )


def snapshot(**types: str) -> Snapshot:
    """Return all that a node should have: ``snapshot(CDS="c@1", LDS="l@1")``."""
    return Snapshot({url_of(short): content(short, text) for short, text in types.items()})


def shown(reply: Reply) -> str:
    """Write a response in the notation above."""
    resources = [each.body.decode() + _told(reply, each.name) for each in reply.resources]
    removed = [f"-{name}" for name in reply.removed]
    variants = [
        f"-{name}{{{whose.encoded.decode() if whose else ''}}}"
        for name, whose in reply.removed_variants
    ]
    kept = [f"{name}+{_told(reply, name)}" for name in reply.kept]
    unresolved = [f"!{name}" for name in reply.unresolved]
    errors = [
        f"~{name}" if each == NOT_FOUND else f"~{name}({each.message})"
        for name, each in reply.errors.items()
    ]
    words = [reply.nonce, short_of(reply.type_url), *resources, *removed, *variants, *kept]
    return " ".join([*words, *unresolved, *errors])


def _told(reply: Reply, name: str) -> str:
    whose = reply.constraints.get(name)
    return f"{{{whose.encoded.decode()}}}" if whose is not None else ""
