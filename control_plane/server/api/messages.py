"""Entities as the API shows them.

The rule of this module: a message is flat and complete, so that nobody who prints one needs a
second call: wherever an app is mentioned, its name, its GUID, its space and its org are given.
"""

from __future__ import annotations

from control_plane.api.v1 import (
    app_pb2,
    instance_pb2,
    join_token_pb2,
    network_policy_pb2,
    operator_pb2,
    route_pb2,
)
from control_plane.model.entities import (
    App,
    Instance,
    InstanceStatus,
    JoinToken,
    NetworkPolicy,
    OperatorCertificate,
    RouteMapping,
)
from control_plane.model.state import State

AT_ONCE = 200
"""How many messages of a list are in a slice (``control_plane.server.turns``)."""


def app_message(state: State, app: App) -> app_pb2.App:
    """Return the message of an app, with its routes and the number of its instances."""
    there = [
        each.status
        for each in state.instances_of(app.guid)
        if each.status is not InstanceStatus.GONE
    ]
    return app_pb2.App(
        guid=app.guid,
        name=app.key.name,
        space=app.key.space,
        org=app.key.org,
        protocol=app.protocol,
        os=app.os,
        ports=app.ports,
        c2c_port=app.c2c_port or 0,
        ssh=app.ssh,
        routes=state.hostnames_of(app.guid),
        instances=len(there),
        ready_instances=there.count(InstanceStatus.READY),
        health_check_type=app.health_check_type,
    )


def instance_message(state: State, instance: Instance, *, connected: bool) -> instance_pb2.Instance:
    """Return the message of an instance, whose app must be in the State."""
    key = state.apps[instance.app_guid].key
    return instance_pb2.Instance(
        guid=instance.guid,
        app=key.name,
        app_guid=instance.app_guid,
        index=instance.index,
        address=instance.address,
        app_address=instance.app_address,
        connected=connected,
        space=key.space,
        org=key.org,
        status=instance.status.value,
    )


def route_message(state: State, mapping: RouteMapping) -> route_pb2.Route:
    """Return the message of a route mapping, whose app must be in the State."""
    key = state.apps[mapping.app_guid].key
    hostname, _, domain = mapping.hostname.partition(".")
    return route_pb2.Route(
        route=mapping.hostname,
        hostname=hostname,
        domain=domain,
        app=key.name,
        app_guid=mapping.app_guid,
        space=key.space,
        org=key.org,
    )


def token_message(state: State, token: JoinToken) -> join_token_pb2.JoinToken:
    """Return what may be known of a join token, whose app must be in the State."""
    key = state.apps[token.app_guid].key
    message = join_token_pb2.JoinToken(
        guid=token.guid,
        app=key.name,
        app_guid=token.app_guid,
        space=key.space,
        org=key.org,
        uses_left=token.uses_left,
        uses=token.uses,
        address_range=token.address_range,
    )
    message.expires_at.FromDatetime(token.expires_at)
    if token.created_at is not None:
        message.created_at.FromDatetime(token.created_at)
    return message


def operator_certificate_message(
    state: State, certificate: OperatorCertificate
) -> operator_pb2.OperatorCertificate:
    """Return what is known of an operator's certificate, and who asked for it."""
    message = operator_pb2.OperatorCertificate(
        serial=f"{certificate.serial:x}", name=certificate.name
    )
    message.expires_at.FromDatetime(certificate.ends_at)
    if certificate.issued_at is not None:
        message.issued_at.FromDatetime(certificate.issued_at)
    if certificate.revoked_at is not None:
        message.revoked_at.FromDatetime(certificate.revoked_at)
    if certificate.issued_by is not None:
        message.issued_by_serial = f"{certificate.issued_by:x}"
        by = state.operator_certificates.get(certificate.issued_by)
        message.issued_by = "" if by is None else by.name
    return message


def policy_message(state: State, policy: NetworkPolicy) -> network_policy_pb2.NetworkPolicy:
    """Return the message of a network policy, whose apps must be in the State."""
    source = state.apps[policy.source].key
    destination = state.apps[policy.destination].key
    return network_policy_pb2.NetworkPolicy(
        source=source.name,
        source_space=source.space,
        source_org=source.org,
        destination=destination.name,
        destination_space=destination.space,
        destination_org=destination.org,
        protocol=policy.transport,
        start_port=policy.start_port,
        end_port=policy.end_port,
        source_guid=policy.source,
        destination_guid=policy.destination,
    )
