"""What operators and platforms changed: a line in the log and a fact in the feed for each.

The rule of this module: what was committed is reported entity by entity, with the revision that the
caller was told. That instances come and go is reported to the feed only, because the code that
notices it logs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import structlog

from control_plane import log_events
from control_plane.model.change import Change
from control_plane.model.entities import (
    App,
    AppKey,
    DrainingCaller,
    DrainingPort,
    Entity,
    Instance,
    InstanceStatus,
    JoinToken,
    NetworkPolicy,
    OperatorCertificate,
    RouteMapping,
    Tombstone,
)
from control_plane.model.state import State
from control_plane.names import AppGuid
from control_plane.reconciler.progress import Stage
from control_plane.server.observability.feed import Fact, Feed, Kind

_STATUS_KINDS = {
    InstanceStatus.REGISTERED: Kind.NOT_READY,
    InstanceStatus.READY: Kind.READY,
    InstanceStatus.NOT_READY: Kind.NOT_READY,
    InstanceStatus.GONE: Kind.GONE,
}


@dataclass(frozen=True, slots=True)
class _Line:
    """One thing that changed: for the feed, and for the log too unless the event is ""."""

    fact: Fact
    event: str = ""
    fields: Mapping[str, object] | None = None


class ChangeLog:
    """Reports every change; a subscriber of the registry."""

    def __init__(self, state: State, revision: Callable[[], int], feed: Feed) -> None:
        """Report everything that is committed after this State.

        Args:
            revision: returns the revision of the newest State.
        """
        self._state = state
        self._revision = revision
        self._feed = feed
        self._log = structlog.get_logger(__name__)

    def committed(self, state: State, change: Change) -> None:
        """Report a change."""
        before, self._state = self._state, state
        revision = self._revision()
        lines = [_dropped(entity, before) for entity in change.drops]
        lines += [_put(entity, before, state) for entity in change.puts]
        for line in lines:
            if line is None:
                continue
            keys = _keys_of(line.fact, before, state)
            self._feed.tell(replace(line.fact, keys=keys, revision=revision))
            if line.event:
                self._log.info(line.event, revision=revision, **(line.fields or {}))

    def reached(self, stage: Stage, revision: int, seconds: float, behind: int) -> None:
        """Report that a change has arrived everywhere, or where it has not."""
        if behind:
            late = "1 instance has" if behind == 1 else f"{behind} instances have"
            sentence = f"{late} not {stage.value} revision {revision} in time"
        elif stage is Stage.SERVED:
            sentence = f"every instance follows revision {revision}, after {seconds * 1000:.0f} ms"
        else:
            return
        self._feed.tell(Fact(kind=Kind.SETTLED, sentence=sentence, revision=revision))


def _keys_of(fact: Fact, before: State, state: State) -> Mapping[AppGuid, AppKey]:
    """Return the names of the apps of a fact, as they are or were until now."""
    guids = [each for each in (fact.app, fact.source) if each is not None]
    apps = [state.app(guid) or before.app(guid) for guid in guids]
    return {app.guid: app.key for app in apps if app is not None}


def _put(entity: Entity, before: State, state: State) -> _Line | None:
    match entity:
        case App():
            is_new = before.app(entity.guid) is None
            return _app(
                entity,
                Kind.CREATED if is_new else Kind.UPDATED,
                log_events.APP_CREATED if is_new else log_events.APP_UPDATED,
            )
        case Instance():
            return _instance(entity, before.instance(entity.guid), state)
        case RouteMapping():
            sentence = f"{entity.hostname} leads to {_name(state, entity.app_guid)}"
            return _route(entity, Kind.MAPPED, log_events.ROUTE_MAPPED, sentence)
        case NetworkPolicy():
            sentence = f"{_policy_text(state, entity)} is allowed"
            return _policy(entity, Kind.ALLOWED, log_events.POLICY_ADDED, sentence)
        case JoinToken() | OperatorCertificate() | Tombstone() | DrainingPort() | DrainingCaller():
            return None
        case _:
            assert_never(entity)


def _dropped(entity: Entity, before: State) -> _Line | None:
    match entity:
        case App():
            return _app(entity, Kind.DELETED, log_events.APP_DELETED)
        case Instance():
            fact = Fact(
                kind=Kind.REMOVED,
                sentence=f"{_instance_name(before, entity)} was removed",
                app=entity.app_guid,
                instance=entity.guid,
            )
            fields = {"instance": entity.guid, "app": entity.app_guid}
            return _Line(fact, log_events.INSTANCE_REMOVED, fields)
        case RouteMapping():
            sentence = f"{entity.hostname} leads to {_name(before, entity.app_guid)} no more"
            return _route(entity, Kind.UNMAPPED, log_events.ROUTE_UNMAPPED, sentence)
        case NetworkPolicy():
            sentence = f"{_policy_text(before, entity)} is not allowed any more"
            return _policy(entity, Kind.FORBIDDEN, log_events.POLICY_REMOVED, sentence)
        case JoinToken() | OperatorCertificate() | Tombstone() | DrainingPort() | DrainingCaller():
            return None
        case _:
            assert_never(entity)


def _app(app: App, kind: Kind, event: str) -> _Line:
    sentence = f"app {app.key.name} was {kind.value}"
    fields = {"app": app.guid, "name": app.key.name, "space": app.key.space, "org": app.key.org}
    return _Line(Fact(kind=kind, sentence=sentence, app=app.guid), event, fields)


def _instance(instance: Instance, old: Instance | None, state: State) -> _Line | None:
    name = _instance_name(state, instance)
    event = ""
    if old is None:
        kind, event = Kind.REGISTERED, log_events.INSTANCE_REGISTERED
        sentence = f"{name} was registered at {instance.address}"
    elif (old.address, old.app_address) != (instance.address, instance.app_address):
        kind, event = Kind.MOVED, log_events.INSTANCE_MOVED
        sentence = f"{name} moved from {old.address} to {instance.address}"
    elif old.status is instance.status:
        return None
    else:
        kind = _STATUS_KINDS[instance.status]
        sentence = f"{name} is {instance.status.value.replace('_', ' ')}"
    fact = Fact(
        kind=kind,
        sentence=sentence,
        app=instance.app_guid,
        instance=instance.guid,
    )
    fields = {
        "instance": instance.guid,
        "app": instance.app_guid,
        "index": instance.index,
        "address": instance.address,
    }
    return _Line(fact, event, fields)


def _route(mapping: RouteMapping, kind: Kind, event: str, sentence: str) -> _Line:
    fact = Fact(kind=kind, sentence=sentence, app=mapping.app_guid)
    return _Line(fact, event, {"app": mapping.app_guid, "name": mapping.hostname})


def _policy(policy: NetworkPolicy, kind: Kind, event: str, sentence: str) -> _Line:
    fact = Fact(
        kind=kind,
        sentence=sentence,
        app=policy.destination,
        source=policy.source,
    )
    fields = {
        "source": policy.source,
        "destination": policy.destination,
        "protocol": policy.transport.value,
        "ports": [policy.start_port, policy.end_port],
    }
    return _Line(fact, event, fields)


def _policy_text(state: State, policy: NetworkPolicy) -> str:
    ports = (
        f"{policy.start_port}"
        if policy.start_port == policy.end_port
        else f"{policy.start_port}-{policy.end_port}"
    )
    source, destination = state.app(policy.source), state.app(policy.destination)
    who = _name(state, policy.source)
    if source is not None and destination is not None:
        who = source.key.named_in(destination.key.place)
    return f"{policy.transport.value} {ports} from {who} to {_name(state, policy.destination)}"


def _name(state: State, guid: AppGuid) -> str:
    app = state.app(guid)
    return app.key.name if app is not None else guid


def _instance_name(state: State, instance: Instance) -> str:
    return f"{_name(state, instance.app_guid)}/{instance.index}"
