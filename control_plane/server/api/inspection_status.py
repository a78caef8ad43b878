"""GetStatus: how far each instance has got.

The rule of this module: an answer has every type of resource that instances have, so that a table
has the same columns for every instance; a type that no client asked for is shown as not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from control_plane.api.v1 import inspection_pb2
from control_plane.envoy.secrets import C2C_SECRET
from control_plane.model.entities import App, Instance, InstanceStatus
from control_plane.model.state import State
from control_plane.names import C2C_PORT, InstanceGuid, at_ports
from control_plane.reconciler.certificates.ledger import CertificateState, Entry
from control_plane.server.api.inspection_values import (
    STATUS,
    Inspected,
    certificate_state,
    hexadecimal,
    timestamp,
)
from control_plane.server.observability.alarms import InstanceAlarms
from control_plane.server.observability.stream_log import shortened
from control_plane.server.observability.type_names import PLANNED_TYPES
from control_plane.xds.delivery import Delivery
from control_plane.xds.resource import TypeUrl
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.type_status import TypeStatus, type_statuses, worst

_NEVER_CONNECTED = (
    "its Envoy never connected: see whether it runs, and reaches the port of --xds-address"
)


def statuses(inspected: Inspected, instance: InstanceGuid) -> dict[TypeUrl, TypeStatus]:
    """Return the status of each type that a client of an instance asked for."""
    snapshot = inspected.nodes.snapshot(instance) or Snapshot()
    found: dict[TypeUrl, list[TypeStatus]] = {}
    for live in inspected.nodes.streams(instance):
        for each in type_statuses(live.stream, snapshot):
            found.setdefault(each.type_url, []).append(each)
    return {url: worst(of_type) for url, of_type in found.items()}


def certificate_reason(inspected: Inspected, instance: InstanceGuid, entry: Entry | None) -> str:
    """Return why an instance does not serve its newest certificate for its routes, or ""."""
    failure = inspected.custody.failure(instance)
    if failure:
        return shortened(f"no certificate could be issued: {failure}")
    if entry is None:
        return "none was issued: it never connected"
    if entry.state is not CertificateState.ISSUED:
        return shortened(entry.reason)
    url = PLANNED_TYPES["SDS"]
    secrets = statuses(inspected, instance).get(url)
    if secrets is None:
        return "its Envoy has not asked for it" if inspected.nodes.streams(instance) else ""
    return shortened(secrets.reason)


def not_ready_reason(inspected: Inspected, instance: Instance, app: App) -> str:
    """Return why an instance is not ready: its app, or its Envoy; "" if it has another status.

    An instance that was registered and has no identity may be there to call only, and need no
    Envoy.
    """
    if instance.status is InstanceStatus.REGISTERED:
        is_due = inspected.has_identity(instance.guid)
        return _NEVER_CONNECTED if is_due and not inspected.nodes.streams(instance.guid) else ""
    if instance.status is not InstanceStatus.NOT_READY:
        return ""
    word = inspected.word(instance.guid)
    if word is None and instance.has_sidecar:
        return "its sidecar has not told yet whether its app accepts connections"
    if word is not None and word.draining:
        return "it is about to stop, and answers its last callers"
    if word is not None and word.not_serving:
        return f"its Envoy shows no certificate on {C2C_PORT} any more: see its log, or restart it"
    if word is not None and not word.says_healthy(app):
        ports = inspected.attestation.app_ports(instance.guid) or {}
        closed = [port for port, accepts in ports.items() if not accepts]
        where = f" on {at_ports(instance.app_address, *closed)}" if closed else ""
        return f"its app does not accept connections{where}"
    if not inspected.nodes.streams(instance.guid):
        return "its Envoy is not connected"
    return "its Envoy has not ACKed all that it needs to serve"


class StatusMessages:
    """Makes the messages of one answer."""

    def __init__(self, inspected: Inspected, state: State, *, resources: bool) -> None:
        """Show each resource too if ``resources`` is set."""
        self._inspected = inspected
        self._state = state
        self._resources = resources
        self._instance_alarms = InstanceAlarms(
            inspected.plan_failure, inspected.word, inspected.nodes, inspected.attestation
        )

    def of(self, instance: Instance) -> inspection_pb2.InstanceStatus:
        """Return the status of one instance, whose app must be in the State."""
        app = self._state.apps[instance.app_guid]
        key = app.key
        streams = self._inspected.nodes.streams(instance.guid)
        attestation = self._inspected.attestation
        # Its sidecar has stopped the app, or it is not known what became of the app.
        is_gone = instance.status is InstanceStatus.GONE
        message = inspection_pb2.InstanceStatus(
            instance_guid=instance.guid,
            app=key.name,
            app_guid=instance.app_guid,
            space=key.space,
            org=key.org,
            index=instance.index,
            address=instance.address,
            status=instance.status.value,
            connected=bool(streams),
            types=self._types(instance.guid),
            reports=attestation.witnessed(instance.guid),
            exposed_ports=() if is_gone else attestation.exposed(instance.guid),
            alarms=map(shortened, self._alarms(instance)),
            behind=shortened(self._inspected.behind(instance.guid)),
            not_ready_reason=not_ready_reason(self._inspected, instance, app),
        )
        if streams:
            oldest = min(live.opened_at for live in streams)
            message.connected_since.CopyFrom(timestamp(oldest))
        self._tell_certificate(message, instance)
        return message

    def _alarms(self, instance: Instance) -> Iterator[str]:
        for _, sentence in self._instance_alarms.of(instance):
            yield sentence
        for each in self._inspected.expiry.of(instance):
            yield each.sentence

    def _tell_certificate(self, message: inspection_pb2.InstanceStatus, instance: Instance) -> None:
        guid = instance.guid
        entry = self._inspected.ledger.get(guid, C2C_SECRET)
        message.certificate_reason = certificate_reason(self._inspected, guid, entry)
        message.served_serial = hexadecimal(self._inspected.proof.shown_serial(guid))
        if entry is not None:
            message.certificate = certificate_state(instance, entry.state)
            message.certificate_since.CopyFrom(timestamp(entry.since))
            message.wanted_serial = hexadecimal(entry.record.serial)

    def _types(self, instance: InstanceGuid) -> Iterator[inspection_pb2.TypeStatus]:
        found = statuses(self._inspected, instance)
        for short, url in PLANNED_TYPES.items():
            status = found.get(url)
            if status is None:
                yield inspection_pb2.TypeStatus(type=short, type_url=url)
            else:
                yield self._type(short, status)

    def _type(self, short: str, status: TypeStatus) -> inspection_pb2.TypeStatus:
        return inspection_pb2.TypeStatus(
            type=short,
            type_url=status.type_url,
            status=STATUS[status.status],
            wanted_version=status.wanted,
            sent_version=status.sent,
            acked_version=status.accepted,
            since=self._inspected.moment(status.since),
            reason=shortened(status.reason),
            resources=map(self._resource, status.deliveries) if self._resources else (),
        )

    def _resource(self, delivery: Delivery) -> inspection_pb2.ResourceStatus:
        message = inspection_pb2.ResourceStatus(
            name=delivery.name,
            status=STATUS[delivery.status],
            wanted_version=delivery.version,
            acked_version=delivery.accepted or "",
            since=self._inspected.moment(delivery.since),
        )
        if delivery.refusal is not None:
            message.refused_version = delivery.refusal.version or ""
            message.reason = shortened(delivery.refusal.error.message)
        return message
