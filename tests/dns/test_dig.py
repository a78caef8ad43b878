"""dig, the tool that people use, finds nothing to complain of."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import pytest

from tests.dns.upstream_stub import EXTERNAL, EXTERNAL_ADDRESS, LONG, upstream_on
from tests.dns.world import ADDRESSES, APP_B, MANY, PATIENCE, World, served
from tests.needs import need_command

TRANSPORTS = pytest.mark.parametrize("transport", ["+notcp", "+tcp"])


@dataclass(frozen=True, slots=True)
class Dug:
    """What dig shows of an answer.

    Attributes:
        status: the response code by name.
        flags: those of the header.
        opt: the OPT record's line, without its beginning.
        extended_error: the reason for people (RFC 8914).
        question: the question as it came back.
        records: owner, TTL, type and data of each record of the answer section.
    """

    status: str
    flags: list[str]
    opt: str
    extended_error: str
    question: str
    records: list[tuple[str, str, str, str]]

    @property
    def data(self) -> list[str]:
        """The data of all records, sorted."""
        return sorted(data for _, _, _, data in self.records)


async def dig(world: World, *arguments: str) -> Dug:
    """Run dig; whatever it warns of fails the test."""
    process = await asyncio.create_subprocess_exec(
        need_command("dig", "bind9-dnsutils"),
        f"@{world.address.host}",
        "-p",
        str(world.address.port),
        "+tries=1",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    text = output.decode()
    assert process.returncode == 0, text
    assert "warning" not in text.lower(), text
    assert ";; communications error" not in text, text
    return Dug(
        status=_found(r"status: (\w+)", text),
        flags=_found(r";; flags: ([^;]*);", text).split(),
        opt=_found(r"; EDNS: (.*)", text),
        extended_error=_found(r"; EDE: (.*)", text),
        question=_found(r"^;(\S+)\s+(?:IN|CH)\s", text),
        records=re.findall(r"^([^;\s]\S*)\s+(\d+)\s+IN\s+(\S+)\s+(.*)$", text, re.MULTILINE),
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1] if match else ""


@TRANSPORTS
async def test_a_name_of_an_app(transport: str) -> None:
    """All addresses with TTL 0, authoritative, recursion available."""
    async with served() as world:
        dug = await dig(world, transport, APP_B)

    assert dug.status == "NOERROR"
    assert dug.flags == ["qr", "aa", "rd", "ra"]
    assert dug.data == ADDRESSES
    assert {(owner, ttl, kind) for owner, ttl, kind, _ in dug.records} == {(f"{APP_B}.", "0", "A")}


@TRANSPORTS
async def test_any_type(transport: str) -> None:
    """ANY finds the addresses, as in any other zone, and of a name that is not known nothing."""
    async with served() as world:
        found = await dig(world, transport, APP_B, "ANY")
        unknown = await dig(world, transport, "nobody.apps.internal", "ANY")

    assert (found.data, {kind for _, _, kind, _ in found.records}) == (ADDRESSES, {"A"})
    assert (unknown.status, unknown.records) == ("NOERROR", [])


@TRANSPORTS
async def test_mixed_case(transport: str) -> None:
    """Any letter case is found, and comes back as it was asked."""
    async with served() as world:
        dug = await dig(world, transport, "aPP-b.aPPs.INternal")

    assert dug.question == "aPP-b.aPPs.INternal."
    assert dug.data == ADDRESSES


@TRANSPORTS
async def test_the_name_of_one_instance(transport: str) -> None:
    """0.app-b.apps.internal is that instance alone."""
    async with served() as world:
        assert (await dig(world, transport, f"0.{APP_B}")).data == ADDRESSES[:1]


@TRANSPORTS
@pytest.mark.parametrize("kind", ["AAAA", "MX", "TXT", "SRV", "HTTPS"])
async def test_types_without_data(transport: str, kind: str) -> None:
    """NOERROR and no record."""
    async with served() as world:
        dug = await dig(world, transport, APP_B, kind)

    assert (dug.status, dug.records) == ("NOERROR", [])
    assert "aa" in dug.flags


@TRANSPORTS
async def test_ipv6_addresses(transport: str) -> None:
    """AAAA of an instance that has IPv6 addresses."""
    async with served() as world:
        assert (await dig(world, transport, "six.apps.internal", "AAAA")).data == [
            "fd00::4",
            "fd00::5",
        ]


@TRANSPORTS
async def test_an_unknown_internal_name(transport: str) -> None:
    """NOERROR and no record, not NXDOMAIN."""
    async with served() as world:
        dug = await dig(world, transport, "nobody.apps.internal")

    assert (dug.status, dug.records) == ("NOERROR", [])


@TRANSPORTS
@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [(EXTERNAL, "A", EXTERNAL_ADDRESS), ("example.com", "MX", "10 mail.example.com.")],
    ids=["A", "MX"],
)
async def test_external_names(transport: str, name: str, kind: str, data: str) -> None:
    """Other names are the upstream resolver's answer, with its TTL and without AA."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        dug = await dig(world, transport, name, kind)

    assert [(ttl, data) for _, ttl, _, data in dug.records] == [("300", data)]
    assert dug.flags == ["qr", "rd", "ra"]


@pytest.mark.parametrize("name", ["many.apps.internal", LONG])
async def test_what_is_too_long_for_udp_is_had_by_tcp(name: str) -> None:
    """A truncated answer is taken to TCP by dig itself, for internal and external names."""
    async with upstream_on() as upstream, served(upstream.address) as world:
        short = await dig(world, "+ignore", name)
        whole = await dig(world, name)

    assert "tc" in short.flags
    assert "tc" not in whole.flags
    assert len(whole.records) == (len(MANY) if name != LONG else 150)


@TRANSPORTS
async def test_edns(transport: str) -> None:
    """EDNS is answered by EDNS with DO as asked; no EDNS by none; a cookie does not confuse it."""
    async with served() as world:
        with_it = await dig(world, transport, "+edns=0", "+dnssec", "+cookie", "+nsid", APP_B)
        without = await dig(world, transport, "+noedns", APP_B)

    assert with_it.opt == "version: 0, flags: do; udp: 1232"
    assert without.opt == ""
    assert with_it.data == without.data == ADDRESSES


@pytest.mark.parametrize(("size", "most"), [(512, 29), (1232, 74)])
async def test_the_size_that_edns_names(size: int, most: int) -> None:
    """A larger size takes more addresses before it is truncated."""
    async with served() as world:
        dug = await dig(world, "+ignore", f"+bufsize={size}", "many.apps.internal")

    assert "tc" in dug.flags
    assert most - 2 < len(dug.records) <= most


@TRANSPORTS
async def test_a_version_of_edns_that_nobody_has(transport: str) -> None:
    """BADVERS, with the version that is spoken here."""
    async with served() as world:
        dug = await dig(world, transport, "+edns=1", "+noednsnegotiation", APP_B)

    assert (dug.status, dug.records) == ("BADVERS", [])
    assert dug.opt == "version: 0, flags:; udp: 1232"


@TRANSPORTS
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["+opcode=notify", APP_B], "NOTIMP"),
        (["+opcode=7", APP_B], "NOTIMP"),
        (["+header-only"], "FORMERR"),
        (["-c", "CH", "-t", "TXT", "version.bind"], "REFUSED"),
        (["-c", "CH", APP_B], "REFUSED"),
    ],
    ids=["notify", "opcode 7", "no question", "chaos", "internal chaos"],
)
async def test_what_is_not_served(transport: str, arguments: list[str], status: str) -> None:
    """Other opcodes, classes and messages without a question have the code that says so."""
    async with served() as world:
        assert (await dig(world, transport, *arguments)).status == status


async def test_one_connection_for_several_queries() -> None:
    """Three queries on a connection that is kept open have their three answers."""
    async with served() as world:
        dug = await dig(world, "+tcp", "+keepopen", APP_B, f"0.{APP_B}", "six.apps.internal")

    assert dug.data == sorted([*ADDRESSES, ADDRESSES[0]])


async def test_without_an_upstream_the_reason_is_shown() -> None:
    """SERVFAIL carries an extended error that dig prints."""
    async with served() as world:
        dug = await dig(world, EXTERNAL)

    assert dug.status == "SERVFAIL"
    assert dug.extended_error == "23 (Network Error): (no upstream resolver answered)"


async def test_addresses_come_in_changing_order() -> None:
    """Of 20 times the first address is not always the same."""
    async with served() as world:
        firsts = {(await dig(world, APP_B)).records[0][3] for _ in range(20)}

    assert len(firsts) > 1
