"""Which row of which table stands for an entity.

The rule of this module: ``entity_of(table, row_of(entity))`` is the entity again. A row with a
value that is impossible (such as an unknown protocol) is a ValueError here; the store adds which
database it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, assert_never

from sqlalchemy import Table

from control_plane.model.entities import (
    App,
    AppKey,
    AppProtocol,
    DrainingCaller,
    DrainingPort,
    Entity,
    HealthCheckType,
    Instance,
    InstanceStatus,
    JoinToken,
    NetworkPolicy,
    OperatingSystem,
    OperatorCertificate,
    RouteMapping,
    Tombstone,
    Transport,
)
from control_plane.names import Address, AppGuid, AppName, Hostname, InstanceGuid, Port
from control_plane.store import schema
from control_plane.store.protocol import IssuedRecord

Row = Mapping[Any, Any]
"""A row by column name."""


def table_of(entity: Entity) -> Table:  # noqa: PLR0911 - one for each kind of entity
    """Return the table that an entity has its row in."""
    match entity:
        case App():
            return schema.APPS
        case Instance():
            return schema.INSTANCES
        case RouteMapping():
            return schema.ROUTE_MAPPINGS
        case NetworkPolicy():
            return schema.NETWORK_POLICIES
        case JoinToken():
            return schema.JOIN_TOKENS
        case OperatorCertificate():
            return schema.OPERATOR_CERTIFICATES
        case Tombstone():
            return schema.TOMBSTONES
        case DrainingPort():
            return schema.DRAINING_PORTS
        case DrainingCaller():
            return schema.DRAINING_CALLERS
        case _:
            assert_never(entity)


def row_of(entity: Entity) -> Row:  # noqa: PLR0911 - one for each kind of entity
    """Return an entity's row by column name."""
    match entity:
        case App():
            return {
                "guid": entity.guid,
                "org": entity.key.org,
                "space": entity.key.space,
                "name": entity.key.name,
                "ports": list(entity.ports),
                "c2c_port": entity.c2c_port,
                "protocol": entity.protocol.value,
                "os": entity.os.value,
                "ssh": entity.ssh,
                "health_check_type": entity.health_check_type.value,
            }
        case Instance():
            return {
                "guid": entity.guid,
                "app_guid": entity.app_guid,
                "instance_index": entity.index,
                "address": entity.address,
                "app_address": entity.app_address,
                "status": entity.status.value,
                "has_sidecar": entity.has_sidecar,
                "has_resolver": entity.has_resolver,
            }
        case RouteMapping():
            return {"hostname": entity.hostname, "app_guid": entity.app_guid}
        case NetworkPolicy():
            return {
                "source": entity.source,
                "destination": entity.destination,
                "transport": entity.transport.value,
                "start_port": entity.start_port,
                "end_port": entity.end_port,
            }
        case JoinToken():
            return {
                "digest": entity.digest,
                "app_guid": entity.app_guid,
                "expires_at": entity.expires_at.isoformat(),
                "uses_left": entity.uses_left,
                "address_range": entity.address_range,
                "guid": entity.guid,
                "created_at": entity.created_at and entity.created_at.isoformat(),
                "uses": entity.uses,
            }
        case OperatorCertificate():
            return {
                "serial": f"{entity.serial:x}",
                "name": entity.name,
                "ends_at": entity.ends_at.isoformat(),
                "issued_at": entity.issued_at and entity.issued_at.isoformat(),
                "issued_by": entity.issued_by and f"{entity.issued_by:x}",
                "revoked_at": entity.revoked_at and entity.revoked_at.isoformat(),
            }
        case Tombstone():
            return {
                "instance_guid": entity.instance_guid,
                "app_guid": entity.app_guid,
                "ends_at": entity.ends_at.isoformat(),
            }
        case DrainingPort():
            return {
                "app_guid": entity.app_guid,
                "app_port": entity.app_port,
                "proxy_port": entity.proxy_port,
                "protocol": entity.protocol.value,
                "ends_at": entity.ends_at.isoformat(),
            }
        case DrainingCaller():
            return {
                "source": entity.source,
                "destination": entity.destination,
                "ends_at": entity.ends_at.isoformat(),
            }
        case _:
            assert_never(entity)


def _app(row: Row) -> App:
    return App(
        guid=AppGuid(row["guid"]),
        key=AppKey(row["org"], row["space"], AppName(row["name"])),
        ports=tuple(Port(int(port)) for port in row["ports"]),
        c2c_port=None if row["c2c_port"] is None else Port(row["c2c_port"]),
        protocol=AppProtocol(row["protocol"]),
        os=OperatingSystem(row["os"]),
        ssh=row["ssh"],
        health_check_type=HealthCheckType(row["health_check_type"]),
    )


def _instance(row: Row) -> Instance:
    return Instance(
        guid=InstanceGuid(row["guid"]),
        app_guid=AppGuid(row["app_guid"]),
        index=row["instance_index"],
        address=Address(row["address"]),
        app_address=Address(row["app_address"]),
        status=InstanceStatus(row["status"]),
        has_sidecar=row["has_sidecar"],
        has_resolver=row["has_resolver"],
    )


def _route_mapping(row: Row) -> RouteMapping:
    return RouteMapping(Hostname(row["hostname"]), AppGuid(row["app_guid"]))


def _network_policy(row: Row) -> NetworkPolicy:
    return NetworkPolicy(
        source=AppGuid(row["source"]),
        destination=AppGuid(row["destination"]),
        transport=Transport(row["transport"]),
        start_port=Port(row["start_port"]),
        end_port=Port(row["end_port"]),
    )


def _join_token(row: Row) -> JoinToken:
    return JoinToken(
        digest=row["digest"],
        app_guid=AppGuid(row["app_guid"]),
        expires_at=datetime.fromisoformat(row["expires_at"]),
        uses_left=row["uses_left"],
        address_range=row["address_range"],
        guid=row["guid"],
        created_at=row["created_at"] and datetime.fromisoformat(row["created_at"]),
        uses=row["uses"],
    )


def _operator_certificate(row: Row) -> OperatorCertificate:
    return OperatorCertificate(
        serial=int(row["serial"], 16),
        name=row["name"],
        ends_at=datetime.fromisoformat(row["ends_at"]),
        issued_at=row["issued_at"] and datetime.fromisoformat(row["issued_at"]),
        issued_by=row["issued_by"] and int(row["issued_by"], 16),
        revoked_at=row["revoked_at"] and datetime.fromisoformat(row["revoked_at"]),
    )


def _tombstone(row: Row) -> Tombstone:
    return Tombstone(
        instance_guid=InstanceGuid(row["instance_guid"]),
        app_guid=AppGuid(row["app_guid"]),
        ends_at=datetime.fromisoformat(row["ends_at"]),
    )


def _draining_port(row: Row) -> DrainingPort:
    return DrainingPort(
        app_guid=AppGuid(row["app_guid"]),
        app_port=Port(row["app_port"]),
        proxy_port=Port(row["proxy_port"]),
        protocol=AppProtocol(row["protocol"]),
        ends_at=datetime.fromisoformat(row["ends_at"]),
    )


def _draining_caller(row: Row) -> DrainingCaller:
    return DrainingCaller(
        source=AppGuid(row["source"]),
        destination=AppGuid(row["destination"]),
        ends_at=datetime.fromisoformat(row["ends_at"]),
    )


READERS: tuple[tuple[Table, Callable[[Row], Entity]], ...] = (
    (schema.APPS, _app),
    (schema.INSTANCES, _instance),
    (schema.ROUTE_MAPPINGS, _route_mapping),
    (schema.NETWORK_POLICIES, _network_policy),
    (schema.JOIN_TOKENS, _join_token),
    (schema.OPERATOR_CERTIFICATES, _operator_certificate),
    (schema.TOMBSTONES, _tombstone),
    (schema.DRAINING_PORTS, _draining_port),
    (schema.DRAINING_CALLERS, _draining_caller),
)
"""Each table, and the function that reads its rows; apps come first, since everything else refers
to them."""


def issued_row(record: IssuedRecord) -> Row:
    """Return the row for the record of a certificate."""
    return {
        "instance_guid": record.instance_guid,
        "secret": record.secret,
        "version": record.version,
        "serial": f"{record.serial:x}",  # up to 160 bits, which no column of integers holds
        "names": list(record.names),
        "not_before": record.not_before.isoformat(),
        "not_after": record.not_after.isoformat(),
        "issuer": record.issuer,
        "chain": record.sent_digest,
        "unacked": list(record.unacked),
    }


def issued_record(row: Row) -> IssuedRecord:
    """Return the record of a certificate that a row stands for."""
    return IssuedRecord(
        instance_guid=InstanceGuid(row["instance_guid"]),
        secret=row["secret"],
        version=row["version"],
        serial=int(row["serial"], 16),
        names=tuple(row["names"]),
        not_before=datetime.fromisoformat(row["not_before"]),
        not_after=datetime.fromisoformat(row["not_after"]),
        issuer=row["issuer"],
        sent_digest=row["chain"],
        unacked=tuple(row["unacked"]),
    )
