"""Commands on join tokens: add, spend, undo a use, revoke, drop expired ones, list good ones.

The rule of this module: a token is known by its hash only. A caller that presents a wrong token
learns only that it is wrong. A token that is used up is kept until it expires, so that its holder
is told why it is refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from control_plane.errors import AlreadyExists, InvalidArgument, Unauthenticated
from control_plane.model.change import Decision, decide
from control_plane.model.entities import App, JoinToken
from control_plane.model.reach import require_networking
from control_plane.model.state import State
from control_plane.names import Address, AppGuid, shown

_MAPPED_PREFIX = 96
"""The bits before the IPv4 address in an IPv4-mapped one (RFC 4291, section 2.5.5.2)."""


def add_token(state: State, token: JoinToken, now: datetime) -> Decision[JoinToken]:
    """Let the holder of a token enrol instances of its app.

    Args:
        token: what is stored about the token; its address range may be written in any way.

    Raises:
        InvalidArgument: the token would be good for no enrolment, or its address range is not
            valid.
        NotFound: there is no such app.
        FailedPrecondition: the app runs on Windows.
        AlreadyExists: the token is known with other properties.
    """
    if token.uses_left < 1:
        raise InvalidArgument(
            f"a join token needs at least one use, not {token.uses_left}", field="uses"
        )
    if token.expires_at <= now:
        raise InvalidArgument(
            f"a join token has to expire in the future, not at {_moment(token.expires_at)}",
            field="ttl",
        )
    token = replace(token, address_range=_parse_range(token.address_range))
    require_networking(state, token.app_guid)
    existing = state.token(token.digest)
    if existing == token:
        return Decision(state, token)
    if existing is not None:
        raise AlreadyExists("join token exists with other properties", field="token")
    return decide(state, token, puts=[token])


def known_token(state: State, digest: str, now: datetime) -> JoinToken:
    """Return a token that has not expired; it may be used up.

    Raises:
        Unauthenticated: the token is not known or has expired.
    """
    token = state.token(digest)
    if token is None:
        raise Unauthenticated("join token is not known", field="token")
    if token.expires_at <= now:
        raise Unauthenticated(
            f"join token expired at {_moment(token.expires_at)}: ask for a new one", field="token"
        )
    return token


def spend_token(state: State, digest: str, now: datetime) -> Decision[JoinToken]:
    """Use a token once; the result is the token, with its app and what is left of it.

    Raises:
        Unauthenticated: the token is not known, has expired or is used up.
    """
    token = known_token(state, digest, now)
    if token.uses_left < 1:
        raise Unauthenticated("join token is used up: ask for a new one", field="token")
    spent = replace(token, uses_left=token.uses_left - 1)
    return decide(state, spent, puts=[spent])


def take_back_use(state: State, digest: str) -> Decision[JoinToken | None]:
    """Undo ``spend_token`` once, because nobody was enrolled; None if the token is gone by now."""
    token = state.token(digest)
    if token is None:
        return Decision(state, None)
    unspent = replace(token, uses_left=token.uses_left + 1)
    return decide(state, unspent, puts=[unspent])


def revoke_tokens(state: State, app: AppGuid, now: datetime, guid: str = "") -> Decision[int]:
    """Forget tokens of an app; the result is how many of them were still good.

    Args:
        guid: the GUID of the only token to forget; "" for all tokens of the app.
    """
    held = [token for token in state.tokens_of(app) if guid in ("", token.guid)]
    return decide(state, sum(token.is_good(now) for token in held), drops=held)


def good_tokens(state: State, apps: Iterable[App], now: datetime) -> tuple[JoinToken, ...]:
    """Return the good tokens of some apps, app by app, each app's first to expire first."""
    order = {app.guid: number for number, app in enumerate(apps)}
    good = (token for token in state.all_tokens() if token.app_guid in order)
    return tuple(
        sorted((t for t in good if t.is_good(now)), key=lambda token: order[token.app_guid])
    )


def drop_expired_tokens(state: State, now: datetime) -> Decision[int]:
    """Forget the tokens that have expired; the result is their number."""
    expired = [token for token in state.all_tokens() if token.expires_at <= now]
    return decide(state, len(expired), drops=expired)


def admits(token: JoinToken, address: Address, source: Address) -> bool:
    """Tell whether an instance that connects from a source address may enrol with an address."""
    if address == source:
        return True
    if not token.address_range:
        return False
    return ipaddress.ip_address(address) in ipaddress.ip_network(token.address_range)


def _parse_range(text: str) -> str:
    """Return a range in its canonical form; an IPv4-mapped one is IPv4, as addresses are."""
    if not text:
        return ""
    network = _network(text)
    if network is None:
        raise InvalidArgument(
            f"not an address range in CIDR notation, such as 10.255.0.0/16: {shown(text)}",
            field="address_range",
        )
    first = ipaddress.ip_interface(text).ip
    if first != network.network_address:
        raise InvalidArgument(
            f"an address range begins with its first address, as in {network}: {shown(text)}",
            field="address_range",
        )
    # No range that begins with a mapped address has a prefix shorter than 96 bits.
    mapped = getattr(first, "ipv4_mapped", None)
    return str(network) if mapped is None else f"{mapped}/{network.prefixlen - _MAPPED_PREFIX}"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Return a range of addresses that instances can have, which have no scope id."""
    try:
        return None if "%" in text else ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _moment(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
