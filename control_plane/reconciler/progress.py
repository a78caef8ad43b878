"""How far a change has got: which instances have it, which do not, and why.

The rule of this module: nobody polls the fleet. A waiter names the instances that it waits for, and
is looked at again only when something happened to one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from control_plane.names import AppGuid, InstanceGuid


class Stage(Enum):
    """How far a change has to get before its command is answered."""

    COMMITTED = "committed"
    """It is on disk."""

    ACKED = "acked"
    """Every connected instance that it concerns ACKed all of its resources."""

    SERVED = "served"
    """A TLS handshake with each of these instances shows the new certificate."""


@dataclass(frozen=True, slots=True)
class Behind:
    """An instance that a change has not reached yet, and why not.

    Attributes:
        stopping: whether nothing else is known because the control plane stops.
    """

    instance_guid: InstanceGuid
    app_guid: AppGuid
    index: int
    stage: Stage
    reason: str
    stopping: bool = False


@dataclass(eq=False, slots=True)
class _Waiter:
    pending: set[InstanceGuid]
    also: Callable[[InstanceGuid], bool]
    done: asyncio.Future[None]


class Waiters:
    """Waits until instances are where they should be."""

    def __init__(self, arrived: Callable[[InstanceGuid], bool]) -> None:
        """Start without waits.

        Args:
            arrived: tells whether an instance is where it should be, or is gone.
        """
        self._arrived = arrived
        self._by_instance: dict[InstanceGuid, set[_Waiter]] = {}

    def note(self, instance: InstanceGuid) -> None:
        """Look again at the waits for this instance."""
        waiters = self._by_instance.get(instance)
        if not waiters or not self._arrived(instance):
            return
        there = {each for each in waiters if each.also(instance)}
        waiters -= there
        if not waiters:
            del self._by_instance[instance]
        for waiter in there:
            waiter.pending.discard(instance)
            if not waiter.pending and not waiter.done.done():
                waiter.done.set_result(None)

    async def wait(
        self,
        instances: Iterable[InstanceGuid],
        timeout: float,
        also: Callable[[InstanceGuid], bool] = lambda _: True,
    ) -> frozenset[InstanceGuid]:
        """Wait until all have arrived; return those that had not when the time was up.

        Args:
            instances: the instances to wait for.
            timeout: the longest wait in seconds.
            also: a further condition that an instance has to fulfil for this wait.
        """
        pending = {each for each in instances if not (self._arrived(each) and also(each))}
        if not pending:
            return frozenset()
        waiter = _Waiter(pending, also, asyncio.get_running_loop().create_future())
        for each in pending:
            self._by_instance.setdefault(each, set()).add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter.done
        except TimeoutError:
            return frozenset(waiter.pending)
        finally:
            self._forget(waiter)
        return frozenset()

    def _forget(self, waiter: _Waiter) -> None:
        for each in waiter.pending:
            waiters = self._by_instance.get(each)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._by_instance[each]
