"""All that was ever committed, as one immutable value, with the indexes that make look-ups cheap.

The rule of this module: a State is never changed. ``put`` and ``drop`` return a new State that
shares everything unchanged with the old one (persistent hash tries). So a change costs the same
with ten apps as with ten thousand, and a reader of an old State can go on reading it undisturbed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from rpds import HashTrieMap

from control_plane.model.entities import (
    App,
    AppKey,
    Draining,
    DrainingCaller,
    DrainingPort,
    Entity,
    Instance,
    InstanceStatus,
    JoinToken,
    NetworkPolicy,
    OperatorCertificate,
    RouteMapping,
    Source,
    Tombstone,
    Transport,
    key_of,
)
from control_plane.model.sorted_lists import SortedLists, with_member, without_member
from control_plane.names import Address, AppGuid, Hostname, InstanceGuid


@dataclass(frozen=True, slots=True)
class State:
    """Apps, instances, routes, policies, who may come in, what is left of the removed, and indexes.

    ``apps``, ``instances``, ``tokens`` and ``operator_certificates`` may be read as maps;
    everything else is read by methods.
    """

    apps: HashTrieMap[AppGuid, App] = field(default_factory=HashTrieMap)
    instances: HashTrieMap[InstanceGuid, Instance] = field(default_factory=HashTrieMap)
    tokens: HashTrieMap[str, JoinToken] = field(default_factory=HashTrieMap)
    operator_certificates: HashTrieMap[int, OperatorCertificate] = field(
        default_factory=HashTrieMap
    )
    tombstones: HashTrieMap[InstanceGuid, Tombstone] = field(default_factory=HashTrieMap)
    draining: HashTrieMap[Hashable, Draining] = field(default_factory=HashTrieMap)
    guid_by_key: HashTrieMap[AppKey, AppGuid] = field(default_factory=HashTrieMap)
    instance_by_address: HashTrieMap[Address, InstanceGuid] = field(default_factory=HashTrieMap)
    instances_by_app: SortedLists[AppGuid, Instance] = field(default_factory=HashTrieMap)
    hostnames_by_app: SortedLists[AppGuid, Hostname] = field(default_factory=HashTrieMap)
    apps_by_hostname: SortedLists[Hostname, AppGuid] = field(default_factory=HashTrieMap)
    policies_by_source: SortedLists[AppGuid, NetworkPolicy] = field(default_factory=HashTrieMap)
    policies_by_destination: SortedLists[AppGuid, NetworkPolicy] = field(
        default_factory=HashTrieMap
    )

    @classmethod
    def of(cls, entities: Iterable[Entity]) -> State:
        """Build the State that has exactly these entities, as when it is read back from disk."""
        state = cls()
        for entity in entities:
            state = state.put(entity)
        return state

    def all_apps(self) -> tuple[App, ...]:
        """Return every app by org, space and name."""
        return tuple(sorted(self.apps.values(), key=lambda app: app.key))

    def all_instances(self) -> tuple[Instance, ...]:
        """Return every instance, those of an app together and by index."""
        return tuple(i for app in self.all_apps() for i in self.instances_of(app.guid))

    def all_policies(self) -> tuple[NetworkPolicy, ...]:
        """Return every network policy by source and destination."""
        return tuple(sorted(p for policies in self.policies_by_source.values() for p in policies))

    def all_tokens(self) -> tuple[JoinToken, ...]:
        """Return every join token, the first to expire first."""
        return tuple(
            sorted(self.tokens.values(), key=lambda token: (token.expires_at, token.digest))
        )

    def all_tombstones(self) -> tuple[Tombstone, ...]:
        """Return the tombstone of every removed instance, in no order."""
        return tuple(self.tombstones.values())

    def all_draining(self) -> tuple[Draining, ...]:
        """Return everything that was removed but is still served for a while, in no order."""
        return tuple(self.draining.values())

    def app(self, guid: AppGuid) -> App | None:
        """Return the app with this GUID."""
        return self.apps.get(guid)

    def app_named(self, key: AppKey) -> App | None:
        """Return the app with this name in this space."""
        guid = self.guid_by_key.get(key)
        return None if guid is None else self.apps[guid]

    def instance(self, guid: InstanceGuid) -> Instance | None:
        """Return the instance with this GUID."""
        return self.instances.get(guid)

    def instance_at(self, address: Address) -> Instance | None:
        """Return the instance that holds this address."""
        guid = self.instance_by_address.get(address)
        return None if guid is None else self.instances[guid]

    def instances_of(self, app: AppGuid) -> tuple[Instance, ...]:
        """Return an app's instances by index."""
        return self.instances_by_app.get(app, ())

    def hostnames_of(self, app: AppGuid) -> tuple[Hostname, ...]:
        """Return the internal routes mapped to an app, sorted."""
        return self.hostnames_by_app.get(app, ())

    def apps_of(self, hostname: Hostname) -> tuple[AppGuid, ...]:
        """Return the apps that an internal route is mapped to, sorted."""
        return self.apps_by_hostname.get(hostname, ())

    def policies_from(self, source: AppGuid) -> tuple[NetworkPolicy, ...]:
        """Return the policies that let this app's instances connect to others, sorted."""
        return self.policies_by_source.get(source, ())

    def policies_to(self, destination: AppGuid) -> tuple[NetworkPolicy, ...]:
        """Return the policies that let others connect to this app's instances, sorted."""
        return self.policies_by_destination.get(destination, ())

    def has_policy(self, policy: NetworkPolicy) -> bool:
        """Tell whether exactly this policy exists; another one may allow the same and more."""
        return policy in self.policies_from(policy.source)

    def token(self, digest: str) -> JoinToken | None:
        """Return the join token with this hash."""
        return self.tokens.get(digest)

    def tokens_of(self, app: AppGuid) -> tuple[JoinToken, ...]:
        """Return the join tokens that enrol instances of this app, the first to expire first."""
        return tuple(token for token in self.all_tokens() if token.app_guid == app)

    def sources_by_app(self, app: AppGuid, transport: Transport, port: int) -> tuple[Source, ...]:
        """Return the apps that policies let connect to this port, and their addresses, sorted.

        The address of a gone instance is left out, because it may belong to another machine by now.
        """
        allowed = {p.source for p in self.policies_to(app) if p.allows(transport, port)}
        return tuple(Source(each, self._addresses_of(each)) for each in sorted(allowed))

    def _addresses_of(self, app: AppGuid) -> tuple[Address, ...]:
        instances = self.instances_of(app)
        return tuple(sorted(i.address for i in instances if i.status is not InstanceStatus.GONE))

    def tombstone(self, guid: InstanceGuid) -> Tombstone | None:
        """Return the tombstone of the instance with this GUID, if it was removed."""
        return self.tombstones.get(guid)

    def put(self, entity: Entity) -> State:
        """Return a State with this entity, in place of any entity with the same key."""
        match entity:
            case App():
                state = self._without_key_of(entity.guid)
                return replace(
                    state,
                    apps=state.apps.insert(entity.guid, entity),
                    guid_by_key=state.guid_by_key.insert(entity.key, entity.guid),
                )
            case Instance(guid, app, _, address):
                state = self._without_instance(guid)
                return replace(
                    state,
                    instances=state.instances.insert(guid, entity),
                    instance_by_address=state.instance_by_address.insert(address, guid),
                    instances_by_app=with_member(state.instances_by_app, app, entity, _index_of),
                )
            case RouteMapping(hostname, app):
                return replace(
                    self,
                    hostnames_by_app=with_member(self.hostnames_by_app, app, hostname),
                    apps_by_hostname=with_member(self.apps_by_hostname, hostname, app),
                )
            case NetworkPolicy():
                return replace(
                    self,
                    policies_by_source=with_member(self.policies_by_source, entity.source, entity),
                    policies_by_destination=with_member(
                        self.policies_by_destination, entity.destination, entity
                    ),
                )
            case JoinToken():
                return replace(self, tokens=self.tokens.insert(entity.digest, entity))
            case OperatorCertificate(serial):
                known = self.operator_certificates.insert(serial, entity)
                return replace(self, operator_certificates=known)
            case Tombstone(guid):
                return replace(self, tombstones=self.tombstones.insert(guid, entity))
            case DrainingPort() | DrainingCaller():
                return replace(self, draining=self.draining.insert(key_of(entity), entity))
            case _:
                assert_never(entity)

    def drop(self, entity: Entity) -> State:
        """Return a State without this entity; the caller must first drop what refers to it."""
        match entity:
            case App():
                state = self._without_key_of(entity.guid)
                return replace(state, apps=state.apps.discard(entity.guid))
            case Instance():
                return self._without_instance(entity.guid)
            case RouteMapping(hostname, app):
                return replace(
                    self,
                    hostnames_by_app=without_member(self.hostnames_by_app, app, hostname),
                    apps_by_hostname=without_member(self.apps_by_hostname, hostname, app),
                )
            case NetworkPolicy():
                return replace(
                    self,
                    policies_by_source=without_member(
                        self.policies_by_source, entity.source, entity
                    ),
                    policies_by_destination=without_member(
                        self.policies_by_destination, entity.destination, entity
                    ),
                )
            case JoinToken():
                return replace(self, tokens=self.tokens.discard(entity.digest))
            case OperatorCertificate(serial):
                known = self.operator_certificates.discard(serial)
                return replace(self, operator_certificates=known)
            case Tombstone(guid):
                return replace(self, tombstones=self.tombstones.discard(guid))
            case DrainingPort() | DrainingCaller():
                return replace(self, draining=self.draining.discard(key_of(entity)))
            case _:
                assert_never(entity)

    def _without_key_of(self, guid: AppGuid) -> State:
        old = self.apps.get(guid)
        if old is None:
            return self
        return replace(self, guid_by_key=self.guid_by_key.discard(old.key))

    def _without_instance(self, guid: InstanceGuid) -> State:
        old = self.instances.get(guid)
        if old is None:
            return self
        addresses = self.instance_by_address
        # If two instances exchange addresses, the first one put already has the address of the
        # second.
        if addresses.get(old.address) == guid:
            addresses = addresses.discard(old.address)
        return replace(
            self,
            instances=self.instances.discard(guid),
            instance_by_address=addresses,
            instances_by_app=without_member(self.instances_by_app, old.app_guid, old, _index_of),
        )


def _index_of(instance: Instance) -> int:
    return instance.index
