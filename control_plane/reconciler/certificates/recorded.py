"""Writes changes together with the certificate records without which they would mislead.

The rule of this module: after a kill, the routes and the certificate records on disk decide where a
name may lead. So a route is not mapped or unmapped on disk before the records of its app's
certificates are there: they go into the same transaction, and nobody waits longer for it. Likewise,
an instance that has an identity is not registered on disk without the record of that identity:
otherwise nobody would know until when the instance can come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from control_plane.model.change import Change
from control_plane.model.entities import Instance, RouteMapping
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.records import Records
from control_plane.store.protocol import IssuedRecord, Writer


class RecordedChanges:
    """Writes waiting records with each change."""

    def __init__(self, store: Writer, records: Records, state: Callable[[], State]) -> None:
        """Start with no record of a new instance.

        Args:
            store: writes everything.
            records: the records that wait to be written.
            state: returns the State before the change that is written.
        """
        self._store = store
        self._records = records
        self._state = state
        self._firsts: dict[InstanceGuid, IssuedRecord] = {}

    def note_first(self, record: IssuedRecord) -> None:
        """Write this record with the next transaction, if that registers its instance."""
        self._firsts[record.instance_guid] = record

    async def commit(self, change: Change, meanwhile: Callable[[], None] | None = None) -> None:
        """Write a change, with waiting records of apps whose routes change and of new instances."""
        waiting = self._records.waiting_of(self._concerned(change))
        firsts, self._firsts = self._firsts, {}
        new = {each.guid for each in change.puts if isinstance(each, Instance)} & firsts.keys()
        first = [firsts[each] for each in new]
        await self._store.commit(change, meanwhile, [*waiting, *first])
        self._records.written(waiting)

    def _concerned(self, change: Change) -> Iterator[InstanceGuid]:
        """Yield the instances whose certificates have these routes, or will have them."""
        state = self._state()
        entities = (*change.puts, *change.drops)
        apps = {entity.app_guid for entity in entities if isinstance(entity, RouteMapping)}
        for app in apps:
            yield from (instance.guid for instance in state.instances_of(app))
