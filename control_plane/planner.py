"""Which resources one instance should have, given all that was ever committed.

The rule of this module: a plan is a function of the State, the instance and its secrets. It is made
anew for every change and never patched; the same facts give the same bytes, thus the same versions,
and nothing is sent. What many instances share is built and serialised once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from control_plane.ca.request import C2CRequest
from control_plane.envoy import clusters, listeners
from control_plane.model.entities import App, AppProtocol, Instance
from control_plane.model.state import State
from control_plane.names import C2C_PORT
from control_plane.xds.resource import Resource, Snapshot, TypeSnapshot, TypeUrl, Version
from control_plane.xds.resource_type import CLUSTER, LISTENER, SECRET

SecretContent = Resource | Version | None
"""A secret as it is at hand: its content, only the version that the instance has of it, or neither
yet."""

_SHARED = 4096
"""How many built messages are kept for sharing, per kind."""


def c2c_request(state: State, app: App, instance: Instance) -> C2CRequest:
    """Return what a C2C certificate must say: the GUID, every internal route, the address."""
    return C2CRequest(
        instance_guid=instance.guid,
        app_guid=app.guid,
        org=app.key.org,
        space=app.key.space,
        hostnames=state.hostnames_of(app.guid),
        index=instance.index,
        address=instance.address,
    )


class Planner:
    """Makes plans, and keeps the messages that plans share."""

    def __init__(self) -> None:
        """Start with nothing built."""
        self._cluster = lru_cache(_SHARED)(_cluster)
        self._listener = lru_cache(_SHARED)(_listener)

    def plan(
        self, state: State, instance: Instance, secrets: Mapping[str, SecretContent]
    ) -> Snapshot:
        """Return everything that an instance should have.

        Args:
            state: all that was committed; it has the instance and its app.
            instance: whose plan it is.
            secrets: the instance's secrets by name.
        """
        app = state.apps[instance.app_guid]
        if app.c2c_port is None:
            return Snapshot({SECRET: _secrets(secrets)})
        cluster = self._cluster(app.c2c_port, instance.app_address, app.protocol)
        listener = self._listener(app.c2c_port, instance.address, app.protocol)
        return Snapshot(
            {
                CLUSTER: TypeSnapshot.of([cluster]),
                LISTENER: TypeSnapshot.of([listener]),
                SECRET: _secrets(secrets),
            }
        )

    def farewell(self, snapshot: Snapshot) -> Snapshot:
        """Return what an instance that was removed should have: no way in.

        Its secrets stay: Envoy goes on serving a Secret that was withdrawn, and a listener that
        drains needs it.
        """
        empty: dict[TypeUrl, TypeSnapshot] = {
            CLUSTER: TypeSnapshot.of(),
            LISTENER: TypeSnapshot.of(),
        }
        return snapshot.replacing(empty)


def _secrets(secrets: Mapping[str, SecretContent]) -> TypeSnapshot:
    return TypeSnapshot.of(
        [content for content in secrets.values() if isinstance(content, Resource)],
        pending=[name for name, content in secrets.items() if content is None],
        recorded={name: v for name, v in secrets.items() if isinstance(v, str)},
    )


def _cluster(app_port: int, app_address: str, protocol: AppProtocol) -> Resource:
    body = clusters.service_cluster(app_port, app_address, protocol)
    return Resource.of(CLUSTER, clusters.service_cluster_name(app_port), body)


def _listener(app_port: int, address: str, protocol: AppProtocol) -> Resource:
    body = listeners.c2c_listener(app_port, address, proxy_port=C2C_PORT, protocol=protocol)
    return Resource.of(LISTENER, listeners.listener_name(app_port, C2C_PORT), body)
