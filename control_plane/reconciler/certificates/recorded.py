"""Changes, written together with the records of certificates without which they mislead.

The rule of this module: after a kill, where a name may lead follows from the routes and the records
on the disk. So no route is mapped or unmapped there before the records of its app's certificates
are; they come in the same transaction, for which nobody waits longer. Nor is an instance registered
there that has an identity without its record: nobody would know when it can come back no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from control_plane.model.change import Change
from control_plane.model.entities import Entity, Instance, RouteMapping
from control_plane.model.state import State
from control_plane.names import InstanceGuid
from control_plane.reconciler.certificates.records import Records
from control_plane.store.protocol import IssuedRecord, Store


class RecordedChanges:
    """A store that writes waiting records before they are missed; all else is the other's."""

    def __init__(self, store: Store, records: Records, state: Callable[[], State]) -> None:
        """Pass everything on to this store.

        Args:
            store: where all of it is written.
            records: those that wait to be written.
            state: returns the State before the change that is written.
        """
        self._store = store
        self._records = records
        self._state = state
        self._firsts: dict[InstanceGuid, IssuedRecord] = {}

    def note_first(self, record: IssuedRecord) -> None:
        """Write a record with its instance, should the next transaction register that."""
        self._firsts[record.instance_guid] = record

    async def load(self) -> list[Entity]:
        """Pass on."""
        return await self._store.load()

    async def commit(
        self,
        changes: Sequence[Change],
        meanwhile: Callable[[], None] | None = None,
        records: Sequence[IssuedRecord] = (),
    ) -> None:
        """Pass on, with the waiting records of the apps whose routes change, and first ones."""
        waiting = self._records.waiting_of(self._concerned(changes))
        firsts, self._firsts = self._firsts, {}
        put = (entity for change in changes for entity in change.puts)
        new = {each.guid for each in put if isinstance(each, Instance)} & firsts.keys()
        first = [firsts[each] for each in new]
        await self._store.commit(changes, meanwhile, [*waiting, *first, *records])
        self._records.written(waiting)

    async def record_issued(self, records: Sequence[IssuedRecord]) -> None:
        """Pass on."""
        await self._store.record_issued(records)

    async def issued(self) -> list[IssuedRecord]:
        """Pass on."""
        return await self._store.issued()

    async def close(self) -> None:
        """Pass on."""
        await self._store.close()

    def _concerned(self, changes: Sequence[Change]) -> Iterator[InstanceGuid]:
        """Yield the instances in whose certificates the routes are, or will be."""
        state = self._state()
        entities = (entity for change in changes for entity in (*change.puts, *change.drops))
        apps = {entity.app_guid for entity in entities if isinstance(entity, RouteMapping)}
        for app in apps:
            yield from (instance.guid for instance in state.instances_of(app))
