"""Name tables and queries for tests, in one line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dns.message
import dns.rrset

from control_plane.api.v1 import name_table_pb2
from control_plane.sidecar.dns.table import NameTable

DOMAIN = "apps.internal"


def message_of(
    names: Mapping[str, Iterable[str]], domains: Iterable[str] = (DOMAIN,)
) -> name_table_pb2.NameTable:
    """Return a name table as it is delivered."""
    return name_table_pb2.NameTable(
        names=[
            name_table_pb2.Name(name=name, addresses=addresses) for name, addresses in names.items()
        ],
        domains=domains,
    )


def table_of(
    names: Mapping[str, Iterable[str]], domains: Iterable[str] = (DOMAIN,), version: str = "1"
) -> NameTable:
    """Return a name table as it is used."""
    return NameTable.of(message_of(names, domains), version)


def addresses_in(answer: dns.message.Message) -> list[str]:
    """Return the data of all records that answer a question, in their order."""
    return [record.to_text() for rrset in answer.answer for record in rrset]


def owners_in(answer: dns.message.Message) -> set[tuple[str, int]]:
    """Return the names and TTLs of the records that answer a question."""
    return {(rrset.name.to_text(), rrset.ttl) for rrset in answer.answer}
