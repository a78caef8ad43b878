"""The resolvers that applications bring find what they should, over UDP, TCP and EDNS."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.dns.stubs import CAres, Glibc, Go, Musl, Stub
from tests.dns.upstream_stub import EXTERNAL, EXTERNAL_ADDRESS, upstream_on
from tests.dns.world import ADDRESSES, ANY_PORT, APP_B, MANY, served
from tests.needs import need_port_53

STUBS: dict[str, Callable[[Path], Stub]] = {
    "glibc": lambda _: Glibc(),
    "glibc with EDNS": lambda _: Glibc(Glibc.EDNS0),
    "glibc over TCP": lambda _: Glibc(Glibc.USE_VC),
    "musl": Musl,
    "Go": Go,
    "c-ares": lambda _: CAres(),
}

EXPECTED = {
    APP_B: ADDRESSES,
    "App-B.APPS.Internal": ADDRESSES,
    f"0.{APP_B}": ADDRESSES[:1],
    "six.apps.internal": ["fd00::4", "fd00::5"],
    "both.apps.internal": ["10.255.0.4", "fd00::4"],
    EXTERNAL: [EXTERNAL_ADDRESS, "2001:db8::1"],
}

ABSENT = ["empty.apps.internal", "nobody.apps.internal", "nobody.example.com"]

NOT_FOUND = re.compile(
    "error: .*(No address associated|Name or service not known|no usable address|does not resolve|"
    "no such host|no data|name not found)",
    re.IGNORECASE,
)
"""What stubs say of a name that has no address; other errors say that it should be tried again."""


@pytest.mark.parametrize("make", STUBS.values(), ids=STUBS)
async def test_each_stub_finds_what_is_there(make: Callable[[Path], Stub], tmp_path: Path) -> None:
    """All addresses of a name, of both families, in any letter case; other names from upstream."""
    stub = make(tmp_path)
    listen = need_port_53() if isinstance(stub, Musl) else ANY_PORT
    async with upstream_on() as upstream, served(upstream.address, listen=listen) as world:
        found = await stub.resolve(world.address, list(EXPECTED))

    assert dict(zip(EXPECTED, found, strict=True)) == EXPECTED


@pytest.mark.parametrize("make", STUBS.values(), ids=STUBS)
async def test_each_stub_is_told_what_is_not_there(
    make: Callable[[Path], Stub], tmp_path: Path
) -> None:
    """A name without addresses is an error that says so, and none that says to try again."""
    stub = make(tmp_path)
    listen = need_port_53() if isinstance(stub, Musl) else ANY_PORT
    async with upstream_on() as upstream, served(upstream.address, listen=listen) as world:
        found = await stub.resolve(world.address, ABSENT)

    assert [bool(NOT_FOUND.match(str(each))) for each in found] == [True] * len(ABSENT), found


@pytest.mark.parametrize("make", STUBS.values(), ids=STUBS)
async def test_each_stub_copes_with_an_answer_that_is_truncated(
    make: Callable[[Path], Stub], tmp_path: Path
) -> None:
    """Of 200 addresses each stub finds all by TCP, or those that fit if it knows no TCP (musl)."""
    stub = make(tmp_path)
    listen = need_port_53() if isinstance(stub, Musl) else ANY_PORT
    async with served(listen=listen) as world:
        (found,) = await stub.resolve(world.address, ["many.apps.internal"])

    assert set(found) <= set(MANY)
    assert len(found) >= 25 if isinstance(stub, Musl) else sorted(found) == sorted(MANY)
