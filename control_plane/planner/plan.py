"""One instance's plan.

The rule of this module: a plan is a function of the State, the instance, its secrets and the names
that may be resolved. It is made anew for every change and never patched. The same facts give the
same bytes and thus the same versions, so nothing is sent. What instances share is built once.
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.envoy.secrets import C2C_SECRET, validation_secret
from control_plane.model.entities import Instance
from control_plane.model.state import State
from control_plane.names import AppGuid, InstanceGuid
from control_plane.planner.names import (
    NAME_TABLE_TYPE,
    UNRESOLVED,
    NameTables,
    PublishedNames,
    UncertifiedNames,
    none_uncertified,
)
from control_plane.planner.options import PlanOptions
from control_plane.planner.ports import ID_SECRET, NOTHING_GONE, VALIDATION_SECRET, Gone, Ports
from control_plane.xds.resource import Resource, TypeUrl, Version
from control_plane.xds.resource_type import CLUSTER, EXTENSION_CONFIG, LISTENER, SECRET
from control_plane.xds.snapshot import Snapshot, TypeSnapshot

SecretContent = Resource | Version | None
"""A secret as far as it is available: its content, only the version that the instance has, or
neither."""


class Planner:
    """Makes plans, and keeps the messages that several plans share."""

    def __init__(self, options: PlanOptions) -> None:
        """Start with nothing built."""
        self.options = options
        self._names = NameTables(options.internal_domains)
        self._ports = Ports(options)
        self._validation = self._validation_secret()

    def plan(
        self,
        state: State,
        instance: Instance,
        secrets: Mapping[str, SecretContent],
        published: PublishedNames | None,
        uncertified: UncertifiedNames = none_uncertified,
        gone: Gone = NOTHING_GONE,
    ) -> Snapshot:
        """Return everything that an instance should have.

        Args:
            state: everything that was committed; has the instance and its app.
            instance: the instance whose plan it is.
            secrets: the instance's secrets by name.
            published: returns which routes may be resolved; None if the instance has no resolver.
            uncertified: returns to which instances they must not lead yet.
            gone: what the app's ports were, as far as connections from then may be open.
        """
        app, names = state.apps[instance.app_guid], UNRESOLVED
        if published is not None:
            names = self._names.of(state, app.guid, published, uncertified)
        return Snapshot(
            {
                **self._ports.of(state, app, instance, gone),
                SECRET: self._secrets(secrets),
                NAME_TABLE_TYPE: names,
            }
        )

    def warm_up(self) -> None:
        """Build a message of each kind before anybody waits, since the first one takes long."""
        self._ports.warm_up()

    def forget(self, instance: InstanceGuid) -> None:
        """Forget an instance that was removed."""
        self._ports.forget(instance)

    def forget_app(self, app: AppGuid) -> None:
        """Forget an app that was deleted."""
        self._ports.forget_app(app)
        self._names.forget(app)

    def farewell(self, snapshot: Snapshot) -> Snapshot:
        """Return what a removed instance should have: no way in, and no secret.

        Secrets and filters are neither sent nor withdrawn: an Envoy that has them keeps them, since
        a listener that drains needs them. An Envoy that comes back without them is given none.

        Args:
            snapshot: what the instance had so far, if that is known.
        """
        secrets = {C2C_SECRET, ID_SECRET, VALIDATION_SECRET}
        types: dict[TypeUrl, TypeSnapshot] = {
            CLUSTER: TypeSnapshot.of(),
            LISTENER: TypeSnapshot.of(),
            NAME_TABLE_TYPE: TypeSnapshot.of(),
            SECRET: TypeSnapshot.of(pending=secrets),
            EXTENSION_CONFIG: TypeSnapshot.of(pending=snapshot.of_type(EXTENSION_CONFIG).resources),
        }
        return Snapshot(types)

    def _secrets(self, contents: Mapping[str, SecretContent]) -> TypeSnapshot:
        resources = [each for each in contents.values() if isinstance(each, Resource)]
        return TypeSnapshot.of(
            resources + self._validation,
            pending=[name for name, content in contents.items() if content is None],
            recorded={name: v for name, v in contents.items() if isinstance(v, str)},
        )

    def _validation_secret(self) -> list[Resource]:
        if not self.options.router_ca_pem:
            return []
        body = validation_secret(
            VALIDATION_SECRET, self.options.router_ca_pem, self.options.router_sans
        )
        return [Resource.of(SECRET, VALIDATION_SECRET, body)]
